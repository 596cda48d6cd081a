"""The threads of a worker, without Ray: what they execute, how they end, and what is reported of it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.execute import Work
from dfz_ray.executor.call_packing import CallPacker
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN, read_group
from dfz_ray.protocol.lease_protocol import LeaseState, Message
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Ended, Report, Spoiled, pack_executions, unpack_executions
from dfz_ray.protocol.worker_side import WorkerSide
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker import crash_marker, thread_lease
from dfz_ray.worker.crash_marker import CrashMarker
from dfz_ray.worker.deadlines import LOOK
from dfz_ray.worker.process_state import ProcessState
from dfz_ray.worker.thread_deadlines import ThreadDeadlineGuard
from dfz_ray.worker.thread_lease import ThreadLease

WIDTH = 4
FOREVER_S = 1e9


class DeedParameters(Parameters):
    what: str = "nap"


class Stage:
    """What the tasks of a test do and have done."""

    def __init__(self) -> None:
        self.busy = self.most = 0
        self.threads: set[int] = set()
        self.masks: list[set[signal.Signals]] = []
        """The signals that tasks have found blocked."""
        self.gate = threading.Event()
        self.lock = threading.Lock()

    def compute(self, parameters: DeedParameters, seed: int, threads: int) -> int:
        with self.lock:
            self.busy += 1
            self.most = max(self.most, self.busy)
            self.threads.add(threading.get_ident())
            self.masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        try:
            if parameters.what == "wait":
                assert self.gate.wait(20)
            if parameters.what == "loop":
                while True:
                    sum(range(100))
            if parameters.what == "block signals":
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM, signal.SIGUSR2))
            if parameters.what == "chdir":
                os.chdir("/")
            return seed
        finally:
            with self.lock:
                self.busy -= 1


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(thread_lease, "_exit", codes.append)
    return codes


class Lead:
    """The main thread's part, as the worker has it; the test gives the orders of a manager."""

    def __init__(self, lease: ThreadLease, side: WorkerSide, guard: ThreadDeadlineGuard) -> None:
        self.lease = lease
        self.side = side
        self.guard = guard
        self.reports: list[Report] = []
        self.orders: list[Order] = []
        """Those that go out as answers to the next reports that ask for work."""
        self.threads = WIDTH

    def order(self, chunk: int, works: list[Work], threads: int = WIDTH) -> None:
        """The next report that asks for work gets a chunk."""
        self.orders.append(Order(0, Message.CHUNK, threads, chunk, works, FOREVER_S))

    def begin_to_wait(self, stage: Stage) -> None:
        """A task waits at the gate, with an idle thread beside it."""
        self.order(0, [work(0, "wait")], threads=2)
        self.until(lambda: stage.busy == 1)

    def look(self) -> None:
        if self.side.state in (LeaseState.WORKING, LeaseState.ENDING):
            self.guard.watch(time.monotonic() + 0.05)
        while (report := self.lease.find_report()) is not None:
            self.reports.append(report)
            self.lease.on_order(self.answer(report)._replace(report=report.number))

    def answer(self, report: Report) -> Order:
        if report.spoiled is not None:
            return Order(0, Message.END)
        if not report.asks:
            return Order(0, Message.NOTED)
        if self.orders:
            self.threads = self.orders[0].threads
            return self.orders.pop(0)
        return Order(0, Message.WAIT, self.threads)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            self.look()

    @property
    def ended(self) -> dict[int, Ended]:
        ends = [report for report in self.reports if report.ended is not None]
        return {report.ended: unpack_executions(pack_executions(report.executed)) for report in ends}


@contextmanager
def leading(
    stage: Stage, grace_s: float = 5.0, domain: Domain | None = None, shelf: FileShelf | None = None
) -> Iterator[Lead]:
    domain = domain or Domain("deed", DeedParameters, stage.compute, lambda parameters: parameters.what)
    guard = ThreadDeadlineGuard(CrashMarker(f"test/{os.getpid()}-{time.time_ns()}", WIDTH), grace_s, WIDTH)
    side = WorkerSide(0)
    with guard.on_duty(), ThreadLease(side, lambda: domain, 1, shelf or FileShelf(), guard, ProcessState()) as lease:
        yield Lead(lease, side, guard)
        stage.gate.set()


