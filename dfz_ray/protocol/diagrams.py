"""The diagrams of the two tables, drawn from them: `python -m dfz_ray.protocol.diagrams` prints both."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from dfz_ray.engine import lifecycle
from dfz_ray.protocol import lease_protocol
from dfz_ray.protocol.lease_protocol import LeaseState
from dfz_ray.specs.states import FINAL, State

S = TypeVar("S", bound=IntEnum)
M = TypeVar("M", bound=IntEnum)


def draw(transitions: Mapping[tuple[S, M], S], first: S, final: frozenset[S]) -> str:
    """A table of transitions as a Mermaid state diagram."""
    labels: dict[tuple[S, S], list[str]] = {}
    for (state, message), following in transitions.items():
        labels.setdefault((state, following), []).append(message.name.lower().replace("_", " "))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    lines += [f"    {one.name} --> {other.name}: {' or '.join(names)}" for (one, other), names in labels.items()]
    lines += [f"    {state.name} --> [*]" for state in sorted(final)]
    return "\n".join([*lines, "```"])


def draw_states() -> str:
    """The states of a task, and what leads from one to another."""
    return draw(lifecycle.TRANSITIONS, State.PENDING, FINAL)


def draw_lease_protocol() -> str:
    """The states of a lease, and the messages that lead from one to another."""
    return draw(lease_protocol.TRANSITIONS, LeaseState.STARTING, frozenset({LeaseState.OVER}))


BLOCKS = {"states": draw_states, "lease protocol": draw_lease_protocol}
"""The blocks of ARCHITECTURE.md that are generated, by the names of their markers."""


def main() -> None:
    """Print all blocks with their markers."""
    for name, draw_block in BLOCKS.items():
        print(f"<!-- {name} -->\n{draw_block()}\n<!-- /{name} -->\n")


if __name__ == "__main__":
    main()
