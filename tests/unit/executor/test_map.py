"""The calls of a map, whose groups are ended by hand."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import msgpack
import pytest
from support.interrupts import interrupted, interrupted_after

from dfz_ray.errors import InfrastructureLost
from dfz_ray.executor import map as map_module
from dfz_ray.executor.call_packing import CallPacker
from dfz_ray.executor.call_run import CallSource, ExecutorBroken, PendingCall, Treatment
from dfz_ray.executor.executor import _Calls
from dfz_ray.executor.map import CallMap, Items
from dfz_ray.executor.process_setup import InitializerFailed
from dfz_ray.protocol.task_events import FailedTask
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources


class Run:
    """A run that remembers what it was given, and executes nothing."""

    slots = 2
    known_slots: int | None = 2
    has_ended = is_closed = False
    broken: BaseException | None = None

    def __init__(self) -> None:
        self.packer = CallPacker()
        self.sent: list[PendingCall] = []
        self.sources: list[CallSource] = []

    def check(self) -> None:
        """It takes calls."""

    def hold(self, source: CallSource) -> None:
        self.sources.append(source)

    def release(self, source: CallSource) -> None:
        if source in self.sources:
            self.sources.remove(source)

    def send(self, groups: Iterable[PendingCall]) -> None:
        if self.is_closed:
            raise InfrastructureLost
        self.sent.extend(groups)

    def cancel(self, groups: Iterable[PendingCall]) -> None:
        for group in groups:
            group.on_cancelled()

    def closed(self) -> Exception:
        return RuntimeError("cannot schedule new futures after shutdown")

    def lost(self) -> Exception:
        return ExecutorBroken("the run can't go on")


def start(run: Run, function: Callable[..., Any], items: Items, ends_at: float | None = None) -> CallMap:
    """A map whose groups have any size, when it is started."""
    treatment = Treatment(Resources(), Policy())
    made = CallMap(run, run.packer.pack_function(function), treatment, None, ends_at)  # type: ignore[arg-type]
    made.start(items)
    return made


def make(run: Run, count: int) -> CallMap:
    """A map of many calls, whose groups have any size."""
    items: list[tuple[Any, ...]] = [(number,) for number in range(count)]
    return start(run, abs, items)


def result_of(values: list[Any]) -> bytes:
    """What a worker sends of a group whose first calls have returned these values."""
    packed: bytes = msgpack.packb(pickle.dumps((values, False, {})))
    return packed


def test_a_map_of_a_run_that_can_not_be_opened() -> None:
    """A map that was made before its run has failed to open says so; a second end of a group changes nothing."""
    run = Run()
    made = make(run, 1000)
    groups = list(run.sent)
    assert 0 < len(groups) < 1000
    assert run.sources == [made]

    run.has_ended = True
    for group in groups:
        group.fail(ExecutorBroken("the run can't go on"))
    for group in groups:
        group.fail(ValueError())

    with pytest.raises(BrokenExecutor, match="the run can't go on"):
        next(made.results())
    assert run.sent == groups
    assert run.sources == []


def test_a_map_that_is_interrupted_leaves_its_run_free_to_end() -> None:
    """Wherever Ctrl-C interrupts the making of a map, nobody gets it, and its run waits for none of its calls."""
    for function in (CallMap.__init__, CallMap.start, _Calls.map):
        has_come = True
        for line in range(100):
            run = Run()
            made: list[Iterable[Any]] = []
            with interrupted(function, line) as interruption:
                made.append(_Calls(run, Treatment(Resources(), Policy())).map(abs, range(10)))  # type: ignore[arg-type]
            has_come = interruption.has_come
            if not has_come:
                break
            assert made == run.sources == []
        assert not has_come


@pytest.mark.parametrize("function", [CallMap.__init__, CallMap.start])
def test_a_map_that_is_interrupted_between_two_steps(function: Callable[..., Any]) -> None:
    """The same holds where Ctrl-C comes when a step of it has returned, and its caller has not gone on yet."""
    run = Run()
    with interrupted_after(function), pytest.raises(KeyboardInterrupt):
        _Calls(run, Treatment(Resources(), Policy())).map(abs, range(10))  # type: ignore[arg-type]
    assert run.sources == []


def test_a_map_that_comes_as_its_executor_is_shut_down() -> None:
    """A map whose calls the run does not take any more says so, as `submit` does: nothing is broken."""
    run = Run()
    run.is_closed = True
    with pytest.raises(RuntimeError, match="after shutdown") as caught:
        next(make(run, 10).results())
    assert not isinstance(caught.value, BrokenExecutor)
    assert run.sources == []


def test_a_map_begins_with_a_group_for_each_slot() -> None:
    """The calls of a small map are sent at once, a group for each slot; of many, or of large ones, a part."""
    for count, sizes in ((1, [1]), (16, [8, 8]), (255, [128, 127]), (100_000, [128, 128])):
        run = Run()
        make(run, count)
        assert [len(group.items) for group in run.sent] == sizes  # type: ignore[attr-defined]
    run = Run()
    items: list[tuple[Any, ...]] = [(bytes(2**21),)] * 10
    start(run, len, items)
    assert [len(group.items) for group in run.sent] == [1, 1]  # type: ignore[attr-defined]


def test_a_map_begins_with_single_calls_while_the_slots_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls of a map that is made before Ray has counted the slots can be shared out, whatever their number is."""
    monkeypatch.setattr(map_module, "AHEAD_BYTES", 2**22)
    for item, count, sent in ((b"", 8, 8), (b"", 1000, 128), (bytes(2**18), 200, 15), (bytes(2**22), 5, 2)):
        run = Run()
        run.slots, run.known_slots = 1, None
        start(run, len, [(item,)] * count)
        assert [len(group.items) for group in run.sent] == [1] * sent  # type: ignore[attr-defined]


