"""Exceptions that are made to be hard to tell: told soon, briefly, and by what really happened."""

from __future__ import annotations

import os
import sys
import traceback
from _thread import get_ident
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution import interruption
from dfz_ray.execution.execute import Execution, Work, execute_chunk
from dfz_ray.execution.failure import MESSAGE_CHARACTERS, TRACEBACK_CHARACTERS, Failure
from dfz_ray.execution.interruption import Interruption, make_interruption
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN
from dfz_ray.specs.encoding import decode, digest, encode
from dfz_ray.specs.input_file import FileShelf


class Nothing(Parameters):
    """No parameters at all."""


def execute(
    *computes: Callable[[], Any], guard: Any = None, settle: Callable[[], bool] = lambda: False
) -> list[Execution]:
    """Execute a task for each function, in one chunk."""
    domain = Domain("own", Nothing, lambda parameters, seed, threads: computes[seed](), lambda _: "own")
    works = [Work(number, number, encode({})) for number in range(len(computes))]
    return execute_chunk(domain, works, 1, FileShelf(), guard=guard, settle=settle)


def failure_of(compute: Callable[[], Any], **options: Any) -> Failure:
    failure = execute(compute, **options)[0].failure
    assert failure is not None
    assert len(failure.message) < MESSAGE_CHARACTERS + 100
    assert len(failure.traceback or "") < TRACEBACK_CHARACTERS + 100
    return failure


def raising(make: Callable[[], BaseException]) -> Callable[[], Any]:
    def compute() -> Any:
        raise make()

    return compute


# --- bounded text -----------------------------------------------------------------------------------------------------


def sharing_members(levels: int = 60) -> BaseException:
    """A tree of groups of which each has one member twice: 2 to the power of 60 branches."""
    error: BaseException = ValueError("leaf")
    for _ in range(levels):
        error = BaseExceptionGroup("both", [error, error])
    return error


def sharing_causes(levels: int = 60) -> BaseException:
    error: BaseException = ValueError("first")
    for number in range(levels):
        following = BaseExceptionGroup("two", [error, ValueError(str(number))])
        following.__cause__ = error
        error = following
    return error


def with_notes(count: int, size: int) -> BaseException:
    error = ValueError("noted")
    for _ in range(count):
        error.add_note("x" * size)
    return error


class NewCauses(Exception):
    """Each cause of it has another one."""

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        return NewCauses()


class EndlessNotes(Exception):
    @property
    def __notes__(self) -> Iterator[str]:
        return iter(lambda: "again", None)


class OddNotes(Exception):
    __notes__ = None  # type: ignore[assignment]


def far_syntax() -> BaseException:
    return SyntaxError("no", ("f.py", 1, 1, "x" * 50_000_000, 1, 10**10))


def from_file(name: str) -> Callable[[], Any]:
    """A task whose code says that it is from that file."""
    space: dict[str, Any] = {}
    exec(compile("def compute():\n    1 / 0\n", name, "exec"), space)  # noqa: S102
    found: Callable[[], Any] = space["compute"]
    return found


class Loader:
    def get_source(self, name: str) -> str:
        raise SystemExit(3)


def from_loader() -> Any:
    space: dict[str, Any] = {"__name__": "odd", "__loader__": Loader()}
    exec(compile("def compute():\n    1 / 0\n", "/no/such/file.py", "exec"), space)  # noqa: S102
    return space["compute"]()