@pytest.fixture(autouse=True)
def _markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_marker, "ROOT", tmp_path / f"dfz_ray-{os.getuid()}")


def work(number: int, what: str = "nap", timeout_s: float | None = None) -> Work:
    return Work(number, number, encode({"what": what}), timeout_s)


def reasons(ended: Ended) -> dict[int, Any]:
    return {**dict.fromkeys(ended.completions.numbers(), "completed"), **{row[0]: row[4] for row in ended.failures}}


def test_a_lease_executes_as_many_tasks_at_once_as_it_may() -> None:
    """As many tasks as the order says are executed at once, and no more; the end of the chunk reports them all."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(7, [work(number, "wait") for number in range(20)], threads=3)
        lead.until(lambda: stage.busy == 3)
        assert [report.began for report in lead.reports] == [None, 7]
        stage.gate.set()
        lead.until(lambda: 7 in lead.ended)

    assert stage.most == 3
    assert sorted(reasons(lead.ended[7]).items()) == [(number, "completed") for number in range(20)]


def test_the_next_chunk_is_begun_before_the_last_task_of_the_one_before() -> None:
    """Threads that find their chunk used up go on with the next one; each is reported when all its tasks have ended."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(0, [work(0, "wait"), work(1)])
        lead.order(1, [work(number) for number in range(2, 30)])
        lead.until(lambda: 1 in lead.ended)
        assert 0 not in lead.ended
        stage.gate.set()
        lead.until(lambda: 0 in lead.ended)

    assert reasons(lead.ended[0]) == {0: "completed", 1: "completed"}
    assert len(reasons(lead.ended[1])) == 28


def test_fewer_threads_take_no_further_tasks() -> None:
    """When a lease may execute fewer tasks at once, what is executed ends, and no more begins than may."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(0, [work(number, "wait") for number in range(12)], threads=4)
        lead.until(lambda: stage.busy == 4)
        lead.threads = 1
        lead.until(lambda: lead.side.threads == 1)  # it asks again after a second
        stage.most = 0
        stage.gate.set()
        lead.until(lambda: 0 in lead.ended)

    assert stage.most <= 1
    assert len(reasons(lead.ended[0])) == 12


def test_a_deadline_ends_one_task_and_no_other() -> None:
    """A loop in Python ends at its deadline; the tasks beside it, and those after it on the same thread, do not."""
    stage = Stage()
    with leading(stage) as lead:
        works = [work(0, "loop", 0.1), *[work(number, "nap", 20.0) for number in range(1, 200)]]
        lead.order(0, works, threads=2)
        lead.until(lambda: 0 in lead.ended)

    found = reasons(lead.ended[0])
    assert found.pop(0) == "timeout"
    assert set(found.values()) == {"completed"}
    assert len(found) == 199
    assert len(stage.threads) == 2


def test_an_idle_thread_that_a_task_has_broken_charges_no_other_task(
    monkeypatch: pytest.MonkeyPatch, ends: list[int]
) -> None:
    """What an earlier task has patched may meet a thread that holds no task: the one beside it is not to blame."""
    stage = Stage()
    with leading(stage) as lead:
        lead.begin_to_wait(stage)
        monkeypatch.setattr(lead.guard, "rest", None)
        lead.until(lambda: lead.reports[-1].spoiled is not None)  # it asks again after a second, which wakes the thread

    assert lead.reports[-1].spoiled == Spoiled([0], "the code that executes tasks")
    assert not ends


def test_a_task_that_breaks_its_own_end_ends_its_process(monkeypatch: pytest.MonkeyPatch, ends: list[int]) -> None:
    """It was alone, so nobody else is to blame: as one that shared its process it would be executed again for ever."""
    stage = Stage()
    with leading(stage) as lead:
        lead.begin_to_wait(stage)
        monkeypatch.setattr(lead.side, "end_task", None)
        stage.gate.set()
        lead.until(lambda: bool(ends))

    assert lead.reports[-1].spoiled is None


def test_signals_that_a_task_blocks_are_not_blocked_for_the_next_one_on_its_thread() -> None:
    stage = Stage()
    with leading(stage) as lead:
        lead.order(0, [work(0, "block signals"), *[work(number) for number in range(1, 20)]], threads=1)
        lead.until(lambda: 0 in lead.ended)

    assert len(stage.masks) == 20
    assert all(mask == stage.masks[0] for mask in stage.masks)


# An interruption that comes while a callback of the garbage collector executes (hypothesis has one) is swallowed there,
# and pytest makes a warning of that.
swallowed_interruptions = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@swallowed_interruptions
def test_tasks_that_end_at_their_deadline_do_not_pass_it_on() -> None:
    """An interruption that comes just as its task ends hits nothing that is executed afterwards."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(0, [work(number, timeout_s=1e-5) if number % 2 else work(number) for number in range(4_000)])
        lead.until(lambda: 0 in lead.ended)

    found = reasons(lead.ended[0])
    assert len(found) == 4_000
    assert {reason for number, reason in found.items() if number % 2 == 0} == {"completed"}
    assert {reason for number, reason in found.items() if number % 2} <= {"completed", "timeout"}


