"""Executing tasks: whatever one of them does, it ends as a result or as plain text, and the others go on."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import field_validator
from support.amount import amount
from support.batch_inputs import nested
from threadpoolctl import threadpool_info

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.execute import Execution, Work, execute_chunk, thread_budget
from dfz_ray.execution.failure import MESSAGE_CHARACTERS, TRACEBACK_CHARACTERS, Failure
from dfz_ray.specs.encoding import decode, digest, encode
from dfz_ray.specs.input_file import FileShelf

Compute = Callable[[Any, int, int], Any]


class Nothing(Parameters):
    """No parameters at all."""


class Number(Parameters):
    n: int = 0


def domain_of(compute: Compute, parameters: type[Parameters] = Nothing, **fields: Any) -> Domain:
    """A domain that does this."""
    return Domain("own", parameters, compute, lambda _: "own", **fields)


def works(count: int, **parameters: Any) -> list[Work]:
    """So many tasks."""
    return [Work(number, 100 + number, encode(parameters)) for number in range(count)]


def execute(compute: Compute, **fields: Any) -> Execution:
    """What comes of one task."""
    (execution,) = execute_chunk(domain_of(compute, **fields), works(1), 1, FileShelf())
    return execution


def failure_of(compute: Compute, **fields: Any) -> Failure:
    """Why a task fails, after its texts have been through all that they must go through."""
    execution = execute(compute, **fields)
    assert (execution.result, execution.digest) == (None, None)
    assert execution.failure is not None
    for text in (execution.failure.message, execution.failure.traceback or ""):
        assert text.encode("utf-8").decode("utf-8") == text
        assert json.loads(json.dumps(text)) == text
        assert sqlite3.connect(":memory:").execute("SELECT ?", (text,)).fetchone() == (text,)
    return execution.failure


def raising(make: Callable[[], BaseException]) -> Compute:
    """A task that raises."""

    def compute(parameters: Any, seed: int, threads: int) -> Any:
        raise make()

    return compute


def returning(make: Callable[[], Any]) -> Compute:
    """A task that returns what is made there."""
    return lambda parameters, seed, threads: make()


# Exceptions


class TwoArguments(Exception):
    """One that can't be pickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class Hostile(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class SaysNumber(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307 - what users write


class HostileText(str):
    def __format__(self, spec: str) -> str:
        raise SystemExit(4)

    __str__ = __len__ = __bool__ = encode = __format__  # type: ignore[assignment]


class SaysHostileText(Exception):
    def __str__(self) -> str:
        return HostileText("words")


class HidesItself(Exception):
    @property
    def __traceback__(self) -> Any:
        raise SystemExit(5)

    __cause__ = __notes__ = __traceback__


class HostileObject:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name, name=name, obj=self)

    def __dir__(self) -> Any:
        raise SystemExit(6)


def caused_in_a_circle() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def caused_by_thousands() -> BaseException:
    error = ValueError("first")
    for number in range(2_000):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    return error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ValueError("no"), "ValueError: no"),
        (ValueError, "ValueError"),
        (lambda: KeyError("a"), "KeyError: 'a'"),
        (lambda: TwoArguments(404, "gone"), "TwoArguments: 404: gone"),
        (Hostile, "Hostile: (its __str__ raises SystemExit)"),
        (SaysNumber, "SaysNumber: (its __str__ raises TypeError)"),
        (SaysHostileText, "SaysHostileText: words"),
        (HidesItself, "HidesItself"),
        (lambda: SystemExit(0), "SystemExit: 0"),
        (SystemExit, "SystemExit"),
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (GeneratorExit, "GeneratorExit"),
        (StopIteration, "StopIteration"),
        (MemoryError, "MemoryError"),
        (lambda: ValueError("half \ud800 a letter"), r"ValueError: half \ud800 a letter"),
        (lambda: ValueError("with \0"), "ValueError: with \0"),
        (lambda: ExceptionGroup("several", [ValueError("a"), Hostile()]), "ExceptionGroup: several (2 sub-exceptions)"),
        (lambda: BaseExceptionGroup("", [KeyboardInterrupt()]), "BaseExceptionGroup:  (1 sub-exception)"),
        (lambda: SyntaxError("no", ("f.py", 1, 1, "\ud800", 1, 2)), "SyntaxError: no (f.py, line 1)"),
        (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "UnicodeDecodeError: 'utf-8' codec can't decode"),
        (caused_in_a_circle, "ValueError: one"),
        (caused_by_thousands, "ValueError: 1999"),
    ],
)
def test_exceptions_become_text(make: Callable[[], BaseException], message: str) -> None:
    """Whatever a task raises becomes text that can be stored and sent, and stops neither worker nor chunk."""
    told = failure_of(raising(make))

    assert told.reason == "exception"
    assert told.message.startswith(message)
    assert told.traceback


