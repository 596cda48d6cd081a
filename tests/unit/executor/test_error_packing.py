"""Exceptions of calls meet `except` in the driver as they were raised, however their classes are made."""

from __future__ import annotations

import errno
import pickle
import sys
from typing import Any

import pytest

from dfz_ray.executor.error_packing import pack_error


def travel(error: BaseException) -> Any:
    """The exception as the driver gets it."""
    packed = pack_error(error)
    assert packed is not None
    again = pickle.loads(packed)  # noqa: S301 - our own
    assert (type(again), str(again), repr(again.args)) == (type(error), str(error), repr(error.args))
    return again


class GoneFile(OSError):
    """An OSError that says itself what is wrong."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ENOENT, "gone", path)


class BadByte(UnicodeDecodeError):
    """A UnicodeDecodeError that says itself what is wrong."""

    def __init__(self, content: bytes) -> None:
        super().__init__("utf-8", content, 0, 1, "bad")


class Made(Exception):
    """It is made of two values, both required."""

    def __new__(cls, first: int, second: int) -> Made:
        made = super().__new__(cls, first)
        made.total = first + second  # type: ignore[attr-defined]
        return made

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Coded(Exception):
    """It makes its text of its argument."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


class Silent(Exception):
    """Its text tells nothing of its content."""

    def __init__(self, code: int) -> None:
        super().__init__(code + 1)

    def __str__(self) -> str:
        return "something went wrong"


class Stop(StopIteration):
    """It makes its value of two."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first + second)


class NoModule(ImportError):
    """It knows which module is missing."""

    def __init__(self, module: str, hint: str) -> None:
        super().__init__(f"no {module}: {hint}", name=module, path=f"/{module}.py")


class Slotted(Exception):
    """It keeps its content in slots, of which one is private and one is never set."""

    __slots__ = ("__secret", "code", "unset")

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code, self.__secret = code, [code]

    @property
    def secret(self) -> list[int]:
        """The private one."""
        return self.__secret


class Exits(ExceptionGroup[Exception]):
    """A group as Python's documentation has it, whose class takes other arguments than its built-in one."""

    code: int

    def __new__(cls, errors: list[Exception], code: int) -> Exits:
        made = super().__new__(cls, f"exit code {code}", errors)
        made.code = code
        return made


def test_an_os_error_with_an_init_of_its_own() -> None:
    """An OSError whose class fills the fields itself keeps number, text and file."""
    again = travel(GoneFile("/data/x"))
    assert (again.errno, again.strerror, again.filename) == (errno.ENOENT, "gone", "/data/x")
    assert str(again) == "[Errno 2] gone: '/data/x'"


def test_a_unicode_error_with_an_init_of_its_own() -> None:
    """A UnicodeDecodeError whose class fills the fields itself keeps them, also one that was changed later."""
    error = BadByte(b"ab")
    error.end = 2
    again = travel(error)
    assert (again.encoding, again.object, again.start, again.end, again.reason) == ("utf-8", b"ab", 0, 2, "bad")


def test_a_class_that_must_be_called_with_more() -> None:
    """An exception whose `__new__` wants two arguments comes back, with what it has set."""
    assert travel(Made(2, 3)).total == 5


def test_a_text_that_is_composed() -> None:
    """An exception that makes its text of its argument keeps the text; so do `args` that its text does not tell."""
    assert str(travel(Coded(5))) == "code 5"
    assert travel(Silent(5)).args == (6,)


def test_fields_of_built_in_classes() -> None:
    """The value of a StopIteration, the module of an ImportError and the name of a NameError are not lost."""
    assert travel(Stop(2, 3)).value == 5
    again = travel(NoModule("numpy", "install it"))
    assert (again.name, again.path, again.msg) == ("numpy", "/numpy.py", "no numpy: install it")
    assert travel(NameError("no such name", name="x")).name == "x"


def test_slots() -> None:
    """What an exception keeps in slots comes back; a slot that was not set is not set then."""
    again = travel(Slotted("text", 7))
    assert (again.code, again.secret, hasattr(again, "unset")) == (7, [7], False)


