"""Arrays that many tasks share: checked in the driver, sent as the bytes of a .npy file, read in a task.

numpy.lib.format describes the bytes. They hold numbers, never objects, so that nothing has to be unpickled.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import show

if TYPE_CHECKING:
    import numpy as np

NAME_CHARACTERS = 200
KINDS = "biufcSUmM"
"""The kinds of NumPy's types that hold neither objects nor fields."""
_HEADER_BYTES = 2**17
"""More than the header of an array of such a type has."""
_EXPECTED = "an array of NumPy: of numbers, texts or dates, not of objects"


def check_shared(shared: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that a user shares, by name.

    Raises:
        InvalidInput: with every problem.
    """
    import numpy as np

    if shared is None:
        return {}
    if not isinstance(shared, Mapping):
        raise InvalidInput([Problem("shared", show(shared), "arrays by name, such as {'x': x}")], "the arguments")
    problems = []
    for name, array in shared.items():
        where = f"shared[{show(name)}]"
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_CHARACTERS:
            problems.append(Problem(where, show(name), f"as its name a text of 1 to {NAME_CHARACTERS} characters"))
        elif type(array) not in (np.ndarray, np.memmap):  # a mask, or a unit, would be lost from view
            problems.append(Problem(where, f"a value of the type {type(array).__name__}", _EXPECTED))
        elif array.dtype.kind not in KINDS:
            problems.append(Problem(where, f"an array of the type {array.dtype}", _EXPECTED))
    if problems:
        raise InvalidInput(problems, "the arguments")
    return {name: np.asarray(array) for name, array in shared.items()}


def write_array(array: np.ndarray[Any, Any], file: BinaryIO) -> None:
    """Write an array, piece by piece."""
    import numpy as np

    np.lib.format.write_array(file, array, allow_pickle=False)


def read_array(content: bytes | memoryview) -> np.ndarray[Any, Any]:
    """The array, without a copy of it; it can't be written to.

    Raises:
        ValueError: the bytes are none of an array.
    """
    import numpy as np

    head = io.BytesIO(content[:_HEADER_BYTES])
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(np.lib.format.read_magic(head))
    if read_header is None:
        raise ValueError("an array in a version of .npy files that is not known here")
    shape, is_fortran, dtype = read_header(head)
    if dtype.kind not in KINDS:
        raise ValueError(f"an array of the type {dtype}, which is never shared")
    order: Any = "F" if is_fortran else "C"
    if 0 in shape or not dtype.itemsize:  # NumPy makes no array of no bytes
        array = np.empty(shape, dtype, order)
    else:
        array = np.frombuffer(content, np.uint8, offset=head.tell()).view(dtype).reshape(shape, order=order)
    array.flags.writeable = False
    return array
