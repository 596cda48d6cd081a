"""Deadlines where no lease keeps them: a task that is over time fails, and the next one has its own time."""

from __future__ import annotations

import signal
import time

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.alarm import keep_deadlines
from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.specs.encoding import encode
from dfz_ray.specs.input_file import FileShelf


class Nap(Parameters):
    """The seconds that a task sleeps; with `takes_alarm` it turns the alarm off before."""

    nap_s: float = 0.0
    takes_alarm: bool = False


def sleep(parameters: Nap, seed: int, threads: int) -> int:
    if parameters.takes_alarm:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        time.sleep(parameters.nap_s)
    except Exception:  # a deadline is no error that a task may keep to itself
        return -1
    return seed


def work(number: int, timeout_s: float | None, **parameters: object) -> Work:
    return Work(number, number, encode(parameters), timeout_s)


def end_all(*works: Work) -> list[str]:
    """The reason for which each task failed, or nothing."""
    domain = Domain("nap", Nap, sleep, lambda _: "nap")
    with keep_deadlines(works) as guard:
        executed = execute_chunk(domain, works, 1, FileShelf(), guard=guard)
    return ["" if one.failure is None else one.failure.reason for one in executed]


def test_a_task_over_time_fails_alone() -> None:
    """The task that sleeps for a minute ends at its deadline; those around it complete, with a deadline or without."""
    begun = time.monotonic()
    assert end_all(work(0, 20.0), work(1, 0.1, nap_s=60.0), work(2, None), work(3, 20.0)) == ["", "timeout", "", ""]
    assert time.monotonic() - begun < 30


def test_an_alarm_that_a_task_took_is_set_again() -> None:
    """A task that turns the alarm off does not take the next task's deadline away."""
    assert end_all(work(0, 20.0, takes_alarm=True), work(1, 0.1, nap_s=60.0)) == ["", "timeout"]


def test_the_alarm_of_the_process_is_as_before() -> None:
    """Without a deadline there is no guard; with one the alarm is off afterwards, and its handler is that of before."""
    with keep_deadlines([work(0, None)]) as guard:
        assert guard is None
    before = signal.getsignal(signal.SIGALRM)
    end_all(work(0, 0.05, nap_s=60.0))
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
