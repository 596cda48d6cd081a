"""The sorting domain: what is made, how it is sorted, and what is counted."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.amount import amount

from dfz_ray.domains.sorting.algorithms import ALGORITHMS, Effort
from dfz_ray.domains.sorting.domain import DOMAIN, SortingParameters, count_needed, judge, make_list
from dfz_ray.specs.encoding import decode, digest, encode
from dfz_ray.specs.problems import find_problems

LIST_TYPES = ("random", "nearly_sorted", "reverse_sorted")


def compute(seed: int = 0, **values: Any) -> dict[str, Any]:
    """What the domain finds for a task's parameters as a batch file would give them."""
    result: dict[str, Any] = DOMAIN.compute(SortingParameters.model_validate(values), seed, 1)
    return result


def made(seed: int = 0, **values: Any) -> list[int]:
    return make_list(SortingParameters.model_validate(values), seed)


def refusals(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        SortingParameters.model_validate(values)
    return [str(problem) for problem in find_problems(caught.value, SortingParameters, "parameters")]


def seeded(seed: int) -> random.Random:
    """A source of numbers that repeats."""
    return random.Random(seed)  # noqa: S311 - no secret is drawn


class Witness(int):
    """A number that counts how often one like it is compared by `<`, and that can't be compared in another way."""

    seen = 0

    def __lt__(self, other: int) -> bool:
        Witness.seen += 1
        return int(self) < int(other)

    def _refuse(self, other: object) -> bool:
        raise AssertionError("compared by something else than <")

    __gt__ = __le__ = __ge__ = _refuse


class WatchedList(list[int]):
    """A list that counts how often one of its places is written."""

    written = 0

    def __setitem__(self, place: Any, value: Any) -> None:
        self.written += 1
        super().__setitem__(place, value)


ANY_ORDER = st.lists(st.integers(-5, 5) | st.integers(-1000, 1000), max_size=70)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
class TestAlgorithms:
    @given(values=ANY_ORDER)
    @settings(max_examples=amount(150), deadline=None)
    def test_any_list_is_sorted(self, algorithm: Callable[[list[int]], Effort], values: list[int]) -> None:
        """Any list of numbers, equal ones among them, becomes what Python's own `sorted` makes of it."""
        mine = list(values)
        algorithm(mine)
        assert mine == sorted(values)

    @given(values=ANY_ORDER)
    @settings(max_examples=amount(150), deadline=None)
    def test_comparisons_are_those_that_the_elements_see(
        self, algorithm: Callable[[list[int]], Effort], values: list[int]
    ) -> None:
        """The comparisons that are reported are as many as elements were asked for, no more and no fewer."""
        Witness.seen = 0
        effort = algorithm([Witness(value) for value in values])
        assert effort.comparisons == Witness.seen

    @pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 257])
    @pytest.mark.parametrize("shape", [sorted, reversed, lambda values: seeded(7).sample(list(values), len(values))])
    def test_no_more_comparisons_than_the_method_is_known_for(
        self, algorithm: Callable[[list[int]], Effort], length: int, shape: Callable[[range], list[int]]
    ) -> None:
        """Sorted, reversed and shuffled lists take no more than 2.5 n log2 n comparisons and moves, and a few."""
        effort = algorithm(list(shape(range(length))))
        most = 2.5 * length * math.log2(max(length, 2)) + 10
        assert effort.comparisons <= most
        assert effort.moves <= most


def test_moves_are_those_that_a_list_sees() -> None:
    """The moves that are reported are as many as places were written; mergesort also writes those of its buffer."""
    for name, algorithm in ALGORITHMS.items():
        values = WatchedList(seeded(3).choices(range(50), k=300))
        effort = algorithm(values)
        rounds = math.ceil(math.log2(300))
        into_list = effort.moves if name != "mergesort" else effort.moves - 300 * math.ceil(rounds / 2)
        assert values.written == into_list > 0


