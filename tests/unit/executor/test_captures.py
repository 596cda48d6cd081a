"""What a function refers to is, in each call, as it is in the driver at that time."""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ray import cloudpickle

from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.executor.call_packing import CallPacker
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN, read_result
from dfz_ray.specs.input_file import FileShelf


class Caller:
    """Calls as a driver that packs and one worker that keeps the functions."""

    def __init__(self) -> None:
        self.packer = CallPacker()

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        self.packer.pack(function, args, {})  # what is called first may travel otherwise than what is called again
        packed = self.packer.pack(function, args, {})
        shelf = FileShelf(contents={packed.function.sha256: packed.function.content} if packed.function else {})
        (done,) = execute_chunk(FUNCTION_DOMAIN, [Work(0, 0, packed.parameters)], 1, shelf)
        assert done.failure is None, done.failure
        return read_result(done.result or b"")

    def content_of(self, function: Callable[..., Any]) -> bytes:
        """What travels; cloudpickle takes classes from this very process, so in it a call would see any change."""
        return self.packer.pack_function(function).content

    def is_pickled_once(self, function: Callable[..., Any]) -> bool:
        """Whether a later call finds the function that an earlier one has made."""
        first = self.packer.pack_function(function)
        return first.is_fixed and self.packer.pack_function(function) is first


@pytest.fixture
def call() -> Caller:
    """A driver, and a worker."""
    return Caller()


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module that can be imported, with a function `rate`."""
    made = types.ModuleType("dfz_ray_made_for_a_test")
    exec("step = 1\ndef rate(): return step", vars(made))  # noqa: S102
    sys.modules[made.__name__] = made
    yield made
    sys.modules.pop(made.__name__, None)


def run_script(text: str) -> dict[str, Any]:
    """The names of a script."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(text, names)  # noqa: S102
    return names


def test_a_method_of_a_dictionary_sees_what_the_dictionary_holds_now(call: Caller) -> None:
    """`prices.get`, called itself or from a function, gives what the dictionary of the driver holds at the call."""
    prices = {"a": 1}
    get, contains = prices.get, prices.__contains__

    assert [call(get, "a"), call(lambda: get("a")), call(contains, "b")] == [1, 1, False]
    prices.update(a=2, b=3)
    assert [call(get, "a"), call(lambda: get("a")), call(contains, "b")] == [2, 2, True]


def test_a_method_of_a_list_or_generator_keeps_nothing_from_another_call(call: Caller) -> None:
    """What a call appends to a list, or draws from a generator of random numbers, no other call sees."""
    seen: list[int] = []
    append, draw = seen.append, random.Random(0).random  # noqa: S311 - no secret
    first = random.Random(0).random()  # noqa: S311 - no secret

    def remember(x: int) -> int:
        append(x)
        return len(append.__self__)  # type: ignore[attr-defined]

    assert [call(remember, 1), call(remember, 1)] == [1, 1]
    assert call(draw) == call(draw) == first
    draw()
    assert call(draw) != first


@pytest.mark.parametrize("function", [len, dict.fromkeys, "a".join, (5).__add__, sys.intern, int.from_bytes])
def test_built_in_functions_that_can_not_change_are_pickled_once(call: Caller, function: Callable[..., Any]) -> None:
    """A function of a built-in module, a method of a built-in type or of an immutable value is pickled once."""
    assert call.is_pickled_once(function)
    assert call.is_pickled_once(lambda: function)


def test_a_new_name_in_a_class_is_seen(call: Caller) -> None:
    """An attribute that a class of the script inherits, and is then given itself, is its own one in the next call."""
    names = run_script("class A:\n    rate = 1\nclass B(A): pass\ndef f(): return B.rate")

    before = call.content_of(names["f"])
    assert call.content_of(names["f"]) is before
    names["B"].rate = 2
    assert call.content_of(names["f"]) != before


def test_another_base_of_a_class_is_seen(call: Caller) -> None:
    """A class that was given another base is the new one in the next call."""
    names = run_script("class A:\n    rate = 1\nclass C:\n    rate = 3\nclass B(A): pass\ndef f(): return B.rate")

    before = call.content_of(names["f"])
    names["B"].__bases__ = (names["C"],)
    assert call.content_of(names["f"]) != before


