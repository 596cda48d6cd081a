"""The version numbers of dictionaries tell whether these have changed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dfz_ray.worker.dict_versions import ARE_FOUND, DictVersions

a: Any = None


def set_own(value: Any) -> None:
    """Set a global variable of whatever module has this code."""
    global a  # noqa: PLW0603
    a = value


VALUES = [object() for _ in range(3)]
names = st.sampled_from("abcd")
CHANGES: dict[str, Callable[[ModuleType, str, Any], object]] = {
    "set": setattr,
    "set in the dictionary": lambda module, name, value: vars(module).__setitem__(name, value),
    "update": lambda module, name, value: vars(module).update({name: value}),
    "set by its own code": lambda module, name, value: FunctionType(set_own.__code__, vars(module))(value),
    "delete": lambda module, name, value: vars(module).pop(name, None),
    "set a default": lambda module, name, value: vars(module).setdefault(name, value),
    "clear": lambda module, name, value: vars(module).clear(),
    "read": lambda module, name, value: vars(module).get(name),
}


def may_have_changed(before: list[int], after: list[int]) -> bool:
    return not after or before != after


@given(st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), names, st.sampled_from(VALUES)), max_size=30))
def test_no_change_of_a_module_is_overlooked(changes: list[tuple[str, str, Any]]) -> None:
    """Whatever changes the content of a module changes its number."""
    module = ModuleType("module")
    versions = DictVersions((vars(module), vars(math)))
    for how, name, value in changes:
        before, content = versions.read(), list(vars(module).items())
        CHANGES[how](module, name, value)
        assert may_have_changed(before, versions.read()) or list(vars(module).items()) == content


def test_no_change_of_a_class_is_overlooked() -> None:
    """A method that is set, replaced or deleted changes its class's number; to call one, or make objects, does not."""

    class Some:
        def method(self) -> int:
            self.value = 1
            return self.value

    versions = DictVersions((vars(Some),))
    before = versions.read()
    assert Some().method() == 1
    assert versions.read() == before
    for change in (
        lambda: setattr(Some, "method", lambda self: 2),
        lambda: setattr(Some, "other", len),
        lambda: delattr(Some, "other"),
    ):
        before = versions.read()
        change()
        assert may_have_changed(before, versions.read())


def test_the_numbers_are_found_where_python_has_them() -> None:
    """Python 3.11 and 3.12 have them; elsewhere there is nothing to read."""
    assert (sys.version_info < (3, 13)) == ARE_FOUND == bool(DictVersions((vars(math),)).read())