def test_what_a_group_has_left_is_sent_again_unless_the_map_is_cancelled() -> None:
    """A first group that ends early, for its calls take long, hands the others back; they go alone, or not at all."""
    run = Run()
    made = make(run, 16)
    one, other = run.sent
    run.sent = []
    assert run.sources == [made]

    one.complete(result_of([0]), 0.0, 1.0)
    assert [(group.first, len(group.items)) for group in run.sent] == [(n, 1) for n in range(1, 8)]  # type: ignore[attr-defined]
    run.sent = []
    other.begin()
    made.cancel()
    other.complete(result_of([8]), 0.0, 1.0)
    assert run.sent == []


def test_an_executor_knows_a_map_until_its_last_call_has_ended() -> None:
    """Who cancels what waits finds also a map of which everything is sent, for its groups may hand calls back."""
    run = Run()
    made = make(run, 2)
    one, other = run.sent
    one.complete(result_of([0]), 0.0, 0.1)
    assert run.sources == [made]
    other.complete(result_of([1]), 0.0, 0.1)
    assert run.sources == []
    assert list(made.results()) == [0, 1]


def test_a_map_whose_initializer_fails() -> None:
    """The first group that meets a failed initializer breaks the executor: no call is made again, none is sent later.

    Each call fails with the initializer's error.
    """
    run = Run()
    made = make(run, 1000)
    groups = list(run.sent)
    error = InitializerFailed("the executor's initializer failed in a worker: ZeroDivisionError")
    for number, group in enumerate(groups):
        group.on_failed(FailedTask(number, "exception", str(error), None, pickle.dumps(error)))

    assert isinstance(run.broken, InitializerFailed)
    assert run.sent == groups
    assert run.sources == []
    with pytest.raises(InitializerFailed, match="ZeroDivisionError"):
        next(made.results())


class Panic(BaseException):
    """An error that is no Exception, as those of libraries in Rust."""


class Panicking:
    """An item that can't be pickled."""

    def __reduce__(self) -> Any:
        raise Panic