def test_a_new_attribute_of_a_function_is_seen(call: Caller) -> None:
    """An attribute that a function gets after its first call is there in the next one, also by another `__dict__`."""
    names = run_script("def g(): pass\ndef f(): return getattr(g, 'rate', None)")

    assert call(names["f"]) is None
    names["g"].rate = 2
    assert call(names["f"]) == 2
    names["g"].__dict__ = {"rate": 3}
    assert call(names["f"]) == 3


def test_a_new_keyword_is_seen(call: Caller) -> None:
    """A default, or a keyword of a partial, that was not there at the first call is there in the next one."""
    names = run_script("def f(x, *, more=5): return x + more")
    function = names["f"]
    function.__kwdefaults__ = {}
    plus = functools.partial(function, more=1)
    late = functools.partial(run_script("def g(x, **more): return x + sum(more.values())")["g"])

    call.packer.pack_function(function)
    assert [call(plus, 1), call(late, 1)] == [2, 1]
    function.__kwdefaults__["more"] = 7
    late.keywords["more"] = 7
    assert [call(function, 1), call(late, 1)] == [8, 8]


def test_a_class_whose_objects_travel_too_is_pickled_once(call: Caller) -> None:
    """A function that makes and gets objects of a class of the script is pickled once, for all that pickle notes."""
    names = run_script("class Point:\n    x = 1\ndef f(point): return Point.x + point.x")
    point = names["Point"]()

    assert call(names["f"], point) == 2
    assert call.is_pickled_once(names["f"])


def test_a_module_that_travels_by_value_is_as_it_is_now(call: Caller, module: types.ModuleType) -> None:
    """A module that was registered to travel by value is, in each call, what it is in the driver."""
    by_name = types.FunctionType((lambda: made.step).__code__, {"made": module, "__name__": "__main__"})  # type: ignore[name-defined] # noqa: F821
    assert call.is_pickled_once(by_name)
    cloudpickle.register_pickle_by_value(module)
    try:
        by_value = types.FunctionType(by_name.__code__, by_name.__globals__)
        assert call(by_value) == 1
        module.step = 2  # type: ignore[attr-defined]
        assert call(by_value) == 2
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_module_that_nobody_can_import_is_as_it_is_now(call: Caller) -> None:
    """A module that the script has made is, in each call, what it is in the driver."""
    made = types.ModuleType("dfz_ray_made_by_hand")
    made.step = 1  # type: ignore[attr-defined]

    def f() -> Any:
        return made.step

    assert call(f) == 1
    made.step = 2  # type: ignore[attr-defined]
    assert call(f) == 2


def test_no_call_sees_what_another_one_set_in_a_closure(call: Caller) -> None:
    """A function with `nonlocal`, itself or in a function inside it, begins anew in each call."""
    n = 0

    def count() -> int:
        nonlocal n
        n += 1
        return n

    def count_inside() -> int:
        def add() -> None:
            nonlocal n
            n += 1

        add()
        return n

    assert [call(count), call(count)] == [1, 1]
    assert [call(count_inside), call(count_inside)] == [1, 1]
    assert n == 0


def test_no_call_sees_what_another_one_set_as_a_global(call: Caller) -> None:
    """A function of the script with `global`, itself or in one that it calls, begins anew in each call."""
    names = run_script(
        "counter = 0\n"
        "def count():\n    global counter\n    counter += 1\n    return counter\n"
        "def outer(): return count()\n"
        "def forget():\n    global counter\n    found = 'counter' in globals()\n    del counter\n    return found\n"
        "def inner():\n    def again():\n        global counter\n        counter += 1\n        return counter\n"
        "    return again()\n"
    )

    for name in ("count", "outer", "inner"):
        assert [call(names[name]), call(names[name])] == [1, 1], name
    assert [call(names["forget"]), call(names["forget"])] == [True, True]


def test_names_that_a_function_makes_itself_are_no_change(call: Caller) -> None:
    """A function whose inner functions set names of its own is pickled once."""

    def total(numbers: tuple[int, ...]) -> int:
        found = 0

        def add(number: int) -> None:
            nonlocal found
            found += number

        for number in numbers:
            add(number)
        return found

    assert call.is_pickled_once(total)
    assert [call(total, (1, 2)), call(total, (1, 2))] == [3, 3]
