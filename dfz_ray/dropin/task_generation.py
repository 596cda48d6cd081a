"""Draws valid tasks of a domain."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Mapping
from typing import Any

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.old_tasks import OldTasks, read_old_tasks
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.problems import show
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.task import SEED_LIMIT


def draw_tasks(
    domain: str, count: int, parameters: Mapping[str, Any] | None, seed: int | None, settings: Settings
) -> tuple[list[dict[str, Any]], OldTasks]:
    """Tasks of a domain, with an id, a description, and parameters with a seed; and the same tasks, checked.

    The domain draws the parameters that are not given if it can, or has defaults for them. Equal seeds draw equal
    parameters; None draws others each time.

    Raises:
        InvalidInput: the domain is not known, the count or the seed is no number, or a parameter is wrong.
    """
    number = plain(count)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidInput([Problem("count", show(count), "a whole number of at least 0")], "generate_tasks")
    start = plain(seed)
    if start is not None and not isinstance(start, (int, float, str, bytes)):
        raise InvalidInput([Problem("seed", show(seed), "a whole number, or None")], "generate_tasks")
    rng = random.Random(start)  # noqa: S311 - no secret is drawn
    given = plain(dict(parameters or {}))
    found = REGISTRY.find(domain) if isinstance(domain, str) else None
    tasks = []
    for position in range(number):
        drawn = dict(given)
        if found is not None and found.draw is not None:
            own = {key: value for key, value in given.items() if key in found.parameters.model_fields}
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a parameter is wrong; the check below says how
                drawn = {**found.draw(rng, own), **given}
        tasks.append(
            {
                "id": f"{domain}-{uuid.uuid4().hex[:12]}",
                "domain": domain,
                "description": f"{str(domain).replace('_', ' ').capitalize()} task {position + 1} of {number}",
                "parameters": {"seed": rng.randrange(SEED_LIMIT), **drawn},
            }
        )
    read = read_old_tasks(tasks, settings)
    wrong = next((one.error for one in read.tasks if one.error is not None), None)
    if isinstance(wrong, InvalidInput):
        raise InvalidInput(wrong.problems, "generate_tasks")  # the id of a task that nobody gets says nothing
    if wrong is not None:
        raise wrong
    return tasks, read