def test_groups() -> None:
    """A group keeps its members and attributes, whatever its class is called with."""
    again = travel(Exits([ValueError("a"), KeyError("b")], 3))
    assert (again.code, again.message, [type(one) for one in again.exceptions]) == (
        3,
        "exit code 3",
        [ValueError, KeyError],
    )


def test_exceptions_within_an_exception() -> None:
    """Members of a group, of a group within it, and exceptions in `args` or attributes lose no more than one alone."""
    inner = [Coded(5), GoneFile("/data/x"), Slotted("text", 7), Made(2, 3)]
    whole = ExceptionGroup("group", [*inner, ExceptionGroup("inner group", inner), Chosen("text")])
    outer = ValueError("outer", inner)
    outer.first = Coded(6)  # type: ignore[attr-defined]
    group, again = travel(whole), travel(outer)
    for found in (group.exceptions, group.exceptions[4].exceptions, again.args[1]):
        assert [str(one) for one in found[:4]] == ["code 5", "[Errno 2] gone: '/data/x'", "text", "2 and 3"]
        assert (found[1].filename, found[2].code, found[3].total) == ("/data/x", 7, 5)
    assert (group.exceptions[5].cache, str(again.first)) == ("small", "code 6")
    assert travel(ExceptionGroup("group", [Slotted("text", 7)])).exceptions[0].code == 7


def test_an_exception_that_refers_to_itself() -> None:
    """An exception may be among the attributes of one that it holds."""
    error = Made(2, 3)
    error.inner = Coded(5)  # type: ignore[attr-defined]
    error.inner.outer = error  # type: ignore[attr-defined]
    again = travel(error)
    assert (again.inner.outer, str(again.inner)) == (again, "code 5")


def test_notes_and_attributes() -> None:
    """Notes and attributes that were added to an exception come back with it."""
    for error in (ValueError("text"), GoneFile("/data/x")):
        error.add_note("a note")
        error.more = [1]  # type: ignore[attr-defined]
        again = travel(error)
        assert (again.__notes__, again.more) == (["a note"], [1])


class Chosen(Exception):
    """It says itself how it is pickled, and leaves something out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.cache = "large"

    def __reduce__(self) -> tuple[Any, ...]:
        return _choose, (str(self),)


def _choose(text: str) -> Chosen:
    made = Chosen(text)
    made.cache = "small"
    return made


def test_a_class_that_says_how_it_is_pickled() -> None:
    """Where a class says itself how it is pickled, it is pickled so."""
    assert travel(Chosen("text")).cache == "small"


def test_what_can_not_be_made_equal() -> None:
    """An exception that holds a thing of its process, in an attribute or a slot, or loses its text does not travel."""
    framed, slotted = ValueError("text"), Slotted("text")
    framed.frame = slotted.unset = sys._getframe()  # type: ignore[attr-defined]
    for error in (framed, slotted):
        with pytest.raises(TypeError, match="cannot pickle"):
            pack_error(error)

    class Counting(Exception):
        def __str__(self) -> str:
            return str(id(self))

    assert pack_error(Counting()) is None


class Loud(Exception):
    """Its class notes each call of its code."""

    calls: list[str] = []  # noqa: RUF012 - that is what is counted

    def __new__(cls, *args: Any) -> Loud:
        cls.calls.append("new")
        return super().__new__(cls, *args)

    def __init__(self, code: int) -> None:
        self.calls.append("init")
        super().__init__(f"code {code}")

    def __setattr__(self, name: str, value: Any) -> None:
        self.calls.append("setattr")
        super().__setattr__(name, value)


def test_no_code_of_the_class_runs_in_the_driver() -> None:
    """An exception that is made again of its parts calls nothing of its class: that might hang, or end the program."""
    error = Loud(5)
    error.more = 1  # type: ignore[attr-defined]
    packed = pack_error(error)
    Loud.calls.clear()
    again = pickle.loads(packed or b"")  # noqa: S301 - our own
    assert (str(again), again.more, Loud.calls) == ("code 5", 1, [])
