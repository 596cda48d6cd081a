"""Second attempts of late tasks: the one that completes first counts, and no task is the worse for it."""

from __future__ import annotations

import pytest
from support.virtual_cluster import Job, VirtualCluster

from dfz_ray.engine.messages import CancelAsked, InterruptLease, NoteAttemptsLost, StopAsked
from dfz_ray.simulation import SimulatedAttempt
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State

SPECULATE = Policy(speculate=True, max_attempts=1)
SLOW = 40
"""The task whose attempts take as long as a test says; the others take a second."""
COMPLETES, FAILS, CRASHES = "", "exception", "worker_crashed"


class UnevenCluster(VirtualCluster):
    """Forty tasks of a second, on four slots, and one more: the course of each of its attempts is given."""

    def __init__(self, *attempts: tuple[float, str], policy: Policy = SPECULATE, tasks: int = SLOW) -> None:
        super().__init__(4, told=lambda executing: executing)
        self.begun = 0
        """The attempts at the uneven task."""
        self._attempts = attempts
        self._slow = tasks
        self.submit([Job("k", 1.0, policy=policy)] * (tasks + 1))

    def attempt(self, number: int) -> SimulatedAttempt:
        if number != self._slow:
            return super().attempt(number)
        duration_s, reason = self._attempts[self.begun]
        self.begun += 1
        return SimulatedAttempt(duration_s, reason, kills=reason == CRASHES)

    @property
    def outcome(self) -> str:
        """The outcome of the uneven task."""
        return self.witness.outcome[self._slow]


def test_a_late_task_is_executed_a_second_time() -> None:
    """Where the first attempt hangs, the second one completes the task; the first is ended, and is superseded."""
    cluster = UnevenCluster((500.0, COMPLETES), (1.0, COMPLETES)).play()

    assert cluster.begun == 2
    assert cluster.outcome == "completed"
    assert cluster.makespan_s < 14.0
    assert not cluster.witness.charged
    assert cluster.engine.tasks.counts[State.COMPLETED] == SLOW + 1


def test_the_first_attempt_may_win() -> None:
    """The second attempt is ended as the first one completes: a task that merely takes long takes no longer by it."""
    cluster = UnevenCluster((30.0, COMPLETES), (500.0, COMPLETES)).play()

    assert cluster.begun == 2
    assert cluster.outcome == "completed"
    assert cluster.makespan_s == pytest.approx(40.0, abs=0.5)


@pytest.mark.parametrize("reason", [FAILS, CRASHES])
@pytest.mark.parametrize("fails_first", [True, False])
def test_an_attempt_that_fails_beside_another_is_not_charged(reason: str, fails_first: bool) -> None:
    """If one of two attempts fails, or kills its worker, the other one decides, even if `max_attempts` is 1."""
    failing_first, failing_second = ((5.0, reason), (8.0, COMPLETES)), ((20.0, COMPLETES), (1.0, reason))
    cluster = UnevenCluster(*(failing_first if fails_first else failing_second)).play()

    assert cluster.begun == 2
    assert cluster.outcome == "completed"
    assert not cluster.witness.charged
    assert cluster.witness.superseded[SLOW] == 1


def test_if_both_attempts_fail_the_last_one_counts() -> None:
    """The attempt that is left is charged as any other; no third one begins."""
    cluster = UnevenCluster((5.0, FAILS), (8.0, FAILS)).play()

    assert cluster.begun == 2
    assert cluster.outcome == "exception"
    assert cluster.witness.charged[SLOW] == 1


def test_a_cancelled_task_loses_both_attempts() -> None:
    """A cancellation ends both attempts, and is committed once."""
    cluster = UnevenCluster((500.0, COMPLETES), (500.0, COMPLETES))
    cluster.tell_at(CancelAsked([SLOW]), 20.0)
    cluster.play()

    assert cluster.begun == 2
    assert cluster.outcome == "cancelled"
    assert cluster.engine.tasks.counts[State.CANCELLED] == 1
    assert not cluster.engine.lease_table.doubled
    assert not cluster.engine.lease_table.revoked


@pytest.mark.parametrize("policy", [Policy(max_attempts=1)])
def test_without_the_policy_nothing_is_executed_twice(policy: Policy) -> None:
    """Speculation is off unless a policy has it."""
    cluster = UnevenCluster((60.0, COMPLETES), policy=policy).play()

    assert cluster.begun == 1


def test_too_few_run_times_tell_nothing() -> None:
    """Ten tasks have no quantile that one could rely on."""
    cluster = UnevenCluster((60.0, COMPLETES), tasks=10).play()

    assert cluster.begun == 1


