"""The verdict of a study, as the top of its page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dfz_ray.scaling.number_texts import show_interval, show_number, show_percent, show_seconds

Mood = Literal["good", "none", "unsure", "alarm"]
LABELS: Mapping[Mood, str] = {
    "good": "Recommendation",
    "none": "Not worth it",
    "unsure": "Undecided",
    "alarm": "Answers changed",
}


@dataclass(frozen=True)
class Tile:
    """A number that the verdict rests on."""

    name: str
    value: str
    below: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict, in a sentence, with its reservations and its numbers."""

    mood: Mood
    sentence: str
    more: Sequence[str]
    tiles: Sequence[Tile]

    @property
    def label(self) -> str:
        """The kind of the verdict in words."""
        return LABELS[self.mood]


def make_verdict(summary: Mapping[str, Any]) -> Verdict:
    """The verdict: the clauses of the recommendation, and the numbers of the point that it is about."""
    recommended = summary["recommendation"]
    sentence, *more = (f"{clause[:1].upper()}{clause[1:]}." for clause in recommended["reason"].split("; "))
    if summary["why_ended"] == "":
        trials = sum(entry["repeats"] + len(entry["errors"]) for entry in [summary["baseline"], *summary["points"]])
        more.insert(0, f"The study was interrupted after {trials} trials; dfz scale --resume goes on with it.")
    workers = recommended["workers"]
    mood: Mood = "unsure" if workers is None else "good" if workers else "none"
    if summary["digests_equal"] is False:
        mood = "alarm"
    return Verdict(mood, sentence, more, _make_tiles(summary))


def _make_tiles(summary: Mapping[str, Any]) -> list[Tile]:
    """The numbers of the recommended point, or of the one with the highest throughput."""
    recommended, baseline = summary["recommendation"], summary["baseline"]
    timed = [point for point in summary["points"] if point["wall_s"] is not None]
    if not timed:
        return []
    mode = recommended.get("mode")
    chosen = [
        point for point in timed if point["workers"] == recommended["workers"] and mode in (None, point.get("mode"))
    ]
    point = chosen[0] if chosen else max(timed, key=lambda point: point["tasks_per_s"] or 0.0)
    workers, repeats = _count(point["workers"], "worker"), _count(point["repeats"], "repeat")
    tiles = [Tile(f"Time with {workers}", show_seconds(point["wall_s"]), _bounds(point["wall_s_ci95"], repeats))]
    if baseline["wall_s"] is not None:
        tiles.append(
            Tile(
                "Sequential program",
                show_seconds(baseline["wall_s"]),
                _bounds(baseline["wall_s_ci95"], _count(baseline["repeats"], "repeat")),
            )
        )
    if point["speedup"] is not None:
        bounds = _bounds(point["speedup_ci95"], f"{repeats}: no interval")
        tiles.append(Tile("Speedup", show_number(point["speedup"], "x"), bounds))
        ends = point["efficiency_ci95"]
        share = f"95 %: {show_percent(ends[0])} to {show_percent(ends[1])}" if ends else f"{repeats}: no interval"
        tiles.append(Tile("Efficiency", show_percent(point["efficiency"]), share))
    return tiles


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _bounds(ends: Sequence[float] | None, otherwise: str) -> str:
    return f"95 %: {show_interval(ends)}" if ends else otherwise
