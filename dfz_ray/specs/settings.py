"""The settings of a run and of a study, and the file that explains them.

`python -m dfz_ray.specs.settings > configs/default.yaml` writes that file anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.data_file import read_data
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.policy import TIMEOUT_LIMIT_S, Policy
from dfz_ray.specs.problems import find_problems, show, show_name
from dfz_ray.specs.resources import Resources

AUTO: Final = "auto"
"""In the place of a number of workers: as many as pay."""
WORKERS_LIMIT = 1_000_000
MaxWorkers = int | Literal["auto"] | None


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ChunkingSettings(_Section):
    """How many tasks a worker gets at once. The defaults suit tasks of microseconds to hours."""

    target_s: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        None,
        description="A chunk aims at this much work, in seconds (at more if the manager would be too busy). null means "
        "0.4, or 0.2 where the program waits for single results, as with `submit` and a DFZExecutor, and with auto "
        "workers.",
    )
    lease_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        2.0,
        description="A worker is kept as long as there is work for it. After so many seconds it is given back to Ray "
        "if another run, program or sort of task waits for its place.",
    )
    relay_leases: Annotated[int, Field(ge=1)] | None = Field(
        32,
        description="On a node with at least so many workers a relay, a small process, gathers their reports: the "
        "manager can serve ten times as many workers. Nodes with fewer share one if they have as many together. null: "
        "nowhere.",
    )


class JournalSettings(_Section):
    """How a run is recorded."""

    runs_folder: str = Field("runs", description="The folder for run folders that the command line names itself.")
    inline_result_bytes: Annotated[int, Field(ge=0, le=2**30)] = Field(
        262_144, description="Results of more bytes become files beside the journal."
    )
    durable: bool = Field(
        True,
        description="Whether a commit waits until it is on the disk (fsync). false is a little faster, but a power "
        "failure may lose results that were reported.",
    )


class FaultSettings(_Section):
    """Deadlines, preemption, and losses of nodes."""

    grace_s: float = Field(
        1.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="After a deadline or a cancellation a task has so many seconds to end by itself before its "
        "worker is killed.",
    )
    preempt_after_s: float | None = Field(
        5.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="A task that has waited so many seconds behind preemptible ones of a lower priority takes the slot "
        "of one of them; null means never.",
    )
    free_losses: int = Field(
        5, ge=0, le=1000, description="The number of losses of its node that cost a task no attempt."
    )
    node_wait_s: float | None = Field(
        None,
        ge=0,
        le=TIMEOUT_LIMIT_S,
        allow_inf_nan=False,
        description="How many seconds tasks that no node can hold wait for such a node; null means 600 if Ray's "
        "autoscaler runs, and else not at all.",
    )


class PoolSettings(_Section):
    """The bounds of the number of slots with max_workers auto."""

    least: Annotated[int, Field(ge=1, le=WORKERS_LIMIT)] = Field(
        1, description="With max_workers auto: never fewer slots than this."
    )
    most: Annotated[int, Field(ge=1, le=WORKERS_LIMIT)] | None = Field(
        None, description="With max_workers auto: never more slots than this; null means as many as the cluster holds."
    )


class StudySettings(_Section):
    """How a scaling study measures."""

    repeats: Annotated[int | None, Field(ge=1, le=1000)] = Field(
        None,
        description="How often the baseline and every worker count are measured; null: 4 to 15 times, until the "
        "speedup is known well enough.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="Seed of the study's batch and of the order of its trials."
    )


def check_max_workers(value: Any, where: str = "max_workers") -> MaxWorkers:
    """The number of workers that a user gives (maybe one of NumPy's), `auto`, or None; else raises InvalidInput."""
    try:
        return _validate_max_workers(plain(value))
    except ValueError as error:
        raise InvalidInput([Problem(where, show(value), str(error))], where) from None


def _validate_max_workers(value: Any) -> MaxWorkers:
    """The check itself. For a union, pydantic would report a problem for each member."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= WORKERS_LIMIT
    if value is None or value == AUTO or is_number:
        return value  # type: ignore[no-any-return]
    raise ValueError(f"a whole number from 1 to {WORKERS_LIMIT}, or {AUTO}")


class Settings(_Section):
    """Everything that can be set in a configuration file."""

    max_workers: Annotated[MaxWorkers, BeforeValidator(_validate_max_workers)] = Field(
        None,
        description="How many tasks may execute at once: a number; auto, which moves it by what pays; or null, as many "
        "as the cluster holds.",
    )
    address: str | None = Field(
        None,
        description="Which Ray: an address, auto, or local (an embedded one); null looks for one and else embeds it.",
    )
    resources: Resources = Field(
        Resources(), description="The resources of a task, as far as neither it, its batch nor its domain gives them."
    )
    policy: Policy = Field(Policy(), description="The policy of a task, as far as neither it nor its batch gives one.")
    faults: FaultSettings = Field(FaultSettings(), description="Deadlines, preemption, and losses of nodes.")
    chunking: ChunkingSettings = Field(ChunkingSettings(), description="How tasks are handed to workers.")
    pool: PoolSettings = Field(PoolSettings(), description="The bounds of the number of slots with max_workers auto.")
    journal: JournalSettings = Field(JournalSettings(), description="How a run is recorded.")
    study: StudySettings = Field(StudySettings(), description="How a scaling study measures.")


def read_settings(source: str | Path | Mapping[str, Any] | None) -> Settings:
    """The settings of a configuration file or a dict; for None the defaults. Raises InvalidInput with every problem."""
    if source is None:
        return Settings()
    if not isinstance(source, (str, Path, Mapping)):
        raise InvalidInput([Problem("settings", show(source), "a mapping, or the path of a file")], "settings")
    label = "settings" if isinstance(source, Mapping) else show_name(str(source))
    data = plain(source) if isinstance(source, Mapping) else read_data(Path(source))
    if not isinstance(data, dict):
        raise InvalidInput([Problem("settings", show(data), "a mapping")], label)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(find_problems(error, Settings, "settings"), label) from None


def render_settings() -> str:
    """The text of configs/default.yaml: every key with its default and its meaning."""
    lines = [
        "# The settings of dfz_ray, with their defaults. Give a file like this one, or a part of it, with --config.",
        "# An argument wins over a task, a task over its batch's `defaults`, those over the domain, and this file",
        "# comes last. Written by: python -m dfz_ray.specs.settings",
    ]
    _render(Settings(), lines, "")
    return "\n".join(lines) + "\n"


def _render(section: BaseModel, lines: list[str], indent: str) -> None:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        comment = field.description or ""
        if not indent:
            lines.append("")
        lines.extend(textwrap.wrap(comment, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "))
        if isinstance(value, BaseModel):
            lines.append(f"{indent}{name}:")
            _render(value, lines, indent + "  ")
        else:
            shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            lines.append(f"{indent}{name}: {shown}")


if __name__ == "__main__":
    print(render_settings(), end="")
