"""Arrays that tasks share: what may be shared, and the way there and back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfz_ray import InvalidInput
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.shared_arrays import check_shared, read_array, write_array

TYPES = ["?", "i1", "<i8", ">i4", "u2", "f2", "<f8", ">f8", "c16", "S0", "S5", "U3", "m8[ns]", "M8[D]"]


def there_and_back(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    write_array(array, file)
    return read_array(memoryview(file.getvalue()))


@given(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=4), st.sampled_from(["C", "F", "2"]), st.data())
def test_an_array_arrives_as_it_was(kind: str, shape: list[int], order: str, data: st.DataObject) -> None:
    """Type, byte order, shape, the order in memory and every value; an empty one, too."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    flat = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8) % 2
    array = np.zeros(shape, kind) if not size else flat.view(kind).reshape(shape)
    array = (
        np.asfortranarray(array) if order == "F" else array[..., ::2] if order == "every second" and shape else array
    )

    again = there_and_back(array)

    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()
    assert again.flags.f_contiguous == (array.flags.f_contiguous or (again.flags.c_contiguous and again.ndim < 2))
    assert not again.flags.writeable


def test_it_is_the_memory_that_was_sent() -> None:
    """Reading copies nothing, and nothing that a task does to the array changes what the others see."""
    file = io.BytesIO()
    write_array(np.arange(1000.0), file)
    content = bytearray(file.getvalue())

    again = read_array(memoryview(content))
    content[-8:] = np.float64(7.5).tobytes()

    assert again[-1] == 7.5
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        read_array(bytes(content)).flags.writeable = True


@pytest.mark.parametrize(
    ("shared", "problem"),
    [
        ([1, 2], "shared: found [1, 2]; expected arrays by name, such as {'x': x}"),
        ({"x": [1, 2]}, "shared['x']: found a value of the type list; expected an array of NumPy: of numbers,"),
        ({"x": np.array([None])}, "shared['x']: found an array of the type object; expected an array of NumPy"),
        ({"x": np.zeros(2, [("a", "i4"), ("b", object)])}, "shared['x']: found an array of the type [('a', '<i4'"),
        (
            {"x": np.ma.array([1.0], mask=[True])},
            "shared['x']: found a value of the type MaskedArray; expected an",
        ),
        ({7: np.zeros(2)}, "shared[7]: found 7; expected as its name a text of 1 to 200 characters"),
        ({"": np.zeros(2)}, "shared['']: found ''; expected as its name a text of 1 to 200 characters"),
        ({"\ud800": np.zeros(2)}, "expected as its name a text of 1 to 200 characters"),
        ({"x" * 201: np.zeros(2)}, "expected as its name a text of 1 to 200 characters"),
    ],
)
def test_what_can_not_be_shared(shared: Any, problem: str) -> None:
    """Anything else is refused before the run begins: the message names it, and says what is expected."""
    with pytest.raises(InvalidInput) as caught:
        RunConfig.of(shared=shared)

    assert problem in str(caught.value)


def test_all_problems_at_once() -> None:
    """A program that shares several wrong things hears of all of them."""
    with pytest.raises(InvalidInput) as caught:
        check_shared({"x": 1, "y": np.zeros(2), "z": "text"})

    assert [problem.where for problem in caught.value.problems] == ["shared['x']", "shared['z']"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x03\x00", b"text", b"\x93NUMPY\x01\x00\x05\x00abc"])
def test_what_is_no_array(content: bytes) -> None:
    """Bytes that are no array are a ValueError, and never anything else."""
    with pytest.raises(ValueError):  # noqa: PT011 - NumPy words most of them
        read_array(content)


def test_objects_are_never_read() -> None:
    """A file of objects, which NumPy would unpickle, is refused by its header."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([{"a": 1}]), allow_pickle=True)

    with pytest.raises(ValueError, match="an array of the type object, which is never shared"):
        read_array(file.getvalue())
