"""Running one task in this process."""

from __future__ import annotations

import time

from dfz_ray.domains.execution import Work, execute_chunk, thread_budget
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.old_tasks import OldTask
from dfz_ray.dropin.preloading import preload
from dfz_ray.dropin.records import Answer, answer
from dfz_ray.dropin.submitted_task import Trouble
from dfz_ray.errors import DfzError
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.input_file import FileShelf


def execute_here(task: OldTask) -> Answer:
    """Run a task with the function that the workers run, and tell of it; a task that fails raises nothing."""
    begun = time.time()
    checked = task.checked
    if checked is None:
        return answer(task.label, begun, time.time(), error=task.problem)
    domain, threads = REGISTRY.get(checked.domain), checked.resources.threads
    shelf = FileShelf(contents=dict(task.files))
    try:
        for module in domain.libraries:
            preload(module)
        domain.load()  # as on a worker: importing is nobody's task
    except (DfzError, ImportError) as error:
        return answer(task.label, begun, time.time(), error=f"the domain can't be loaded: {error}")
    with thread_budget(threads):
        (done,) = execute_chunk(domain, [Work(0, checked.seed, checked.parameters)], threads, shelf)
    if done.failure is not None:
        trouble = Trouble(done.failure.reason, done.failure.message)
        return answer(task.label, done.began_at, done.ended_at, error=str(trouble))
    return answer(task.label, done.began_at, done.ended_at, None if done.result is None else decode(done.result))