@pytest.mark.parametrize("outcome", [[3, 1, 2], [1, 2, 2], [1, 2], [3, 2, 1]])
def test_a_wrong_outcome_is_no_success(outcome: list[int]) -> None:
    """A list that is not in order, or that has not the numbers it was made of, scores 0, and its result says so."""
    assert judge([3, 1, 2], [1, 2, 3], Effort(3, 2))["main_score"] == 1
    judged = judge([3, 1, 2], outcome, Effort(3, 2))
    assert (judged["main_score"], judged["is_sorted"]) == (0, False)


@pytest.mark.parametrize("list_type", LIST_TYPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("value_range", [[0, 10**9], [4, 4], [0, 3]])
def test_long_lists_of_every_type(algorithm: str, list_type: str, value_range: list[int]) -> None:
    """Lists of 20,000 are sorted with few comparisons, whatever their order and however many numbers are equal."""
    result = compute(algorithm=algorithm, list_type=list_type, value_range=value_range, list_length=20_000)
    assert result["is_sorted"]
    assert 0 < result["main_score"] <= 1
    assert result["comparisons"] < 2.5 * 20_000 * math.log2(20_000)
    assert result["time_s"] > 0
    assert result.keys() == DOMAIN.results.keys()


def test_lists_are_what_they_are_called() -> None:
    """A reversed list never rises, a nearly sorted one falls here and there, a random one half of the time."""

    def descents(list_type: str) -> int:
        return sum(after < before for before, after in itertools.pairwise(made(list_type=list_type)))

    assert descents("reverse_sorted") > 950
    assert all(after <= before for before, after in itertools.pairwise(made(list_type="reverse_sorted")))
    assert 20 < descents("nearly_sorted") <= 200
    assert 400 < descents("random") < 600
    assert sorted(made(list_type="random")) == sorted(made(list_type="nearly_sorted"))
    assert descents("random") == compute()["details"]["descents"]


def test_almost_sorted_is_another_name() -> None:
    """almost_sorted makes the same list as nearly_sorted, and has the same result, but for the time."""
    one, other = compute(list_type="almost_sorted"), compute(list_type="nearly_sorted")
    assert digest(one, DOMAIN.volatile) == digest(other, DOMAIN.volatile)
    assert one["list_type"] == "nearly_sorted"


@given(st.integers(1, 300), st.integers(-50, 50), st.integers(0, 100), st.sampled_from(LIST_TYPES), st.integers(0, 9))
@settings(max_examples=amount(60), deadline=None)
def test_numbers_are_within_their_range(length: int, low: int, width: int, list_type: str, seed: int) -> None:
    """A list has its length, and no number outside of value_range, whose ends are included."""
    values = made(seed, list_length=length, value_range=[low, low + width], list_type=list_type)
    assert len(values) == length
    assert low <= min(values) <= max(values) <= low + width


def test_both_ends_of_the_range_are_drawn() -> None:
    """The least and the largest number of value_range both come."""
    assert set(made(value_range=[3, 5])) == {3, 4, 5}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_needed_comparisons(values: list[int]) -> None:
    """As many comparisons are needed as tell one of the orders of the values from the others, and n - 1 at least."""
    orders = math.factorial(len(values))
    for value in set(values):
        orders //= math.factorial(values.count(value))
    assert count_needed(values) == max((orders - 1).bit_length(), len(values) - 1)


def test_no_method_needs_fewer_over_all_orders() -> None:
    """Over all orders of five values, each algorithm makes at least once as many comparisons as are needed."""
    for algorithm in ALGORITHMS.values():
        worst = max(algorithm(list(order)).comparisons for order in itertools.permutations(range(5)))
        assert worst >= count_needed(range(5)) == 7


def test_the_score_is_the_share_of_needed_comparisons() -> None:
    """The score is what was needed over what was made, 1 at most; a list of one number needs none."""
    result = compute(algorithm="heapsort")
    assert result["main_score"] == result["needed_comparisons"] / result["comparisons"] < 0.6
    assert judge([1, 2, 3, 4], [1, 2, 3, 4], Effort(3, 0))["main_score"] == 1
    assert compute(list_length=1)["main_score"] == 1
    assert compute(algorithm="mergesort")["main_score"] > 0.95
    assert compute(algorithm="mergesort", list_type="reverse_sorted")["main_score"] == 1


def test_same_seed_same_result() -> None:
    """A seed decides the list; the results differ in nothing but the time. Another seed makes another list."""
    first, again, other = compute(1), compute(1), compute(2)
    assert digest(first, DOMAIN.volatile) == digest(again, DOMAIN.volatile)
    assert digest(first, DOMAIN.volatile) != digest(other, DOMAIN.volatile)
    assert DOMAIN.volatile == {"time_s"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"list_length": 0}, "parameters.list_length: found 0; expected 1 to 1000000"),
        ({"list_length": 1_000_001}, "parameters.list_length: found 1000001; expected 1 to 1000000"),
        ({"list_length": 10.0}, "parameters.list_length: found 10.0; expected a valid integer"),
        ({"value_range": [5, 4]}, "parameters.value_range: found [5, 4]; expected [min, max] with min no larger"),
        ({"value_range": [1]}, "parameters.value_range"),
        ({"value_range": [1, 2, 3]}, "parameters.value_range"),
        ({"value_range": [0, 0.5]}, "parameters.value_range[1]: found 0.5; expected a valid integer"),
        ({"value_range": [0, 10**13]}, "and both from -1000000000000 to 1000000000000"),
        ({"value_range": "0-9"}, "parameters.value_range: found '0-9'"),
        ({"list_type": "sorted"}, "parameters.list_type: found 'sorted'; expected 'random', 'nearly_sorted'"),
        ({"algorithm": "heap_sort"}, "did you mean 'heapsort'?"),
        ({"length": 5}, "parameters.length: found an unknown key"),
    ],
)
def test_refused(parameters: dict[str, Any], said: str) -> None:
    """What can't be is refused when it is checked, with the field, what was found and what was expected."""
    found = refusals(parameters)
    assert len(found) == 1
    assert said in found[0]