def test_a_traceback_says_where() -> None:
    """The traceback begins in the task's own code and names the causes."""

    def compute(parameters: Any, seed: int, threads: int) -> Any:
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise TwoArguments(1, "outer") from error

    lines = failure_of(compute).traceback or ""

    assert "test_execution.py" in lines
    assert "ValueError: inner" in lines
    assert "The above exception was the direct cause" in lines
    assert lines.rstrip().endswith("TwoArguments: 1: outer")
    assert "dfz_ray/execution/" not in lines, "our own frames tell the user nothing"


def test_recursion_without_end() -> None:
    """A task that calls itself without end fails alone, and its traceback does not repeat itself."""

    def compute(parameters: Any, seed: int, threads: int) -> Any:
        return compute(parameters, seed, threads)

    told = failure_of(compute)

    assert told.message.startswith("RecursionError: maximum recursion depth exceeded")
    assert len(told.traceback or "") < 3_000


def test_hostile_attributes() -> None:
    """An exception that carries an object which can't be looked at is told all the same."""

    def compute(parameters: Any, seed: int, threads: int) -> Any:
        return HostileObject().missing

    assert failure_of(compute).message == "AttributeError: missing"


@pytest.mark.parametrize("size", [MESSAGE_CHARACTERS, 10**6])
def test_long_messages_are_shortened(size: int) -> None:
    """A message without end is cut in its middle, so that a journal of failures stays small."""
    told = failure_of(raising(lambda: ValueError("<" + "y" * size + ">")))

    assert len(told.message) < MESSAGE_CHARACTERS + 100
    assert len(told.traceback or "") < TRACEBACK_CHARACTERS + 100
    assert told.message.startswith("ValueError: <yyy")
    assert "characters left out" in told.message
    assert told.message.endswith("yyy>")


@given(st.text(st.characters(exclude_categories=()), max_size=50))
@settings(max_examples=amount(50), deadline=None)
def test_any_message(text: str) -> None:
    """Any text at all may be the message of an exception."""
    assert failure_of(raising(lambda: ValueError(text))).message.startswith("ValueError")


# Results


class HostileMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise SystemExit(7)

    def __iter__(self) -> Iterator[str]:
        raise KeyboardInterrupt

    def __len__(self) -> int:
        return 1


def containing_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("make", "reason", "message"),
    [
        (object, "unserializable", "the result: a value of type 'object' can't be stored"),
        (lambda: {"a": [1, {2j}]}, "unserializable", "the result: a value of type 'complex' can't be stored"),
        (lambda: lambda: 1, "unserializable", "'function'"),
        (lambda: (number for number in ()), "unserializable", "'generator'"),
        (containing_itself, "unserializable", "recursion limit"),
        (lambda: nested(100_000), "unserializable", "recursion limit"),
        (HostileMapping, "exception", "KeyboardInterrupt"),
    ],
)
def test_results_that_cant_be_stored(make: Callable[[], Any], reason: str, message: str) -> None:
    """A result that can't be stored is the failure of its task, told by the type of what can't be."""
    told = failure_of(returning(make))

    assert told.reason == reason
    assert message in told.message


@pytest.mark.parametrize(
    "value",
    [None, 0, "", [], {"main_score": float("nan"), "half": "\ud800", "huge": 10**100}, {(1, 2): b"x"}, [float("inf")]],
)
def test_results(value: Any) -> None:
    """Any plain data is a result, and carries its digest."""
    execution = execute(returning(lambda: value))

    assert execution.failure is None
    assert execution.result == encode(value)
    assert execution.digest == digest(value)


def test_results_of_numpy() -> None:
    """NumPy's numbers and arrays are stored as plain ones."""
    execution = execute(returning(lambda: {"mean": np.float32(0.5), "counts": np.arange(3)}))

    assert decode(execution.result or b"") == {"mean": 0.5, "counts": [0, 1, 2]}
    assert execution.digest == digest({"mean": 0.5, "counts": [0, 1, 2]})


def test_volatile_keys_are_stored_but_not_digested() -> None:
    """A volatile key is part of the result and not of its digest."""
    execution = execute(returning(lambda: {"score": 1, "time": time.time()}), volatile=frozenset({"time"}))

    assert decode(execution.result or b"").keys() == {"score", "time"}
    assert execution.digest == digest({"score": 1})


# Parameters


