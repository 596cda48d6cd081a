"""Others that wait for places in the cluster, as Ray's list of requests shows them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from dfz_ray.manager import place_watch
from dfz_ray.manager.nodes import request_of
from dfz_ray.manager.place_watch import PlaceWatch, Request
from dfz_ray.specs.resources import Resources

LANES = [Resources(), Resources(cpus=2)]


def make_request(lane: int) -> Request:
    """The request of a lease of a lane, or of another program for the same."""
    return frozenset(request_of(LANES[lane]).items())


def watch(
    monkeypatch: pytest.MonkeyPatch, looks: Sequence[Mapping[int, int]], own: Sequence[Mapping[int, int]]
) -> list[int]:
    """The places that are told to be wanted.

    At each look Ray has so many requests by lane, and the run has called so many leases that are not placed.
    """
    wanted: list[int] = []
    unseen = list(looks)
    unplaced = [count for counts in own for count in (counts, counts)]  # before a look at Ray's list, and after it

    def read_requests() -> Counter[Request]:
        return Counter({make_request(lane): count for lane, count in unseen.pop(0).items()})

    monkeypatch.setattr(place_watch, "read_requests", read_requests)
    monkeypatch.setattr(place_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(place_watch, "LOOKS_SHARE", 1e9)

    async def work() -> None:
        watch = PlaceWatch(
            lambda now: bool(unseen), LANES, lambda: unplaced.pop(0), lambda event: wanted.append(event.places)
        )
        async with asyncio.timeout(30):
            while unplaced:
                await asyncio.sleep(0)
        watch.close()

    asyncio.run(work())
    return wanted


def test_requests_of_others_are_wanted_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they ask for in two looks is told in leases of one CPU, and that it is no longer asked for."""
    looks: list[dict[int, int]] = [{0: 3}, {0: 2, 1: 1}, {0: 1, 1: 1}, {}, {}]

    assert watch(monkeypatch, looks, [{}] * 5) == [2, 3, 0]


def test_leases_that_were_called_are_no_requests_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal requests those of the run itself are left out, and no more than those."""
    looks = [{0: 5}, {0: 5}, {0: 5}]

    assert watch(monkeypatch, looks, [{0: 4}, {0: 4}, {0: 7}]) == [1, 0]


def test_places_are_wanted_while_someone_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told at each look, for a lease may have come to its end since."""
    assert watch(monkeypatch, [{1: 1}] * 4, [{}] * 4) == [2, 2, 2]


def test_leases_that_ray_places_during_a_look_are_no_requests_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a large cluster a look takes a while: what was its own at the beginning is in Ray's list."""
    monkeypatch.setattr(place_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(place_watch, "LOOKS_SHARE", 1e9)
    monkeypatch.setattr(place_watch, "read_requests", lambda: Counter({make_request(0): 8}))
    counts, wanted = [{0: 8}, {}] * 4, []

    async def work() -> None:
        watch = PlaceWatch(lambda now: True, LANES, lambda: counts.pop(0), lambda event: wanted.append(event.places))
        async with asyncio.timeout(30):
            while counts:
                await asyncio.sleep(0)
        watch.close()

    asyncio.run(work())
    assert not wanted


def test_a_look_that_waits_for_its_answer_does_not_put_off_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may be late, though it costs nothing: others wait no longer for their places."""
    monkeypatch.setattr(place_watch, "LOOK_S", 0.0)
    wanted: list[int] = []

    def read_requests() -> Counter[Request]:
        time.sleep(0.2)
        return Counter({make_request(0): 4})

    monkeypatch.setattr(place_watch, "read_requests", read_requests)

    async def work() -> None:
        watch = PlaceWatch(lambda now: True, LANES, dict, lambda event: wanted.append(event.places))
        async with asyncio.timeout(0.2 / place_watch.LOOKS_SHARE):
            while not wanted:
                await asyncio.sleep(0.01)
        watch.close()

    asyncio.run(work())
    assert wanted == [4]


def test_what_was_wanted_is_forgotten_where_there_is_nothing_left_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that lingers later is kept, until a look finds that others wait for its place."""
    monkeypatch.setattr(place_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(place_watch, "LOOKS_SHARE", 1e9)
    monkeypatch.setattr(place_watch, "read_requests", lambda: Counter({make_request(0): 4}))
    wanted: list[int] = []

    async def work() -> None:
        watch = PlaceWatch(lambda now: not wanted, LANES, dict, lambda event: wanted.append(event.places))
        async with asyncio.timeout(30):
            while len(wanted) < 2:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        watch.close()

    asyncio.run(work())
    assert wanted == [4, 0]
