"""When leases end: others wait for their places, or they have lingered for long enough."""

from __future__ import annotations

import pytest
from support.virtual_cluster import Job, VirtualCluster
from support.witness import Witness, chunk_ended

from dfz_ray.engine.messages import AnswerEnd, GiveChunk, KindEntry, PlacesWanted, StopAsked, TasksSubmitted
from dfz_ray.simulation.worker import SentReport
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State


def test_a_lease_lasts_as_long_as_nobody_else_is_due() -> None:
    """However long a run takes, its leases go on where nobody waits for their places."""
    cluster = VirtualCluster(4, lease_s=0.5)
    cluster.submit([Job("k", 0.03)] * 2000)

    cluster.play()

    assert cluster.makespan_s > 10
    assert len(cluster.witness.lane_of_lease) == 4


def test_a_lease_whose_place_is_wanted_ends_after_its_time() -> None:
    """As many leases as others want places for end at the end of a chunk, once they are `lease_s` old."""
    cluster = VirtualCluster(4, lease_s=0.5)
    cluster.submit([Job("k", 0.03)] * 2000)
    cluster.tell_at(PlacesWanted(2), at=0.1)

    cluster.play()

    last = {handed.lease: handed.at for handed in cluster.witness.handed}
    early = sorted(at for at in last.values() if at < 3.0)
    assert len(early) == 2
    assert early[0] > 0.3  # the last chunk that it got before its time
    assert early[1] < 0.52
    assert len(last) == 6


def test_lanes_take_turns_where_there_is_room_for_one_lease() -> None:
    """A lease ends after its time, and not before, if Ray has not placed the lease of another lane."""
    witness = Witness(2, lease_s=0.5)
    kinds = [KindEntry("a", 0, Policy()), KindEntry("b", 1, Policy())]
    witness.tell(TasksSubmitted(kinds, [0, 1] * 100))
    lease = min(witness.out)

    for now, expected in ((0.0, GiveChunk), (0.4, GiveChunk), (0.5, AnswerEnd)):
        answer = witness.ask(lease, now)
        assert type(answer) is expected
        if isinstance(answer, GiveChunk):
            witness.tell(chunk_ended(lease, answer.chunk, 0.1), now)


def test_a_lease_lingers_and_gets_the_next_task_at_once() -> None:
    """A task that comes within `linger_s` begins on the lease of the one before, in one message; later ones do not."""
    cluster = VirtualCluster(1, linger_s=1.0, delays={"start": 0.2, "message": 0.01, "commit": 0.0}.__getitem__)
    for at in (0.0, 0.5, 1.2, 3.0):
        cluster.submit([Job("k", 0.001)], at=at)

    cluster.play()

    began = [execution.began_s for execution in cluster.executions]
    assert began == pytest.approx([0.22, 0.51, 1.21, 3.22])
    assert [handed.lease for handed in cluster.witness.handed] == [0, 0, 0, 1]
    assert not cluster.workers


def test_a_lease_that_lingers_makes_room_for_another_lane() -> None:
    """A task of another shape gets the only slot at once, not when the lease that has it has lingered."""
    cluster = VirtualCluster(1, linger_s=100.0)
    cluster.submit([Job("a", 0.01, lane=0)])
    cluster.submit([Job("b", 0.01, lane=1)], at=1.0)

    cluster.play(until_s=1.1)

    assert [execution.number for execution in cluster.executions] == [0, 1]


def test_a_lease_that_lingers_ends_as_soon_as_its_place_is_wanted() -> None:
    """Of three leases that linger two end when two places are wanted, and the third when the run is stopped."""
    cluster = VirtualCluster(3, linger_s=100.0)
    cluster.submit([Job("k", 0.5)] * 3)
    cluster.tell_at(PlacesWanted(2), at=2.0)

    cluster.play(until_s=2.1)
    assert len(cluster.workers) == 1
    cluster.tell_at(StopAsked(), at=3.0)
    cluster.play(until_s=3.1)
    assert not cluster.workers


def test_a_chunk_that_none_follows_ahead_takes_one_exchange() -> None:
    """Tasks that each are a chunk cost one report each; its beginning is known without one."""
    cluster = VirtualCluster(2)
    cluster.submit([Job("k", 3.0)] * 20)
    reports = 0
    deliver = cluster.deliver

    def count(message: SentReport) -> None:
        nonlocal reports
        reports += 1
        deliver(message)

    cluster.deliver = count  # type: ignore[method-assign]
    cluster.play(until_s=4.0)
    assert cluster.witness.engine.tasks.counts[State.RUNNING] == 2
    cluster.play()

    assert set(cluster.witness.outcome.values()) == {"completed"}
    assert reports == 2 + 20
