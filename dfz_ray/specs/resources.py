"""The resources that one task needs while it runs."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([A-Za-z]*)\s*", re.ASCII)
SMALLEST_AMOUNT = 0.0001
"""Ray counts resources in this unit."""
RESERVED = ("CPU", "GPU", "memory", "object_store_memory", "bundle")
"""Names of Ray's own resources, which no custom resource may have."""


def size_bytes(value: Any) -> Any:
    """Read a size such as `2GiB`. Values other than texts are returned unchanged; other texts raise ValueError."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError("bytes, or a text such as 512MiB or 2GiB")
    return int(Decimal(match[1]) * UNITS[match[2].upper()])


def _can_be_counted(amount: float) -> float:
    if 0 < amount < SMALLEST_AMOUNT:
        raise ValueError(f"0, or at least {SMALLEST_AMOUNT}")
    return amount


def _whole_beyond_one(amount: float) -> float:
    if amount > 1 and not amount.is_integer():
        raise ValueError("a share of one GPU, or a whole number of them")
    return amount


def _custom_name(name: str) -> str:
    if not name or not name.isprintable() or name in RESERVED:
        raise ValueError(f"a printable name that is none of {', '.join(RESERVED)}")
    return name


Amount = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False), AfterValidator(_can_be_counted)]


class Resources(BaseModel):
    """The resources that one task needs while it runs: the task's shape, in Ray's words a resource request."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cpus: Amount = Field(1.0, description="Logical CPUs; also the thread budget of the task, max(1, floor(cpus)).")
    gpus: Annotated[Amount, AfterValidator(_whole_beyond_one)] = Field(0.0, description="GPUs; a fraction shares one.")
    memory: Annotated[Annotated[int, Field(ge=1, le=2**60)] | None, BeforeValidator(size_bytes)] = Field(
        None, description="Bytes, or a text such as 2GiB; null asks for no reservation."
    )
    custom: dict[
        Annotated[str, AfterValidator(_custom_name)],
        Annotated[float, Field(ge=SMALLEST_AMOUNT, le=1e9, allow_inf_nan=False)],
    ] = Field({}, description="Custom Ray resources by name.")

    @property
    def threads(self) -> int:
        """The thread budget of a task."""
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
