"""Tells whether dictionaries have changed between two looks, without looking at what they hold.

CPython 3.11 and 3.12 give a dictionary a new number whenever it changes, which no other change ever gets (PEP 509). To
read some hundred of these numbers takes a tenth of the time of comparing two thousand functions, which touches each of
them. Python has no function for that, so this reads the dictionary's memory. Where the numbers are not found there, as
from Python 3.13 on, there is nothing to read, and whoever asks compares.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

_HEAD = 2 * ctypes.sizeof(ctypes.c_void_p)
"""The size of what each object begins with: the number of its references, and its type."""
_VERSION = _HEAD + ctypes.sizeof(ctypes.c_ssize_t)
"""The place of a dictionary's number: after the count of its entries."""
_read_number = ctypes.c_uint64.from_address


class DictVersions:
    """The numbers of some dictionaries: `spaces` are these, or what `vars` returns of modules and classes."""

    def __init__(self, spaces: Sequence[Mapping[str, Any]]) -> None:
        self._spaces = spaces  # else the memory might be another object's one day
        self._numbers = [_read_number(_find_address(space) + _VERSION) for space in spaces] if ARE_FOUND else []

    def read(self) -> list[int]:
        """The numbers now: if they are those of another look, nothing has changed since. Empty if there are none."""
        return [number.value for number in self._numbers]


def _find_address(space: Mapping[str, Any]) -> int:
    if isinstance(space, MappingProxyType):
        return int(ctypes.c_size_t.from_address(id(space) + _HEAD).value)
    return id(space)


def _are_found() -> bool:
    """Try it with a dictionary: each change makes another, higher number, and nothing else does."""
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 13):
        return False
    tried: dict[str, object] = {"first": object()}
    if _find_address(MappingProxyType(tried)) != id(tried):
        return False
    number = _read_number(id(tried) + _VERSION)
    changes: list[Callable[[], object]] = [
        lambda: tried.update(first=object()),
        lambda: tried.update(second=object()),
        lambda: tried.pop("first"),
        tried.clear,
    ]
    for change in changes:
        before = number.value
        tried.get("second")
        if number.value != before:
            return False
        change()
        if number.value <= before:
            return False
    return True


ARE_FOUND = _are_found()
"""True if this Python has such numbers where they are expected."""