def test_no_slot_is_taken_from_tasks_that_wait() -> None:
    """While tasks wait, none is executed a second time."""
    cluster = UnevenCluster((500.0, COMPLETES), (1.0, COMPLETES))
    cluster.submit([Job("k", 1.0, policy=SPECULATE)] * 90, at=9.0)
    cluster.play()

    seconds = [one for one in cluster.executions if one.number == SLOW]
    assert cluster.begun == 2
    assert seconds[0].began_s > 38.0


def test_the_loser_is_interrupted_at_once() -> None:
    """The worker of the other attempt is asked to end it in the step that commits the first one's result."""
    cluster = UnevenCluster((500.0, COMPLETES), (1.0, COMPLETES))
    commands = []
    handle = cluster.handle
    cluster.handle = lambda event: commands.extend(found := handle(event)) or found  # type: ignore[method-assign,func-returns-value]
    cluster.play()

    interrupted = [one.numbers for one in commands if isinstance(one, InterruptLease)]
    assert interrupted == [[SLOW]]
    assert not [one for one in commands if isinstance(one, NoteAttemptsLost)]


def test_a_loser_that_hangs_is_superseded_when_its_worker_is_killed() -> None:
    """Whoever reads the journal finds both attempts, also where the worker of the slower one did not let go."""
    cluster = UnevenCluster((500.0, COMPLETES), (1.0, COMPLETES))
    cluster._interrupt = lambda command: None  # type: ignore[method-assign]
    cluster.play()

    assert cluster.makespan_s < 20.0
    assert cluster.outcome == "completed"
    assert cluster.witness.superseded[SLOW] == 1
    assert not cluster.witness.charged


def test_the_last_ones_are_not_late_only_because_the_quick_ones_have_ended() -> None:
    """Of tasks that begin together, and whose run times are even, hardly any gets a second attempt."""
    cluster = VirtualCluster(100)
    cluster.submit([Job("k", 10.0 + 0.1 * number, policy=SPECULATE) for number in range(100)])
    cluster.play()

    assert len(cluster.witness.handed) <= 106
    assert len(cluster.witness.outcome) == 100


def test_a_second_attempt_that_is_lost_with_its_node_is_made_again() -> None:
    """What happens to a second attempt through no fault of its task does not end the hope for the task."""
    cluster = UnevenCluster((500.0, COMPLETES), (500.0, COMPLETES), (1.0, COMPLETES))
    cluster.at(20.0, lambda: cluster.lose(max(cluster.workers), "node_lost"))
    cluster.play()

    assert cluster.begun == 3
    assert cluster.outcome == "completed"
    assert cluster.makespan_s < 25.0
    assert not cluster.witness.charged


def test_tasks_that_come_go_before_a_second_attempt_that_waits() -> None:
    """A second attempt for which Ray has no place holds up nobody."""
    cluster = UnevenCluster((60.0, COMPLETES), (1.0, COMPLETES))
    started = [0.01] * 4
    cluster._delays = lambda what: {"start": (started or [5.0]).pop(), "message": 0.001, "commit": 0.001, "loss": 0.1}[
        what
    ]
    cluster.submit([Job("k", 1.0, policy=SPECULATE)] * 2, at=13.0)
    cluster.play()

    late = [one for one in cluster.executions if one.number > SLOW]
    second = next(one for one in cluster.executions if one.number == SLOW)
    assert len(late) == 2
    assert max(one.began_s for one in late) <= second.began_s
    assert cluster.outcome == "completed"


@pytest.mark.parametrize("width", [1, 4])
def test_tasks_on_threads_get_no_second_attempt(width: int) -> None:
    """A worker with several threads may have to be killed for one attempt: so nothing is executed twice there."""
    cluster = VirtualCluster(4, width=width)
    cluster.submit([Job("k", 1.0 if number < SLOW else 60.0, policy=SPECULATE) for number in range(SLOW + 1)])
    cluster.play()

    assert len(cluster.witness.repeated) == (width == 1)


def test_a_run_that_stops_takes_back_second_attempts_that_wait() -> None:
    """A failure after the stop counts, although a second attempt was about to be handed out."""
    cluster = UnevenCluster((20.0, FAILS), (1.0, COMPLETES))
    delays = iter([0.01] * 4)
    cluster._delays = lambda what: next(delays, 500.0) if what == "start" else 0.001
    cluster.tell_at(StopAsked(), 15.0)
    cluster.play(until_s=60.0)

    assert cluster.begun == 1
    assert cluster.outcome == "exception"
