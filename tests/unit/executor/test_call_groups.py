"""The calls of a group are as far apart as tasks are: what one of them does to its process no other one feels."""

from __future__ import annotations

import contextvars
import decimal
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.child import in_child
from support.state_changes import DEEDS, Alarm, feel

from dfz_ray.execution.execute import Guard, Work, execute_chunk
from dfz_ray.executor.call_packing import CallPacker
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN, read_group
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker.crash_marker import CrashMarker
from dfz_ray.worker.deadlines import DeadlineGuard
from dfz_ray.worker.process_state import ProcessState

PACKER = CallPacker()
"""Made here, for it imports ray, as a worker has."""


def act(what: str) -> str:
    """Change the state, or return what is felt of it."""
    if what:
        DEEDS[what]()
        return what
    return str(sorted(feel().items()))


def make_calls(
    function: Callable[..., Any],
    *items: Any,
    settle: Callable[[], bool] = lambda: False,
    guard: Guard | None = None,
    timeout_s: float | None = None,
) -> tuple[list[Any], dict[int, str]]:
    """Make calls of one group, as a worker does: their values, and the messages of those that failed."""
    packed = PACKER.pack_function(function)
    work = Work(0, 0, PACKER.pack_group(packed, [(item,) for item in items]), timeout_s)
    shelf = FileShelf(contents={packed.sha256: packed.content})
    (done,) = execute_chunk(FUNCTION_DOMAIN, [work], 1, shelf, guard=guard, settle=settle)
    if done.failure is not None:
        return [], {-1: done.failure.reason}
    try:
        values, failures = read_group(done.result or b"")
    except TypeError:  # a call has changed what encodes it
        return [], {-1: "unreadable"}
    return values, {position: failure.message for position, failure in failures.items()}


class Played(NamedTuple):
    """A group of calls, of which the second one changes the state, and the process after it."""

    before: list[Any]
    """What a call feels before that."""
    values: list[Any]
    failures: dict[int, str]
    change: str
    is_of_one: bool

    def assert_felt(self, what: str) -> None:
        """Assert that the other calls have felt what was there before."""
        felt = [value for value in self.values if value != what and value is not None]
        assert felt == self.before * (len(self.values) - 1)
        assert self.failures.keys() <= {1}


def play_group(what: str, is_alone: bool) -> Played:
    """Make calls beside one that changes the state, in a process of their own."""

    def play() -> Played:
        state = ProcessState()
        settle = state.settle_alone if is_alone else state.settle
        before, _ = make_calls(act, "", settle=settle)
        values, failures = make_calls(act, "", what, *[""] * 5, settle=settle)
        state.rest()
        return Played(before, values, failures, state.change, state.is_of_one)

    played: Played = in_child(play)
    return played


@pytest.mark.parametrize("what", DEEDS)
def test_no_call_of_a_group_feels_what_another_one_has_changed(what: str) -> None:
    """Calls beside one that changes the state feel nothing of it, or the group's results do not count."""
    played = play_group(what, is_alone=False)

    if not played.change or played.is_of_one:
        assert len(played.values) > 1
        played.assert_felt(what)


@pytest.mark.parametrize("what", DEEDS)
def test_calls_of_a_group_that_is_alone_always_count(what: str) -> None:
    """A group that is executed again by itself ends at the call that spoils the process; what it has made counts."""
    played = play_group(what, is_alone=True)

    played.assert_felt(what)
    assert (len(played.values), played.is_of_one) == ((2, True) if played.change else (7, played.is_of_one))


def test_what_the_first_call_of_a_lease_changes_is_put_back_before_the_next_one() -> None:
    """Calls that all change the state cost nobody their group."""

    def move(number: int) -> tuple[str, str | None]:
        found = os.getcwd(), os.environ.get("DFZ_MODE")
        os.chdir("/usr")
        os.environ["DFZ_MODE"] = "coarse"
        return found if number % 2 else 1 // 0

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        made = make_calls(move, *range(6), settle=state.settle)
        state.rest()
        return *made, state.change, os.getcwd()

    values, failures, change, folder = in_child(play)

    assert values == [None, (folder, None)] * 3
    assert list(failures) == [0, 2, 4]
    assert change == ""


