"""Functions and arguments travel to workers, which can't import what belongs to a script."""

from __future__ import annotations

import functools
import pickle
import threading
from typing import Any

import pytest

from dfz_ray.driver.pickling import dumps


def travel(value: Any) -> Any:
    """The value as a worker gets it."""
    return pickle.loads(dumps(value))  # noqa: S301 - our own


@functools.lru_cache
def importable(number: int) -> int:
    """It has a cache, and any process finds it by its name."""
    return number


@functools.singledispatch
def dispatching(value: object) -> object:
    """Any process finds it by its name."""
    return value


def test_a_function_with_a_cache_that_can_not_be_imported() -> None:
    """It travels by value, with an empty cache of the same size, also if it calls itself or another one calls it."""

    @functools.lru_cache(maxsize=50, typed=True)
    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(40) == 102334155
    again = travel(fibonacci)
    assert again.cache_info().currsize == 0
    assert again(40) == 102334155
    assert again.cache_info().currsize == 41
    assert again.cache_parameters() == {"maxsize": 50, "typed": True}
    assert travel(lambda: fibonacci(30))() == 832040


def test_a_method_with_a_cache_that_can_not_be_imported() -> None:
    """A class that travels by value takes its methods with a cache along."""

    class Square:
        @functools.cache  # noqa: B019 - as users write it
        def of(self, number: int) -> int:
            return number * number

    assert travel(Square()).of(4) == 16


def test_a_function_with_a_cache_that_can_be_imported() -> None:
    """It travels as its name, so that a worker's cache stays from call to call."""
    assert travel(importable) is importable


def test_a_function_of_singledispatch_that_can_not_be_imported() -> None:
    """It travels by value with all that it dispatches to, also if these call it; so do methods of a class."""

    @functools.singledispatch
    def show(value: object) -> str:
        return "something"

    @show.register
    def _(value: int) -> str:
        return f"number, {show(str(value))}"

    @show.register(str)
    def _(value: str) -> str:
        return "text"

    class Shown:
        @functools.singledispatchmethod
        def of(self, value: object) -> str:
            return "something"

        @of.register
        def _(self, value: int) -> str:
            return "number"

    show.unit = "s"  # type: ignore[attr-defined]

    again = travel(show)
    assert [again(value) for value in (1, "1", 1.0)] == ["number, text", "text", "something"]
    assert (again.__name__, again.unit) == ("show", "s")
    assert travel(lambda: show(1))() == "number, text"
    assert [travel(Shown()).of(value) for value in (1, "1")] == ["number", "something"]


def test_a_function_of_singledispatch_that_can_be_imported() -> None:
    """It travels as its name."""
    assert travel(dispatching) is dispatching


def test_a_class_with_a_cached_property_that_can_not_be_imported() -> None:
    """It travels by value, with a property that keeps its value under its own name."""

    class Sized:
        @functools.cached_property
        def size(self) -> list[int]:
            """The size."""
            return [1]

    again = travel(Sized)()
    assert again.size is again.size
    assert (vars(again), type(again).size.__doc__) == ({"size": [1]}, "The size.")


def test_a_function_that_refers_to_a_lock() -> None:
    """The error of pickle names a type; a note says what to do about a script's variable."""
    lock = threading.Lock()

    with pytest.raises(TypeError, match="cannot pickle '_thread") as caught:
        dumps(lambda: lock)
    assert "in a module that workers can import" in caught.value.__notes__[0]