@swallowed_interruptions
def test_an_interruption_leaves_the_interpreter_as_it_was() -> None:
    """After interruptions a profiler works in that process: nothing is left on its way to a thread."""
    test_tasks_that_end_at_their_deadline_do_not_pass_it_on()
    calls: list[str] = []

    sys.setprofile(lambda frame, event, argument: calls.append(event))
    work(1)
    sys.setprofile(None)

    assert "call" in calls


def test_revoked_tasks_are_let_go_of() -> None:
    """Tasks that are revoked are interrupted, or never begun; they are reported as cancelled, or not at all."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(0, [work(0, "loop"), work(1, "wait"), work(2, "nap"), work(3, "nap")], threads=2)
        lead.until(lambda: stage.busy == 2)
        CrashMarker(lead.guard.marker.name).revoke([0, 3])
        os.kill(os.getpid(), LOOK)
        lead.until(lambda: stage.busy == 1)
        stage.gate.set()
        lead.until(lambda: 0 in lead.ended)

    assert reasons(lead.ended[0]) == {0: "cancelled", 1: "completed", 2: "completed"}


def test_what_was_executed_beside_a_changed_process_is_not_reported() -> None:
    """If a task has changed the process, the chunks that have begun are named as spoiled, and no result is reported."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(0, [work(0, "chdir"), work(1), work(2)])
        lead.order(1, [work(3, "wait")])
        lead.until(lambda: lead.side.is_over)

    assert lead.reports[-1].spoiled is not None
    assert 0 in lead.reports[-1].spoiled.chunks
    assert lead.reports[-1].spoiled.message == "working directory"
    assert not lead.ended


def test_what_a_task_alone_changes_is_put_back() -> None:
    """A task with no other beside it is reported as ever, and the next chunk finds the process as it was."""
    stage, before = Stage(), os.getcwd()
    with leading(stage) as lead:
        lead.order(0, [work(0, "chdir")], threads=1)
        lead.until(lambda: 0 in lead.ended)
        lead.order(1, [work(1)], threads=1)
        lead.until(lambda: 1 in lead.ended)

    assert reasons(lead.ended[0]) == {0: "completed"}
    assert os.getcwd() == before


def move_at_one(number: int) -> str:
    """The working directory, which the call of 1 changes."""
    found = os.getcwd()
    if number == 1:
        os.chdir("/")
    return found


