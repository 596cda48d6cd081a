"""The numbers that the benchmarks compute from their measurements."""

from __future__ import annotations

import io
import itertools
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from before_after import compare, read_overhead
from calibration import SLICE_ITERATIONS, combine, useful_seconds
from circuits import bare_runs, compare_circuit
from contestants import share_out
from domains import LOOPS, make_loops, summarize_ways, ways_tables
from efficiency import Metg, estimate_metg, find_metg
from latency import BUFFERED_CALLS, BUFFERSIZE, measure_calls
from losses import LOSSES, split_losses
from measurement import Measurement, failure
from peers import peers_table, summarize, uneven_table
from peers_figure import draw_peers
from workloads import Batch, burn, even, even_count, foretell, lower_bound, parse_length, show_length, uneven

from dfz_ray.journal.executions import Executed

# --- latency ----------------------------------------------------------------------------------------------------------


class Buffering(ThreadPoolExecutor):
    """An executor whose `map` takes a `buffersize`, in any Python; it notes the calls and the sizes."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[tuple[int, int | None]] = []

    def map(self, fn: Any, *iterables: Any, buffersize: int | None = None) -> Any:  # type: ignore[override]
        """Note."""
        self.asked.append((len(iterables[0]), buffersize))
        return super().map(fn, *iterables)


def test_a_buffered_map_is_measured_where_there_is_one() -> None:
    """Executors whose `map` takes a `buffersize` are measured with one, for each call; others go without."""
    name = "calls: map of 64 no-ops with buffersize 8, each call"
    with Buffering() as executor:
        measured = measure_calls(executor, 1.0)[name]()
        assert executor.asked == [(BUFFERED_CALLS, BUFFERSIZE)]
    assert measured["ms"] > 0
    with ThreadPoolExecutor(1) as pool:
        takes_one = sys.version_info >= (3, 14)
        assert (name in measure_calls(pool, 1.0)) == takes_one


# --- the work ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 3000))
def test_what_the_loop_returns_is_foretold_without_running_it(iterations: int) -> None:
    """A peer that leaves out a task, or a step of one, is found out."""
    assert burn(iterations) == foretell(iterations)


def test_a_length_becomes_steps_by_the_calibration() -> None:
    """A task of 1 ms has ten thousand steps where one takes 100 ns, and half as many where it takes twice as long."""
    batch = Batch("b", [0.001, 0.05, 0.0])

    assert batch.iterations(1e-7) == [10_000, 500_000, 0]
    assert batch.iterations(2e-7) == [5_000, 250_000, 0]


def test_a_slice_that_was_disturbed_does_not_move_the_calibration() -> None:
    """Of each process's slices the median counts, and of the processes the mean."""
    fast, slow = [1e-7 * SLICE_ITERATIONS] * 8, [3e-7 * SLICE_ITERATIONS] * 8

    assert combine([[*fast, 9.0], [*slow, 9.0]]) == pytest.approx(2e-7)


def test_a_drift_of_the_frequency_cancels() -> None:
    """Work that began at one speed and ended at another is valued at the mean of both."""
    assert useful_seconds(1_000_000, 1e-7, 3e-7) == pytest.approx(0.2)


@pytest.mark.parametrize(("grain_s", "count"), [(0.1, 30), (0.001, 3000), (0.0, 150_000), (10.0, 4)])
def test_batches_have_so_much_work_for_each_worker(grain_s: float, count: int) -> None:
    """The number of tasks fills the time that is asked for, with a floor for the shortest and the longest."""
    assert even_count(grain_s, 2, 1.5) == count