def deep() -> Any:
    sys.setrecursionlimit(30_000)
    try:

        def dive(level: int) -> None:
            if level == 0:
                raise ValueError("deep")
            dive(level - 1)

        dive(20_000)
    finally:
        sys.setrecursionlimit(1_000)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (raising(sharing_members), "ExceptionGroup: both (2 sub-exceptions)"),
        (raising(sharing_causes), "ExceptionGroup: two (2 sub-exceptions)"),
        (raising(lambda: with_notes(300_000, 3)), "ValueError: noted"),
        (raising(lambda: with_notes(2, 50_000_000)), "ValueError: noted"),
        (raising(lambda: ValueError("y" * 100_000_000)), "ValueError: yyy"),
        (raising(NewCauses), "NewCauses"),
        (raising(EndlessNotes), "EndlessNotes"),
        (raising(OddNotes), "OddNotes"),
        (raising(far_syntax), "SyntaxError: no"),
        (raising(lambda: type("N" * 10_000_000, (Exception,), {})("odd")), "NNN"),
        (from_file("/dev/zero"), "ZeroDivisionError"),
        (from_file("x" * 10_000_000), "ZeroDivisionError"),
        (from_loader, "ZeroDivisionError"),
        (deep, "ValueError: deep"),
    ],
)
def test_any_exception_is_told_soon(compute: Callable[[], Any], message: str) -> None:
    """Whatever an exception consists of, it becomes a text of bounded length, and soon."""
    failure = failure_of(compute)

    assert failure.reason == "exception"
    assert failure.message.startswith(message)
    assert failure.traceback
    assert failure.message[:20] in failure.traceback


def test_a_source_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    """A traceback through a file that is a pipe is told without its source line."""
    os.mkfifo(tmp_path / "pipe.py")

    assert "pipe.py" in (failure_of(from_file(str(tmp_path / "pipe.py"))).traceback or "")


def test_ordinary_tracebacks_are_those_of_python() -> None:
    """Chains, groups, notes and syntax errors are told as Python tells them."""

    def compute(parameters: Any = None, seed: int = 0, threads: int = 1) -> Any:
        try:
            try:
                raise KeyError("inner")
            except KeyError as error:
                error.add_note("a note")
                raise ExceptionGroup("several", [ValueError("a"), ExceptionGroup("more", [TypeError("b")])]) from error
        except ExceptionGroup:
            compile("1 +", "f.py", "exec")

    try:
        compute()
    except SyntaxError as error:
        frames = error.__traceback__
        expected = "".join(traceback.format_exception(type(error), error, frames.tb_next if frames else None))

    domain = Domain("own", Nothing, compute, lambda _: "own")
    (execution,) = execute_chunk(domain, [Work(0, 0, encode({}))], 1, FileShelf())
    assert execution.failure is not None
    assert execution.failure.traceback == expected


# --- forged interruptions ---------------------------------------------------------------------------------------------


class Forged(Interruption):
    reason = "cancelled"
    message = "never"
    frames = 0


class HasReason(BaseException):
    reason = "worker_crashed"


def from_interruption() -> Any:
    raise ValueError("mine") from Interruption("cancelled", "forged", 1)


@pytest.mark.parametrize(
    "compute",
    [
        raising(lambda: Interruption("timeout", "it ran longer", 1)),
        raising(lambda: Interruption("cancelled")),
        raising(lambda: Interruption(None, None, None)),
        raising(Forged),
        raising(HasReason),
        from_interruption,
        raising(lambda: make_interruption(get_ident(), "node_lost", "forged")),  # type: ignore[arg-type,return-value]
        raising(lambda: make_interruption(get_ident(), [], {}, -1)),  # type: ignore[arg-type,return-value]
    ],
)
def test_a_task_does_not_choose_the_reason_of_its_failure(compute: Callable[[], Any]) -> None:
    """An interruption that a task raises itself is an exception like any other, and the next task is executed."""
    forged, sound = execute(compute, lambda: 1)

    assert forged.failure is not None
    assert forged.failure.reason == "exception"
    assert sound.failure is None


class Guard:
    """Interrupts the tasks of these numbers when they ask for it."""

    def __init__(self) -> None:
        self.kind: type[Interruption] = Interruption
        self.ends = 0

    def begin(self, work: Work) -> bool:
        return True

    def end(self) -> None:
        self.ends += 1

    def interrupt(self) -> None:
        self.kind = make_interruption(get_ident(), "timeout", "it ran longer", frames=1)
        raise self.kind


