"""What a relay gathers, and when it is sent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfz_ray.protocol.relay_side import GATHER_S, MOST_GATHER_S, RelaySide, adapt_gathering


def test_a_report_after_a_pause_is_sent_at_once() -> None:
    """A report that comes longer after a group than reports are gathered waits for nothing."""
    side: RelaySide[str] = RelaySide()
    for now in (0.0, 1.0, 1.0 + GATHER_S):
        side.add(f"at {now}")
        assert side.take_group(now) == [f"at {now}"]


def test_reports_that_follow_soon_go_together() -> None:
    """Those that come soon after a group are sent together, when they have been gathered for long enough."""
    side: RelaySide[str] = RelaySide()
    side.add("a")
    assert side.take_group(1.0) == ["a"]
    side.add("b")
    side.add("c")

    assert side.take_group(1.0 + GATHER_S / 2) == []
    assert side.due_at == 1.0 + GATHER_S
    assert side.take_group(side.due_at) == ["b", "c"]
    assert side.due_at == math.inf


def test_a_report_after_an_answer_is_sent_at_once() -> None:
    """Once nothing is on its way any more, a report waits for nothing, and neither do those that were gathered."""
    side: RelaySide[str] = RelaySide()
    side.add("a")
    assert side.take_group(1.0) == ["a"]
    side.on_answer()
    side.add("b")
    assert side.take_group(1.0001) == ["b"]
    side.add("c")
    assert side.take_group(1.0002) == []
    side.on_answer()
    assert side.due_at <= 1.0003
    assert side.take_group(1.0003) == ["c"]


def test_one_answer_of_two_allows_nothing() -> None:
    """While another group is on its way, reports are gathered."""
    side: RelaySide[str] = RelaySide()
    for now in (1.0, 1.0 + GATHER_S):
        side.add("a")
        assert side.take_group(now) == ["a"]
    side.on_answer()
    side.add("b")

    assert side.take_group(1.0 + GATHER_S) == []
    assert side.due_at == pytest.approx(1.0 + 2 * GATHER_S)


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
    assert adapt_gathering(gather_s, cores=0.35) == gather_s
    for _ in range(50):
        gather_s = adapt_gathering(gather_s, cores=0.1)
    assert gather_s == GATHER_S
