"""The table of what may happen to a task, and the counts that follow from it."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfz_ray.engine.lifecycle import TRANSITIONS, Lifecycle, Transition
from dfz_ray.errors import DfzError, IllegalTransition
from dfz_ray.specs.states import FINAL, State

WAY_TO: dict[State, tuple[Transition, ...]] = {State.PENDING: ()}
"""How a task gets into each state."""
for _ in State:
    for (source, transition), target in TRANSITIONS.items():
        if source in WAY_TO and target not in WAY_TO:
            WAY_TO[target] = (*WAY_TO[source], transition)

LEGAL = sorted(TRANSITIONS)
ILLEGAL = sorted(set(itertools.product(WAY_TO, Transition)) - TRANSITIONS.keys())


def tasks_in(*states: State, history: Sequence[str] = ()) -> Lifecycle:
    """Tasks 0, 1, ... in these states."""
    tasks = Lifecycle(history=lambda: tuple(history))
    tasks.add(len(states))
    for number, state in enumerate(states):
        for happening in WAY_TO[state]:
            tasks.move([number], happening)
    return tasks


def states_of(tasks: Lifecycle) -> list[State]:
    return [tasks.get_state(number) for number in range(len(tasks))]


def test_table_is_the_one_of_the_design() -> None:
    """A task begins, goes back, or gets one outcome; what waits may be cancelled, and fails where it can never run."""
    among_these = {key: target for key, target in TRANSITIONS.items() if target <= State.CANCELLED}
    assert among_these == {
        (State.PENDING, Transition.BEGAN): State.RUNNING,
        (State.RUNNING, Transition.HANDED_BACK): State.PENDING,
        (State.RUNNING, Transition.RESULT_COMMITTED): State.COMPLETED,
        (State.RUNNING, Transition.FAILURE_COMMITTED): State.FAILED,
        (State.PENDING, Transition.FAILURE_COMMITTED): State.FAILED,
        (State.PENDING, Transition.CANCELLATION_COMMITTED): State.CANCELLED,
        (State.RUNNING, Transition.CANCELLATION_COMMITTED): State.CANCELLED,
    }


@pytest.mark.parametrize(("state", "happening"), LEGAL)
def test_what_is_in_the_table_moves_a_task(state: State, happening: Transition) -> None:
    """Every pair of the table moves the task to the table's state, and moves no other task."""
    tasks = tasks_in(state, state)

    tasks.move([1], happening)

    assert states_of(tasks) == [state, TRANSITIONS[state, happening]]
    assert tasks.counts == [states_of(tasks).count(one) for one in State]


@pytest.mark.parametrize(("state", "happening"), ILLEGAL)
def test_what_is_not_in_the_table_is_refused(state: State, happening: Transition) -> None:
    """Whatever the table does not know is refused with the task, its state, what happened and the history."""
    tasks = tasks_in(State.PENDING, state, history=["1.0 it was submitted", "2.0 it was moved"])

    with pytest.raises(IllegalTransition) as caught:
        tasks.move([1], happening)

    assert states_of(tasks) == [State.PENDING, state]
    assert (caught.value.task, caught.value.state, caught.value.transition) == (1, state.label, happening.name.lower())
    assert caught.value.history == ("1.0 it was submitted", "2.0 it was moved")
    for part in ("task 1", state.label, happening.name.lower(), "2.0 it was moved"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("state", "happening"), ILLEGAL)
def test_one_illegal_move_among_many_moves_none(state: State, happening: Transition) -> None:
    """When something can't happen to the last of many tasks, it happens to none, and no count changes."""
    legal = [source for source, known in LEGAL if known == happening]
    before = [*legal * 100, state]
    tasks = tasks_in(*before)
    counts = list(tasks.counts)

    with pytest.raises(IllegalTransition):
        tasks.move(range(len(before)), happening)

    assert states_of(tasks) == before
    assert tasks.counts == counts


def test_final_states_have_no_way_out() -> None:
    """Nothing leads out of final states, and something leads out of every other state; each can be reached."""
    left = {state for state, _ in TRANSITIONS}

    assert left & FINAL == set()
    assert left | FINAL == set(State)
    assert WAY_TO.keys() == set(State)


@given(steps=st.lists(st.tuples(st.lists(st.integers(0, 9), unique=True), st.sampled_from(Transition)), max_size=40))
def test_counts_add_up_whatever_happens(steps: list[tuple[list[int], Transition]]) -> None:
    """After any events, legal or not, the counts are those of the states and add up to the tasks submitted."""
    tasks = Lifecycle()
    model = [State.PENDING] * 10
    tasks.add(4)
    tasks.add(6)

    for numbers, happening in steps:
        targets = [TRANSITIONS.get((model[number], happening)) for number in numbers]
        if None in targets:
            with pytest.raises(IllegalTransition):
                tasks.move(numbers, happening)
        else:
            tasks.move(numbers, happening)
            for number, target in zip(numbers, targets, strict=True):
                assert target is not None
                model[number] = target
        assert states_of(tasks) == model
        assert tasks.counts == [Counter(model)[state] for state in State]
        assert sum(tasks.counts) == len(tasks) == 10
        assert tasks.open == sum(state not in FINAL for state in model)


def test_states_are_numbered_as_in_the_journal_and_written_in_lower_case() -> None:
    """The numbers of the states are those of the journal's columns, and users read them in lower case.

    Numbers that are in journals never change: a new state takes the next one.
    """
    assert [(state.value, state.label) for state in State][:5] == [
        (0, "pending"),
        (1, "running"),
        (2, "completed"),
        (3, "failed"),
        (4, "cancelled"),
    ]


def test_the_error_is_ours_and_survives_pickling() -> None:
    """An illegal transition is an error of dfz_ray that reaches the driver from another process as it is."""
    with pytest.raises(IllegalTransition) as caught:
        tasks_in(State.COMPLETED, history=["it ended"]).move([0], Transition.BEGAN)

    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  made here

    assert isinstance(copy, DfzError)
    assert (str(copy), copy.history) == (str(caught.value), ("it ended",))