def test_only_the_interruption_of_its_own_guard_ends_a_task_early() -> None:
    """A task is interrupted for the reason of its guard, whatever it makes of it; a later task can't raise it again."""
    guard = Guard()
    kept: list[BaseException] = []

    def changed() -> Any:
        try:
            guard.interrupt()
        except BaseException as error:
            kept.append(error)
            error.reason = error.message = None  # type: ignore[attr-defined]
            raise RuntimeError("while it cleans up") from None

    def again() -> Any:
        raise kept[0]

    def collected() -> Any:
        try:
            guard.interrupt()
        except BaseException as error:
            raise BaseExceptionGroup("of an event loop", [error, ValueError()]) from None

    first, second, third, fourth = execute(changed, again, collected, lambda: 1, guard=guard)

    assert first.failure is not None
    assert first.failure[:2] == ("timeout", "it ran longer")
    assert second.failure is not None
    assert second.failure.reason == "exception"
    assert third.failure is not None
    assert third.failure[:2] == ("timeout", "it ran longer")
    assert fourth.failure is None
    assert guard.ends >= 4
    assert not interruption._causes


def test_an_interruption_while_an_exception_is_told_counts() -> None:
    """A deadline that comes while a task's exception makes its text ends the task for that reason."""
    guard = Guard()

    class Slow(Exception):
        def __str__(self) -> str:
            guard.interrupt()
            return "never"

    failure = failure_of(raising(Slow), guard=guard)

    assert failure[:2] == ("timeout", "it ran longer")


def test_what_a_task_left_behind_fails_that_task_alone() -> None:
    """What raises after a task has ended, as a handler that it has left does, is its own failure."""
    left = [3]

    def settle() -> bool:
        if left[0]:
            left[0] -= 1
            raise ValueError("left behind")
        return False

    first, second = execute(lambda: 1, lambda: 2, settle=settle)

    assert first.failure is not None
    assert first.failure.message == "ValueError: left behind"
    assert second.result == encode(2)


def test_a_broken_guard_fails_no_task() -> None:
    """What a guard raises as a task is about to begin is not that task's failure."""

    class Broken(Guard):
        def begin(self, work: Work) -> bool:
            if work.number == 1:
                raise ValueError("a task has closed its file")
            return True

    with pytest.raises(ValueError, match="closed its file"):
        execute(lambda: 1, lambda: 2, guard=Broken())


def test_a_call_of_a_group_forges_nothing_for_the_others() -> None:
    """A call that raises an interruption of its own fails alone; the other calls of its group return."""
    import pickle

    from dfz_ray.executor.function_domain import Form, FunctionCall, read_group

    def call(number: int) -> int:
        if number == 1:
            raise Interruption("cancelled", "forged", 1)
        return number

    arguments = pickle.dumps((1e9, [(0,), (1,), (2,)]))
    group = FUNCTION_DOMAIN.compute(FunctionCall(Form.GROUP, True, b"", call, b"", arguments), 0, 1)
    found = read_group(encode(group))

    assert found.values == [0, None, 2]
    assert found.failures[1].reason == "exception"


# --- results ----------------------------------------------------------------------------------------------------------


class Restless(dict[str, Any]):
    """A result that something changes whenever it is looked at."""

    looks = 0

    def items(self) -> Any:
        Restless.looks += 1
        return {"score": Restless.looks}.items()

    def __iter__(self) -> Iterator[str]:
        return iter(["score"])

    def keys(self) -> Any:
        return ["score"]


def test_the_digest_is_of_the_bytes() -> None:
    """A result that changes after the task has returned it has the digest of the bytes that are stored."""
    (execution,) = execute(lambda: Restless(score=7))

    assert execution.result is not None
    assert execution.digest == digest(decode(execution.result))
