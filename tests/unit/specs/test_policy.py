"""A policy as data: frozen, comparable, the same after it was stored, and explained."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from dfz_ray.specs.policy import RETRY_REASONS, TIMEOUT_LIMIT_S, Backoff, Policy, merge
from dfz_ray.specs.task import Task

BACKOFFS = {
    "first_s": st.floats(0, 86_400) | st.integers(0, 86_400),
    "factor": st.floats(1, 100),
    "most_s": st.floats(0, 86_400),
    "jitter": st.floats(0, 1),
}
POLICIES = {
    "max_attempts": st.integers(1, 1000),
    "backoff": st.fixed_dictionaries({}, optional=BACKOFFS),
    "retry_on": st.lists(st.sampled_from(RETRY_REASONS)),
    "timeout_s": st.none() | st.floats(0, TIMEOUT_LIMIT_S, exclude_min=True) | st.integers(1, TIMEOUT_LIMIT_S),
    "priority": st.integers(-1_000_000, 1_000_000),
    "preemptible": st.booleans(),
    "speculate": st.booleans(),
}
PARTS = st.fixed_dictionaries({}, optional=POLICIES)
"""Policies of which only a part is said."""


def test_the_default() -> None:
    """A task is tried three times, again only after failures that it may not have caused; no deadline, no priority.

    `configs/default.yaml` has the defaults of all keys, and a test of the settings holds it to them.
    """
    expected = {
        "max_attempts": 3,
        "backoff": {"first_s": 0.1, "factor": 2.0, "most_s": 60.0, "jitter": 0.5},
        "retry_on": ("out_of_memory", "worker_crashed", "node_lost"),
        "timeout_s": None,
        "priority": 0,
        "preemptible": True,
        "speculate": False,
    }
    assert Policy().model_dump() | expected == Policy().model_dump()


@pytest.mark.parametrize("reasons", list(itertools.permutations(["timeout", "node_lost", "exception"])))
def test_the_order_of_reasons_does_not_matter(reasons: tuple[Any, ...]) -> None:
    """Policies that retry for the same reasons are equal, in whichever order and however often these are named."""
    policy = Policy(retry_on=(*reasons, reasons[0]))

    assert policy.retry_on == ("exception", "timeout", "node_lost")
    assert policy == Policy(retry_on=("exception", "node_lost", "timeout"))


def test_the_default_is_in_order() -> None:
    """Naming the default reasons is the default, in every order of them."""
    for reasons in itertools.permutations(Policy().retry_on):
        assert Policy(retry_on=reasons) == Policy()


@given(PARTS, PARTS)
def test_equal_policies_are_one_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two policies are one key of a dict exactly if they are equal, also after they were written down and read."""
    first, second = Policy.model_validate(one), Policy.model_validate(other)

    assert first == Policy.model_validate(first.model_dump())
    assert (first == second) == (len({first, second}) == 1)
    assert hash(first) == hash(Policy.model_validate(first.model_dump()))


@pytest.mark.parametrize(
    "changed",
    [{"max_attempts": 4}, {"retry_on": []}, {"timeout_s": 1}, {"priority": 1}, {"preemptible": False}]
    + [{"backoff": {name: 1}} for name in ("first_s", "factor", "most_s", "jitter")],
)
def test_every_field_counts(changed: dict[str, Any]) -> None:
    """Policies that differ in any one field are different."""
    assert Policy.model_validate(changed) != Policy()


@given(PARTS)
def test_a_policy_is_the_same_after_it_was_stored(data: dict[str, Any]) -> None:
    """A policy is read back from JSON, and from another process, as it was written."""
    policy = Policy.model_validate(data)

    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - we wrote it


@given(PARTS, PARTS)
def test_merging_goes_key_by_key(weaker: dict[str, Any], stronger: dict[str, Any]) -> None:
    """The stronger source wins key by key, and the weaker one gives the rest; in `backoff` too."""
    merged = merge(weaker, stronger)

    assert merged.keys() == weaker.keys() | stronger.keys()
    for key in merged.keys() - {"backoff"}:
        assert merged[key] == (stronger if key in stronger else weaker)[key]
    if "backoff" in merged:
        assert merged["backoff"] == {**weaker.get("backoff", {}), **stronger.get("backoff", {})}
    Policy.model_validate(merged)


def test_seconds_may_be_whole_numbers() -> None:
    """A number of seconds without a point is as good as one with it, and is kept as the same."""
    policy = Policy.model_validate({"timeout_s": 60, "backoff": {"first_s": 1, "jitter": 0}})

    assert policy == Policy(timeout_s=60.0, backoff=Backoff(first_s=1.0, jitter=0.0))
    assert type(policy.timeout_s) is type(policy.backoff.first_s) is float


@pytest.mark.parametrize("given", [{"timeout_s": 1e-3}, {"timeout_s": TIMEOUT_LIMIT_S}, {"priority": -1_000_000},
                                   {"priority": 1_000_000}, {"max_attempts": 1000}, {"backoff": {"most_s": 0}},
                                   {"retry_on": list(RETRY_REASONS)}])  # fmt: skip
def test_the_ends_of_what_is_allowed(given: dict[str, Any]) -> None:
    """The largest and the smallest values are allowed themselves."""
    assert Policy.model_validate(given).model_dump(exclude_unset=True).keys() == given.keys()


def test_policies_are_frozen() -> None:
    """Nobody changes a policy that many tasks share."""
    with pytest.raises(ValidationError, match="frozen"):
        Policy().priority = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Policy().backoff.first_s = 1  # type: ignore[misc]


@pytest.mark.parametrize("model", [Policy, Backoff])
def test_every_field_is_explained(model: type[BaseModel]) -> None:
    """Each field is explained in a sentence."""
    for field in model.model_fields.values():
        assert (field.description or "").endswith(".")


def test_a_task_has_a_policy() -> None:
    """A task that is made without a policy has the default one."""
    assert Task("a", "maze", "k", 1, resources=None, parameters=b"").policy == Policy()  # type: ignore[arg-type]