def test_the_uneven_batches_are_what_they_say() -> None:
    """The shuffled batch has the tasks of the one with long tasks last, and the same seed draws the same batches."""
    long_last, shuffled, heavy_tail, mixed_kinds = uneven(3)

    assert (long_last.lengths_s.count(0.001), long_last.lengths_s[-40:]) == (3960, [0.05] * 40)
    assert sorted(shuffled.lengths_s) == sorted(long_last.lengths_s)
    assert shuffled.lengths_s != long_last.lengths_s
    longest = sorted(heavy_tail.lengths_s)[-len(heavy_tail.lengths_s) // 10 :]
    assert sum(longest) > sum(heavy_tail.lengths_s) / 3
    of_kind: dict[str, set[float]] = {}
    for kind, length_s in zip(mixed_kinds.kinds or (), mixed_kinds.lengths_s, strict=True):
        of_kind.setdefault(kind, set()).add(length_s)
    assert all(len(lengths) == 1 for lengths in of_kind.values())
    assert len(of_kind) == 4
    assert uneven(3) == [long_last, shuffled, heavy_tail, mixed_kinds]


@pytest.mark.parametrize(
    ("lengths", "workers", "bound"), [([1, 1, 1, 1], 2, 2), ([1, 1, 8], 2, 8), ([3], 4, 3), ([], 2, 0)]
)
def test_no_makespan_is_below_the_bound(lengths: list[float], workers: int, bound: float) -> None:
    """The bound is the work of each worker, or the longest task where that is longer."""
    assert lower_bound(lengths, workers) == bound


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 8))
def test_the_shares_of_the_limit_are_nearly_even(lengths: list[int], workers: int) -> None:
    """Every task is in one share, and the largest is within Graham's bound: a task above what cannot be avoided."""
    shares = share_out(lengths, workers)

    assert sorted(number for share in shares for number, _ in share) == list(range(len(lengths)))
    largest = max(sum(length for _, length in share) for share in shares)
    assert largest <= sum(lengths) / workers + (1 - 1 / workers) * max(lengths, default=0) + 1e-9


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("0", 0.0, "0"),
        ("30us", 30e-6, "30 us"),
        ("1.5 ms", 0.0015, "1.5 ms"),
        ("2s", 2.0, "2 s"),
        ("1ms", 0.001, "1 ms"),
    ],
)
def test_lengths_are_read_and_shown(text: str, seconds: float, shown: str) -> None:
    """A length on the command line and one in a table are written alike."""
    assert parse_length(text) == pytest.approx(seconds)
    assert show_length(seconds) == shown


@pytest.mark.parametrize("text", ["", "1", "ms", "-1ms", "1h", "1e3us"])
def test_what_is_no_length_is_refused(text: str) -> None:
    """A number without a unit, other than 0, could be anything."""
    with pytest.raises(ValueError, match="no length"):
        parse_length(text)


# --- METG -------------------------------------------------------------------------------------------------------------


def test_metg_of_a_known_curve() -> None:
    """Where each task costs 200 us besides its work, half of the time is useful at 200 us."""
    overhead_s = 200e-6
    grains = np.geomspace(1e-5, 1e-1, 60)

    metg = find_metg({grain: grain / (grain + overhead_s) for grain in grains})

    assert metg.bound == ""
    assert metg.grain_s == pytest.approx(overhead_s, rel=0.01)


def test_metg_lies_on_the_straight_line_between_two_grains() -> None:
    """On log scales, 25 % at 100 us and 100 % at 10 ms give 50 % at 1 ms."""
    assert find_metg({1e-4: 0.25, 1e-2: 1.0}).grain_s == pytest.approx(1e-3)


def test_metg_outside_of_what_was_measured_is_no_number() -> None:
    """A curve that stays above one half, or below it, tells on which side of the grains METG lies."""
    assert str(find_metg({3e-5: 0.6, 1e-3: 0.9})) == "below 30 us"
    assert str(find_metg({3e-5: 0.1, 0.1: 0.4})) == "above 100 ms"
    assert str(find_metg({1e-3: 0.5})) == "below 1 ms"


def test_metg_is_the_last_crossing_of_a_curve_with_noise() -> None:
    """A short grain that was lucky does not count where a longer one has less than half."""
    assert find_metg({1e-5: 0.7, 1e-4: 0.25, 1e-2: 1.0}).grain_s == pytest.approx(1e-3)


def test_the_interval_of_metg_covers_the_truth() -> None:
    """With 10 noisy repeats the 95 % interval holds the true METG in about 95 % of all benchmarks."""
    random = np.random.default_rng(5)
    grains = np.geomspace(5e-5, 5e-3, 9)
    truth = find_metg({grain: grain / (grain + 3e-4) for grain in grains}).grain_s
    hits = 0
    for seed in range(40):
        repeats = {grain: list(grain / (grain + 3e-4) * random.lognormal(0.0, 0.1, 10)) for grain in grains}
        _, interval = estimate_metg(repeats, seed)
        assert interval is not None
        hits += interval[0].grain_s <= truth <= interval[1].grain_s
    assert hits >= 34