def test_written_and_read_again() -> None:
    """Checked parameters, written and read again on a worker, mean the same."""
    for parameters in ({}, {"value_range": [-3, 4], "list_type": "almost_sorted"}):
        checked = SortingParameters.model_validate(parameters)
        assert SortingParameters.model_validate(decode(encode(checked.model_dump()))) == checked


def test_every_field_is_described() -> None:
    """Every parameter has a description for `dfz domains sorting`."""
    assert all(field.description for field in SortingParameters.model_fields.values())


@given(
    st.integers(0, 2**32),
    st.fixed_dictionaries(
        {},
        optional={
            "list_length": st.integers(1, 10**6),
            "value_range": st.just([0, 9]),
            "list_type": st.sampled_from([*LIST_TYPES, "almost_sorted"]),
            "algorithm": st.sampled_from(list(ALGORITHMS)),
        },
    ),
)
@settings(deadline=None)
def test_drawn_parameters_are_valid(seed: int, fixed: dict[str, Any]) -> None:
    """Parameters that are drawn repeat, and are valid together with those that are given."""
    assert DOMAIN.draw is not None
    drawn = DOMAIN.draw(seeded(seed), fixed)
    assert drawn == DOMAIN.draw(seeded(seed), fixed)
    assert DOMAIN.kind(SortingParameters.model_validate({**drawn, **fixed}))


def test_kinds_are_few_and_readable() -> None:
    """A kind names the algorithm, the type of list and a rough length."""
    assert DOMAIN.kind(SortingParameters()) == "quicksort random up to 1024"
    almost = SortingParameters(list_type="almost_sorted", list_length=1024, algorithm="heapsort")
    assert DOMAIN.kind(almost) == "heapsort nearly_sorted up to 1024"
    assert len({DOMAIN.kind(SortingParameters(list_length=n)) for n in range(1, 10**6, 997)}) <= 21


def test_light_to_import() -> None:
    """Importing and running the domain loads neither NumPy nor SciPy."""
    code = (
        "import sys\nfrom dfz_ray.domains.sorting.domain import DOMAIN, SortingParameters\n"
        "DOMAIN.compute(SortingParameters(), 1, 1)\nsys.exit(bool({'numpy', 'scipy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
