"""Reads the parameters of a task: from bytes to the object that its domain computes with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from dfz_ray.domains.domain import Domain
from dfz_ray.specs.encoding import SCALARS, decode
from dfz_ray.specs.input_file import FileShelf


class ParametersReader:
    """Reads parameters once for tasks in a row that have equal ones, as repetitions with other seeds do.

    They share one object only where no task can change it.
    """

    def __init__(self, domain: Domain, shelf: FileShelf) -> None:
        self._read = domain.read
        # As model_validate, which a task may have replaced.
        self._validate = domain.parameters.__pydantic_validator__.validate_python
        self._shelf = shelf
        self._is_frozen = domain.parameters.model_config.get("frozen", False)
        self._last: tuple[bytes, BaseModel] | None = None

    def read(self, packed: bytes) -> Any:
        """The parameters, checked: of the domain's type, or whatever its own `read` returns.

        Raises:
            ValidationError: the domain does not take them.
        """
        if self._read is not None:
            return self._read(packed, self._shelf)
        if self._last is not None and self._last[0] == packed:
            return self._last[1]
        parameters = self._validate(decode(packed), context=self._shelf)
        values = parameters.__dict__.values()
        is_plain = not (parameters.model_extra or parameters.__pydantic_private__)
        can_share = is_plain and self._is_frozen and SCALARS.issuperset(map(type, values))
        self._last = (packed, parameters) if can_share else None
        return parameters
