"""What a relay gathers, and when it is sent."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dfz_ray.protocol.relay_side import GATHER_S, MOST_GATHER_S, PATIENCE_S, RelaySide, adapt_gathering


def send(side: RelaySide[str], report: str, now: float) -> None:
    """Bring a report that nothing holds up."""
    side.add(report)
    assert side.due_at <= now
    assert side.take_group(now) == [report]


def test_a_report_is_sent_at_once_if_nothing_is_on_its_way() -> None:
    """The first one, and one after an answer, wait for nothing."""
    side: RelaySide[str] = RelaySide()
    for now in (0.0, 1.0, 1.0001):
        send(side, "a", now)
        side.on_answer()
    assert side.due_at == math.inf


def test_reports_wait_for_the_answer_to_those_before() -> None:
    """However long the manager takes, it gets all that have come meanwhile in one group."""
    side: RelaySide[str] = RelaySide()
    send(side, "a", 1.0)
    for number in range(9):
        side.add(str(number))
        assert side.take_group(1.0 + PATIENCE_S * (number + 1) / 10) == []
    side.on_answer()

    assert side.take_group(1.0 + 0.95 * PATIENCE_S) == list("012345678")


def test_a_group_whose_answer_is_lost_holds_up_nothing_for_long() -> None:
    """After a second the next group goes. While one of them is on its way, reports are gathered."""
    side: RelaySide[str] = RelaySide()
    send(side, "a", 1.0)
    send(side, "b", 1.0 + PATIENCE_S)
    side.on_answer()
    side.add("c")

    assert side.take_group(1.0 + PATIENCE_S) == []
    assert side.due_at == 1.0 + 2 * PATIENCE_S
    side.on_answer()
    assert side.take_group(1.0 + PATIENCE_S) == ["c"]


def test_a_busy_manager_gets_large_groups_however_soon_it_answers() -> None:
    """When it wants reports to be gathered for longer, an answer allows nothing."""
    side: RelaySide[str] = RelaySide()
    side.gather_s = 2 * GATHER_S
    side.add("a")
    assert side.take_group(1.0) == ["a"]
    side.on_answer()
    side.add("b")

    assert side.take_group(1.0 + GATHER_S) == []
    assert side.take_group(1.0 + 2 * GATHER_S) == ["b"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.1), st.booleans()), max_size=50))
def test_a_relay_loses_and_doubles_nothing(reports: list[tuple[float, bool]]) -> None:
    """Whenever reports and answers come, each report is in one group, in the order in which they came."""
    side: RelaySide[int] = RelaySide()
    now, sent = 0.0, []
    for number, (pause_s, is_answered) in enumerate(reports):
        now += pause_s
        if is_answered:
            side.on_answer()
        sent += side.take_group(now)
        side.add(number)
        sent += side.take_group(now)
    sent += side.take_group(math.inf)

    assert sent == list(range(len(reports)))


def test_relays_gather_for_longer_while_the_manager_is_busy() -> None:
    """From look to look more, up to a limit, and less again when the manager has time."""
    gather_s = GATHER_S
    for _ in range(50):
        longer_s = adapt_gathering(gather_s, cores=0.9)
        assert gather_s < longer_s <= MOST_GATHER_S or gather_s == MOST_GATHER_S
        gather_s = longer_s
    assert gather_s == MOST_GATHER_S
    assert adapt_gathering(gather_s, cores=0.4) == gather_s
    for _ in range(50):
        gather_s = adapt_gathering(gather_s, cores=0.1)
    assert gather_s == GATHER_S