def test_the_interval_of_metg_may_reach_beyond_what_was_measured() -> None:
    """Repeats of which some stay above one half give an interval that begins below the grains, and says so."""
    metg, interval = estimate_metg({1e-4: [0.3, 0.45, 0.55, 0.6, 0.48], 1e-2: [0.9] * 5})

    assert metg.bound == ""
    assert interval is not None
    assert (str(interval[0]), interval[1].bound) == ("below 100 us", "")
    assert estimate_metg({1e-4: [0.3], 1e-2: [0.9]})[1] is None


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_of_a_known_run() -> None:
    """Each second of both slots counts as what it was."""
    executed = [
        # task, lease, began, ended, CPU, chunk: the first slot waits for a core in its first task
        Executed(0, (1, 0), 1.0, 3.0, 1.5, 0),
        Executed(1, (1, 1), 1.5, 2.5, 1.0, 1),
        Executed(3, (1, 1), 3.0, 4.0, 1.0, 2),
        Executed(2, (1, 0), 3.1, 4.1, 1.0, 0),
        Executed(4, (1, 0), 4.5, 6.5, 2.0, 3),
    ]

    losses = split_losses(executed, called_at=0.0, returned_at=7.0, workers=2, useful_s=6.0)

    assert losses == pytest.approx(
        {
            "useful": 6.0,
            "encoding": 6.5 - 6.0 + 0.1,
            "no core": 0.5,
            "dispatch": 0.5 + 0.4,
            "imbalance": 2.5,
            "ramp-up": 1.0 + 1.5,
            "drain": 2 * 0.5,
            "other": 0.0,
        }
    )
    assert sum(losses.values()) == pytest.approx(2 * 7.0)


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5), st.floats(0, 2)),
        max_size=6,
    ),
    st.integers(0, 3),
)
def test_losses_add_up_to_the_time_of_all_slots(
    leases: list[tuple[list[tuple[float, float]], float]], idle: int
) -> None:
    """Whatever happened, and however many slots were never used, no second counts twice or is left out."""
    executed = []
    for lease, (tasks, began_at) in enumerate(leases):
        now = began_at
        for number, (gap_s, length_s) in enumerate(tasks):
            now += gap_s
            executed.append(Executed(number, (1, lease), now, now + length_s, length_s / 2, 10 * lease + number // 2))
            now += length_s
    executed.sort(key=lambda one: one.began_at)
    workers, returned_at = len(leases) + idle or 1, 20.0

    losses = split_losses(executed, -1.0, returned_at, workers, useful_s=0.3)

    assert set(losses) == set(LOSSES)
    assert sum(losses.values()) == pytest.approx(workers * 21.0, abs=1e-6)


# --- domains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "library"), [("maze", "scipy"), ("quantum", "qiskit_aer")])
def test_all_loops_find_the_same(name: str, library: str) -> None:
    """The bare loop does the work of the tasks: the same seeds give the same paths and counts."""
    pytest.importorskip(library)
    loops = make_loops(name, [3, 0, 3, 17])
    bare, computed, executed = ([read(one) for one in loop()] for loop, read in (loops[way] for way in LOOPS))

    assert bare == computed == executed
    assert bare[0] == bare[2] != bare[1]


def test_circuits_are_compared_with_bare_loops() -> None:
    """The search of ten qubits is timed as the domain runs it and as a loop over Aer does, in its own gates."""
    pytest.importorskip("qiskit_aer")
    row = compare_circuit("grover 10", 2, random.Random(0))  # noqa: S311 - no secret is drawn

    assert (row["chosen"], row["best"], set(row["seconds"])) == (
        "statevector",
        "statevector",
        {"statevector", "dfz_ray"},
    )
    counts = bare_runs("grover 10")["statevector"](0)
    assert max(counts, key=counts.get) == f"{341:010b}"


def a_point(workers: int) -> dict[str, Any]:
    """Measurements of bare loops at 1,000 tasks per second, with dfz_ray at half of that."""
    measured = [500.0, 490.0, 510.0, 495.0, 505.0, 500.0]
    rates = {"bare": [1000.0] * 6, "compute": [800.0] * 6, "chunk": [750.0] * 6, "dfz_ray": measured}
    losses = [dict.fromkeys(LOSSES, 0.0) | {"useful": 0.001, "dispatch": dispatch_s} for dispatch_s in (0.0, 0.002)]
    return {"workload": "maze", "workers": workers, "rates": rates, "lost_s": losses}


def test_overhead_is_what_a_task_takes_of_a_core_besides_the_loop() -> None:
    """At half the rate of two bare loops, a task takes 4 ms of a core instead of 2: an overhead of 100 %."""
    summary = summarize_ways(a_point(2))

    assert summary["task_s"]["bare"]["value"] == pytest.approx(0.002)
    assert summary["task_s"]["dfz_ray"]["value"] == pytest.approx(0.004)
    assert summary["throughput"]["bare"]["value"] == pytest.approx(0.5)
    assert summary["overhead"]["bare"]["value"] == pytest.approx(1.0)
    assert summary["overhead"]["compute"]["value"] == pytest.approx(0.6)
    assert summary["mean_lost_s"]["dispatch"] == pytest.approx(0.001)


def test_the_tables_of_domains_show_ratios_and_losses() -> None:
    """Each row has a task's core time in each way, the ratio of rates, and where the time of slots went."""
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(*ways_tables([summarize_ways(a_point(1))]))
    text = console.export_text()

    assert all(word in text for word in ("1000", "1250", "0.500 (0.490 to 0.510)", "100 (96 to 104) %", "1000.0"))


# --- tables -----------------------------------------------------------------------------------------------------------


def measured(peer: str, batch: Batch, repeat: int, makespan_s: float) -> Measurement:
    iterations = batch.iterations(1e-7)
    grain_s = batch.lengths_s[0] if batch.name.startswith("even") else None
    bound = lower_bound(iterations, 2)
    return Measurement(
        peer, 2, batch.name, grain_s, repeat, len(iterations), sum(iterations), bound, 1e-7, 1e-7, makespan_s
    )


def a_contest() -> list[Measurement]:
    batches = [even(0.0, 1000), even(1e-4, 1000), even(1e-2, 100), Batch("long last", [0.01] * 9 + [0.1])]
    fast = [0.1, 0.1, 0.55, 0.12]
    return [
        measured(peer, batch, repeat, factor * makespan_s * (1 + 0.01 * repeat))
        for repeat in range(3)
        for peer, factor in (("dfz_ray", 1.0), ("joblib", 4.0))
        for batch, makespan_s in zip(batches, fast, strict=True)
    ] + [failure("parsl", 2, 0, "it did not start")]


def test_a_measurement_tells_efficiency_and_distance_from_the_bound() -> None:
    """Two workers that need 0.1 s for 0.1 core-seconds are half useful; a bound of 0.1 s in 0.12 s is 1.2 of it."""
    assert measured("dfz_ray", even(1e-4, 1000), 0, 0.1).efficiency == pytest.approx(0.5)
    assert measured("dfz_ray", Batch("long last", [0.01] * 9 + [0.1]), 0, 0.12).over_bound == pytest.approx(1.2)


def test_a_failure_has_no_numbers() -> None:
    """A failed measurement raises when a number is asked for, and says why it failed."""
    with pytest.raises(ValueError, match="it did not start"):
        _ = failure("parsl", 2, 0, "it did not start").efficiency


def test_the_tables_show_every_peer_the_best_first() -> None:
    """The peers are in the order of METG, with intervals, and one that failed is shown as such."""
    peers = summarize(a_contest())
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(peers_table(peers, [0.0, 1e-4, 1e-2]), uneven_table(peers))
    text = console.export_text()

    assert text.index("dfz_ray") < text.index("joblib") < text.index("Parsl")
    assert "failed" in text
    assert peers["dfz_ray"]["batches"]["long last"]["over_bound"]["value"] == pytest.approx(1.212)


def test_the_picture_is_drawn_also_where_a_peer_failed() -> None:
    """A picture comes of any contest, of peers without a curve, and of one repeat."""
    host = {"cpu_model": "a $CPU", "physical_cores": 2}

    for peers, repeats in ((summarize(a_contest()), 3), (summarize([failure("parsl", 2, 0, "no")]), 1)):
        assert draw_peers(peers, host, 2, repeats).startswith(b"\x89PNG")


def test_metg_is_told_as_better_when_it_is_shorter() -> None:
    """Below what was measured comes first, above it last."""
    order = [Metg(1e-4, "below"), Metg(1e-4), Metg(1e-3), Metg(0.1, "above")]

    for one, other in itertools.pairwise(order):
        assert one.rank < other.rank


def test_pairs_give_the_exact_interval_of_their_median_ratio() -> None:
    """Of 20 pairs the interval goes from the 6th to the 15th ratio; what slows down both runs of a pair cancels."""
    slowdowns = range(1, 21)
    compared = compare([100 / slow for slow in slowdowns], [(100 + slow) / slow for slow in slowdowns])
    assert compared["ratio"] == pytest.approx(1.105)
    assert compared["ci95"] == pytest.approx((1.06, 1.15))
    assert compare([1.0, 1.0], [1.0, 2.0])["ci95"] is None


def test_the_figures_of_overhead_are_read_from_its_lines() -> None:
    """The medians are read, and the time until a task begins is turned round: more is better."""
    printed = (
        "no-op tasks/s, end to end: 1.234e+04 (from 1.1e+04 to 1.3e+04)\n"
        "first task of a further run begins after s: 0.05 (from 0.04 to 0.06)\n"
    )
    figures = read_overhead(printed, Path())
    assert list(figures.values()) == [12340, 20]
