"""The future of a call: the attributes for waiting are made when one is first used, and no end is missed meanwhile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import pickle
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Future

import pytest
from support.interrupts import interrupted

from dfz_ray.executor.call_packing import PackedCall
from dfz_ray.executor.call_run import PendingCall, Treatment
from dfz_ray.executor.future import LAZY, CallFuture
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

TREATMENT = Treatment(Resources(), Policy())
FIVE = encode(pickle.dumps(5))


class Run:
    """A run that remembers the calls that it was asked to cancel."""

    def __init__(self) -> None:
        self.cancelled: list[PendingCall] = []

    def cancel(self, calls: Iterable[PendingCall]) -> None:
        """Cancel."""
        for call in calls:
            self.cancelled.append(call)
            call.on_cancelled()


def make(run: Run | None = None) -> CallFuture:
    """A future that was submitted."""
    return CallFuture(run or Run(), TREATMENT, PackedCall("", b"", None))  # type: ignore[arg-type]


def test_it_is_a_whole_future() -> None:
    """It has every attribute that a Future has in this Python; those for waiting are made when someone waits."""
    future = make()
    assert {*vars(future), *LAZY} >= {*vars(Future())}
    assert not LAZY & {*vars(future)}
    assert concurrent.futures.wait([future], timeout=0).not_done == {future}
    assert {*vars(future)} >= LAZY
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        future.no_such_name  # noqa: B018


def test_an_ended_one_needs_no_more() -> None:
    """A future that has ended gives its state and its result without the attributes for waiting."""
    future = make()
    future.begin()
    future.complete(FIVE, 0.0, 0.1)
    assert (future.done(), future.result()) == (True, 5)
    assert not LAZY & {*vars(future)}
    assert (future.running(), future.cancelled(), future.cancel(), future.exception()) == (False, False, False, None)


def test_the_run_hears_of_a_cancellation_once() -> None:
    """A waiting future is cancelled, once; a future whose call has begun or ended is not."""
    run = Run()
    waiting, begun = make(run), make(run)
    begun.begin()
    assert (waiting.cancel(), waiting.cancel(), begun.cancel()) == (True, True, False)
    assert run.cancelled == [waiting]
    assert concurrent.futures.wait([waiting, begun], timeout=0).done == {waiting}
    waiting.complete(FIVE, 0.0, 0.1)
    assert waiting.cancelled()
    begun.on_cancelled()
    assert begun.cancelled()


@pytest.mark.parametrize("line", range(6))
def test_an_interrupted_cancellation_keeps_nobody_waiting(line: int) -> None:
    """Wherever Ctrl-C interrupts `cancel`, whoever waits for the future goes on once its call has ended."""
    for end in (lambda future: future.complete(FIVE, 0.0, 0.1), lambda future: future.fail(ValueError("no"))):
        future = make()
        with interrupted(CallFuture.cancel, line):
            future.cancel()
        future.begin()
        end(future)
        assert concurrent.futures.wait([future], timeout=10).done == {future}
        assert future.cancelled() or future.exception() is None or str(future.exception()) == "no"


def test_a_future_that_raises_is_freed_at_once() -> None:
    """The traceback of the error that `result` raises keeps no future alive until the garbage is collected."""
    future = make()
    future.fail(ValueError("no"))
    left = weakref.ref(future)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="no"):
            future.result()
        del future
        assert left() is None
    finally:
        gc.enable()


def test_two_threads_may_cancel_it() -> None:
    """Two threads that cancel a waiting future in the same moment both hear that it is cancelled."""
    both = threading.Barrier(2, timeout=0.2)

    class Meeting(CallFuture):
        """A future at which threads meet before they tell of its end, if more than one of them gets there."""

        def set_running_or_notify_cancel(self) -> bool:
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait()
            return super().set_running_or_notify_cancel()

    future = Meeting(Run(), TREATMENT, PackedCall("", b"", None))  # type: ignore[arg-type]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        cancelled = [pool.submit(future.cancel) for _ in range(2)]
    assert [one.result() for one in cancelled] == [True, True]
    assert future.cancelled()


def test_a_result_that_can_not_be_read() -> None:
    """A result whose class can't be had here is the error of that call."""
    future = make()
    future.complete(encode(b"cno_such_module\nx\n."), 0.0, 0.1)
    assert isinstance(future.exception(), ModuleNotFoundError)


def test_nothing_is_missed() -> None:
    """A thread that begins to wait while a call ends hears of the end, thousands of times."""
    futures = [make() for _ in range(5_000)]
    seen: list[int] = []

    def end() -> None:
        for future in futures:
            future.begin()
            future.complete(FIVE, 0.0, 0.1)

    def watch() -> None:
        for future in futures:
            future.add_done_callback(lambda ended: seen.append(ended.result()))

    threads = [threading.Thread(target=work) for work in (end, watch)]
    for thread in threads:
        thread.start()
    results = [future.result(timeout=30) for future in reversed(futures)]
    for thread in threads:
        thread.join()

    assert results == [5] * 5_000
    assert seen == [5] * 5_000