class Refusing(Parameters):
    n: int = 0

    @field_validator("n")
    @classmethod
    def _refuse(cls, value: int) -> int:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("parameters", "data", "reason", "message"),
    [
        (Number, encode({"n": "x"}), "invalid", "Input should be a valid integer"),
        (Number, encode({"m": 1}), "invalid", "Extra inputs are not permitted"),
        (Number, encode({"n": "x" * 10**5}), "invalid", "Input should be a valid integer"),
        (Number, encode([1]), "invalid", "Input should be a valid dictionary"),
        (Number, b"\xc1", "exception", "FormatError"),
        (Number, b"", "exception", "ValueError"),
        (Refusing, encode({"n": 1}), "exception", "KeyboardInterrupt"),
    ],
)
def test_parameters_that_no_longer_fit(parameters: type[Parameters], data: bytes, reason: str, message: str) -> None:
    """Parameters that this version does not understand fail their task, not its worker."""
    broken, sound = execute_chunk(domain_of(lambda *_: 1, parameters), [Work(0, 0, data), *works(1)], 1, FileShelf())

    assert broken.failure is not None
    assert broken.failure.reason == reason
    assert message in broken.failure.message
    assert len(broken.failure.message) < MESSAGE_CHARACTERS + 100
    assert sound.failure is None


def test_what_a_task_is_told() -> None:
    """A task gets its own parameters and seed, and the thread budget of the chunk."""
    domain = domain_of(lambda parameters, seed, threads: [parameters.n, seed, threads], Number)
    tasks = [Work(number, seed=10 * number, parameters=encode({"n": number})) for number in range(3)]

    executions = execute_chunk(domain, tasks, 5, FileShelf())

    assert [decode(one.result or b"") for one in executions] == [[0, 0, 5], [1, 10, 5], [2, 20, 5]]
    assert [one.number for one in executions] == [0, 1, 2]


# Time


def busy(seconds: float) -> Compute:
    """A task that keeps its core busy for so long."""

    def compute(parameters: Any, seed: int, threads: int) -> int:
        end = time.perf_counter() + seconds
        return sum(1 for _ in itertools.takewhile(lambda _: time.perf_counter() < end, itertools.repeat(None)))

    return compute


def test_times_are_those_of_the_tasks() -> None:
    """Within a chunk times are Unix seconds in order, and no two tasks overlap."""
    before = time.time()
    executions = execute_chunk(domain_of(busy(0.001)), works(20), 1, FileShelf())
    after = time.time()

    times = [moment for one in executions for moment in (one.began_at, one.ended_at)]
    assert times == sorted(times)
    assert before - 0.01 < times[0] < times[-1] < after + 0.01
    assert all(one.ended_at - one.began_at >= 0.0009 for one in executions)
    assert all(0 < one.cpu_s <= one.ended_at - one.began_at + 0.01 for one in executions)


def test_a_failure_has_times_too() -> None:
    """A task that fails took time as well."""
    execution = execute(raising(lambda: ValueError("no")))

    assert execution.began_at < execution.ended_at
    assert execution.cpu_s >= 0


@pytest.mark.parametrize("budget_s", [0.0, -1.0, 1e-9])
def test_at_least_one_task_is_executed(budget_s: float) -> None:
    """However small the budget, a chunk makes progress: its first task is executed, the others are handed back."""
    executions = execute_chunk(domain_of(busy(0.0001)), works(5), 1, FileShelf(), budget_s)

    assert [one.number for one in executions] == [0]


def test_the_rest_is_handed_back() -> None:
    """No task is begun after the budget is used up, and what was begun is ended."""
    budget_s = 0.02
    executions = execute_chunk(domain_of(busy(0.003)), works(100), 1, FileShelf(), budget_s)

    assert [one.number for one in executions] == list(range(len(executions)))
    assert 1 <= len(executions) < 100
    assert all(one.failure is None for one in executions)
    begun = executions[0].began_at
    assert all(one.began_at - begun <= budget_s + 1e-5 for one in executions)
    assert executions[-1].ended_at - begun > budget_s - 1e-3


def test_a_chunk_without_a_budget_is_done() -> None:
    """Without a budget every task is executed, also after failures."""
    domain = domain_of(lambda parameters, seed, threads: 1 // (seed % 2))

    executions = execute_chunk(domain, works(10), 1, FileShelf())

    assert [one.failure is None for one in executions] == [False, True] * 5
    assert execute_chunk(domain, [], 1, FileShelf()) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_native_threads_are_held_to_the_budget(threads: int) -> None:
    """Within its budget, no BLAS or OpenMP uses more threads than a task has CPUs; afterwards all is as before."""
    np.eye(2) @ np.eye(2)
    before = [pool["num_threads"] for pool in threadpool_info()]

    with thread_budget(threads):
        held = [pool["num_threads"] for pool in threadpool_info()]

    assert held
    assert max(held) <= threads
    assert [pool["num_threads"] for pool in threadpool_info()] == before
