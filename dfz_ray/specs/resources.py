"""What one task needs while it runs."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def size_bytes(value: Any) -> Any:
    """Read a size such as `2GiB`; anything that is no text passes unchanged.

    Raises:
        ValueError: a text that is no size.
    """
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError("bytes, or a text such as 512MiB or 2GiB")
    return int(float(match[1]) * UNITS[match[2].upper()])


class Resources(BaseModel):
    """What one task needs while it runs; Ray calls it a resource request, we call it the task's shape."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cpus: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = Field(
        1.0, description="Logical CPUs; also the thread budget of the task, max(1, floor(cpus))."
    )
    gpus: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = Field(
        0.0, description="GPUs; a fraction shares one."
    )
    memory: Annotated[Annotated[int, Field(ge=1, le=2**60)] | None, BeforeValidator(size_bytes)] = Field(
        None, description="Bytes, or a text such as 2GiB; null asks for no reservation."
    )
    custom: dict[str, Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]] = Field(
        {}, description="Custom Ray resources by name."
    )

    @property
    def threads(self) -> int:
        """How many threads a task may use."""
        return max(1, int(self.cpus))

    def key(self) -> tuple[Any, ...]:
        """Equal shapes have equal keys."""
        return (self.cpus, self.gpus, self.memory, tuple(sorted(self.custom.items())))

    def describe(self) -> str:
        """The shape in a few words, e.g. `2 CPUs, 1 GPU`."""
        parts = [f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"]
        if self.gpus:
            parts.append(f"{self.gpus:g} GPU{'s' if self.gpus != 1 else ''}")
        if self.memory:
            parts.append(f"{self.memory / 2**20:.0f} MiB")
        parts.extend(f"{amount:g} {name}" for name, amount in sorted(self.custom.items()))
        return ", ".join(parts)