def test_a_group_that_is_alone_ends_at_a_call_that_leaves_a_thread() -> None:
    """What the thread changes would be nobody's: the calls after it are made in another process."""

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        values, _ = make_calls(leave_thread, 0, 1, 2, 3, settle=state.settle_alone)
        state.rest()
        return values, state.change, state.is_of_one

    assert in_child(play) == ([0, 1], "the threads of its process", True)


def leave_thread(number: int) -> int:
    """Leave a thread that changes the state."""
    if number == 1:
        threading.Thread(target=lambda: time.sleep(0.01) or os.chdir("/"), daemon=True).start()
    return number


_variable: contextvars.ContextVar[int] = contextvars.ContextVar("_variable", default=0)


def set_variables(number: int) -> tuple[int, int]:
    """Set variables of the context; returns what they were."""
    found = _variable.get(), decimal.getcontext().prec
    _variable.set(number)
    decimal.getcontext().prec = number
    return found


def test_context_variables_of_a_call_end_with_it() -> None:
    """What a call sets in its context, such as decimal's precision, no other one finds, nor is it a change."""

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        values, _ = make_calls(set_variables, 3, 4, 5, settle=state.settle_alone)
        amounts, _ = make_calls(str, *map(decimal.Decimal, range(3)), settle=state.settle_alone)
        return values, amounts, state.change

    assert in_child(play) == ([(0, 28)] * 3, ["0", "1", "2"], "")


@pytest.mark.parametrize("ending", ["return", "raise"])
def test_a_child_that_a_call_forks_makes_no_call_after_it(tmp_path: Path, ending: str) -> None:
    """The child ends where its call ends, with the code that a program would have."""
    log = tmp_path / "log"

    def fork_at_one(number: int) -> int:
        with log.open("a") as out:
            out.write(f"{number}\n")
        if number == 1:
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if ending == "raise":
                sys.exit(3)
        return 0

    values, _ = make_calls(fork_at_one, 0, 1, 2, 3)

    assert values == [0, 3 if ending == "raise" else 0, 0, 0]
    assert log.read_text().split() == ["0", "1", "2", "3"]


def test_a_timer_that_a_call_leaves_behind_hits_no_other_one() -> None:
    """The exception of its handler is the failure of the call that has set it, or hits nobody."""

    def play() -> tuple[Any, ...]:
        state, repeated = ProcessState(), ["repeating alarm", ""] * 50
        return *make_calls(leave_timer, *repeated, settle=state.settle), state.change

    values, failures, change = in_child(play)

    assert values[1::2] == [100] * 50
    assert set(failures.values()) <= {Alarm.__name__}
    assert change == ""


def leave_timer(what: str) -> int:
    """Leave a timer, or work for as long as it would take."""
    if what:
        DEEDS[what]()
        return 0
    end = time.perf_counter() + 2e-3
    while time.perf_counter() < end:
        sum(range(50))
    return 100


def take_alarm(number: int) -> None:
    """Take the alarm of the group's deadline at first, then run for ever."""
    if number == 0:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.alarm(3600)
    elif number == 1:
        signal.alarm(3600)
    else:
        while True:
            sum(range(50))


def test_a_call_that_takes_the_alarm_leaves_the_deadline_to_the_others() -> None:
    """A group keeps its deadline, whatever its calls do with the alarm."""

    def play() -> tuple[list[Any], dict[int, str]]:
        guard = DeadlineGuard(CrashMarker(f"test/{os.getpid()}-{time.time_ns()}"), 20.0)
        with guard.on_duty():
            return make_calls(take_alarm, *range(3), settle=ProcessState().settle, guard=guard, timeout_s=0.2)

    assert in_child(play) == ([], {-1: "timeout"})