def test_a_map_ends_where_pickling_a_later_item_panics() -> None:
    """Who waits for the results of a map gets those before the item, and then the error, whatever its class is."""
    items: list[tuple[Any, ...]] = [(number,) for number in range(1000)]
    items[300] = (Panicking(),)
    run, ends_at = Run(), time.monotonic() + 10
    made = start(run, abs, items, ends_at)
    one, other = run.sent
    other.begin()

    with pytest.raises(Panic):
        one.complete(result_of([0] * 128), 0.0, 0.1)
    other.complete(result_of([0] * 128), 0.0, 0.1)

    results = made.results()
    assert [next(results) for _ in range(256)] == [0] * 256
    with pytest.raises(Panic):
        next(results)
    assert run.sources == []


@pytest.mark.parametrize("buffersize", [2, 9])
def test_a_buffered_map_with_an_item_that_can_not_travel(buffersize: int) -> None:
    """Its error is raised where its result is due, after the results before it, however many calls are sent ahead."""
    calls = _Calls(run := Run(), Treatment(Resources(), Policy()))  # type: ignore[arg-type]
    results = calls.map(type, [1, 2, threading.Lock(), 4], buffersize=buffersize)
    for _ in range(2):
        for sent in run.sent:
            sent.complete(msgpack.packb(pickle.dumps([int])), 0.0, 0.1)
        assert next(results) is int
    with pytest.raises(TypeError, match="cannot pickle"):
        next(results)


def test_a_map_through_another_submit_that_takes_too_long() -> None:
    """Where `submit` is replaced, a `map` whose time is over cancels all of its calls, also those that have begun."""
    calls = _Calls(run := Run(), Treatment(Resources(), Policy()))  # type: ignore[arg-type]
    submit, submitted = calls.submit, []

    def submit_and_count(*args: Any) -> Any:
        submitted.append(submit(*args))
        return submitted[-1]

    calls.submit = submit_and_count  # type: ignore[method-assign]
    results = calls.map(abs, [-1, -2, -3], timeout=0.0)
    run.sent[0].complete(msgpack.packb(pickle.dumps(1)), 0.0, 0.1)
    run.sent[1].begin()
    assert next(results) == 1
    with pytest.raises(TimeoutError):
        next(results)
    assert [future.cancelled() for future in submitted] == [False, True, True]


def test_a_map_through_another_submit() -> None:
    """It gives the results in order until a call has failed; what has not begun then is cancelled."""
    calls = _Calls(run := Run(), Treatment(Resources(), Policy()))  # type: ignore[arg-type]
    submit = calls.submit
    calls.submit = functools.partial(submit)  # type: ignore[method-assign]
    results = calls.map(abs, range(4))
    run.sent[1].fail(ValueError("the second"))
    run.sent[0].complete(msgpack.packb(pickle.dumps(0)), 0.0, 0.1)
    assert next(results) == 0
    with pytest.raises(ValueError, match="the second"):
        next(results)
    assert [future.cancelled() for future in run.sent] == [False, False, True, True]  # type: ignore[attr-defined]


DROPPED = """
from dfz_ray.executor.call_run import ExecutorBroken
from unit.executor.test_map import Run, make

dropped, read = make(run := Run(), 1000), make(other := Run(), 1000)
for one in (run, other):
    one.has_ended = True
    for group in one.sent: group.fail(ExecutorBroken("the run can't go on"))
try: list(read.results())
except ExecutorBroken: pass
"""


def test_a_dropped_map_whose_calls_have_failed() -> None:
    """The failed calls of a map whose iterator was dropped are told, one by one in the count; after one was read, none.

    Calls that could not be sent any more count as well.
    """
    tests = Path(__file__).parents[2]
    paths = os.pathsep.join(map(str, (tests.parent, tests)))
    done = subprocess.run(
        [sys.executable, "-c", DROPPED],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "dfz_ray: 1000 calls ended with errors that nobody has read; the first: ExecutorBroken: the run can't go on\n"
    )