def test_calls_of_a_group_are_as_far_apart_as_tasks() -> None:
    """A group in which a call has changed the process does not count; alone it is looked at after each call."""
    packer, before = CallPacker(), os.getcwd()
    packed = packer.pack_function(move_at_one)
    group = Work(0, 0, packer.pack_group(packed, [(number,) for number in range(4)]))
    shelf = FileShelf(contents={packed.sha256: packed.content})

    with leading(Stage(), domain=FUNCTION_DOMAIN, shelf=shelf) as lead:
        lead.order(7, [group])
        lead.until(lambda: lead.side.is_over)
    with leading(Stage(), domain=FUNCTION_DOMAIN, shelf=shelf) as alone:
        alone.orders.append(Order(0, Message.CHUNK, WIDTH, 7, [group], math.inf))
        alone.until(lambda: any(report.ended == 7 for report in alone.reports))

    assert lead.reports[-1].spoiled == ([7], "working directory")
    (executed,) = next(report.executed for report in alone.reports if report.ended == 7)
    assert read_group(executed.result).values == [before] * 4
    assert not alone.side.is_spoiled
    assert os.getcwd() == before


def test_gradients_that_a_task_switches_off_are_on_for_the_next_one_on_its_thread() -> None:
    """Torch has that setting for each thread: nobody else feels it meanwhile."""
    torch = pytest.importorskip("torch")

    def act(parameters: Any, seed: int, threads: int) -> bool:
        found: bool = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        return found

    with leading(Stage(), domain=Domain("acts", DeedParameters, act, lambda _: "acts")) as lead:
        lead.order(0, [work(number) for number in range(20)], threads=1)
        lead.until(lambda: 0 in lead.ended)

    (report,) = [report for report in lead.reports if report.ended == 0]
    assert {decode(execution.result) for execution in report.executed} == {True}


WATCHED = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from dfz_ray.execution.execute import Work
from dfz_ray.worker.thread_deadlines import ThreadDeadlineGuard
from dfz_ray.worker.crash_marker import CrashMarker
guard = ThreadDeadlineGuard(CrashMarker("test/watched", 2), 0.1, 2)
with guard.on_duty():
    slots = [guard.take_slot(), guard.take_slot()]
    guard.begin(slots[0], Work(5, 0, b"", 60.0))
    guard.begin(slots[1], Work(6, 0, b"", 0.2))
    if sys.argv[2] == "ends":
        guard.end(slots[1])
        guard.rest()
    time.sleep(1.0)
print("alive")
"""


@pytest.mark.parametrize(("how", "left"), [("ends", "alive\n"), ("hangs", "")])
def test_the_watchdog_ends_a_process_only_for_a_task_that_hangs(how: str, left: str, tmp_path: Path) -> None:
    """A task that hangs beyond deadline and grace ends the process, and the crash marker names it; others don't."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path), how], capture_output=True, text=True, timeout=60
    )

    assert done.stdout == left
    crash_report = CrashMarker("test/watched").read_crash_report(grace_s=0.1)
    if how == "hangs":
        assert crash_report.executing == (5, 6)
        assert crash_report.overdue == (6,)
        assert "time.sleep" in crash_report.dump or "<string>" in crash_report.dump


def test_tasks_run_again_where_one_of_them_has_broken_what_executes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that fails between two tasks does not make the lease wait for ever, and no task is charged for it."""
    stage = Stage()
    with leading(stage) as lead:
        lead.order(1, [work(number, "wait" if number else "nap") for number in range(4)])
        lead.until(lambda: stage.busy == 3)

        def refuse(*_: object) -> None:
            raise RuntimeError("a task has left this")

        with monkeypatch.context() as patched:
            patched.setattr(ThreadDeadlineGuard, "end", refuse)
            stage.gate.set()
            lead.until(lambda: lead.side.is_over)
    (spoiled,) = [report.spoiled for report in lead.reports if report.spoiled is not None]
    assert spoiled.chunks == [1]
    assert lead.ended == {}
