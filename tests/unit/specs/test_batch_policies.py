"""The policies of a batch's tasks: refusals, precedence of sources, and that equal policies are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.batch_inputs import (
    FORMS,
    MAPPING,
    MAZE,
    NAMES,
    TIMEOUTS,
    Case,
    Unprintable,
    accept,
    assert_told,
    block,
    case,
    cases_in_all_forms,
    containing_itself,
    policy,
    refusal,
    task,
)

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import Registry
from dfz_ray.specs.encoding import DEPTH_LIMIT
from dfz_ray.specs.policy import Backoff, Policy

POLICY_KEYS = f"one of {', '.join(sorted(Policy.model_fields))}"
BACKOFF_KEYS = "one of factor, first_s, jitter, most_s"
REASONS = "exception, timeout, out_of_memory, worker_crashed, node_lost, unserializable"
PRIORITIES = "-1000000 to 1000000"
UNQUOTED = "without quotes; in YAML a number with an exponent needs a point"

CASES = [
    # policies
    *(case(f"timeout {given!r:.20}", policy(timeout_s=given), "tasks[0].policy.timeout_s", found, expected)
      for given, found, expected in [
          (0, "0", TIMEOUTS),
          (0.0, "0.0", TIMEOUTS),
          (-1, "-1", TIMEOUTS),
          (-0.5, "-0.5", TIMEOUTS),
          (30 * 86_400 + 1, "2592001", TIMEOUTS),
          (10**400, "an integer of 1329 bits", TIMEOUTS),
          (float("nan"), "nan", "a finite number"),
          ("60", "'60'", f"a valid number {UNQUOTED}"),
          ("1e999", "'1e999'", f"a valid number {UNQUOTED}"),
          ("never", "'never'", "a valid number"),
          (True, "True", "a valid number"),
          ([60], "[60]", "a valid number"),
      ]),
    *(case(f"attempts {given!r:.20}", policy(max_attempts=given), "tasks[0].policy.max_attempts", found, expected)
      for given, found, expected in [
          (-1, "-1", "1 to 1000"),
          (0, "0", "1 to 1000"),
          (1001, "1001", "1 to 1000"),
          (1.5, "1.5", "a valid integer"),
          (3.0, "3.0", "a valid integer"),
          (True, "True", "a valid integer"),
          ("3", "'3'", "a valid integer without quotes"),
      ]),
    *(case(f"priority {given!r:.20}", policy(priority=given), "tasks[0].policy.priority", found, expected)
      for given, found, expected in [
          ("high", "'high'", "a valid integer"),
          ("5", "'5'", "a valid integer without quotes"),
          ("1e999", "'1e999'", "a valid integer"),
          (1.5, "1.5", "a valid integer"),
          (False, "False", "a valid integer"),
          (10**6 + 1, "1000001", PRIORITIES),
          (-(10**6) - 1, "-1000001", PRIORITIES),
          (10**400, "an integer of 1329 bits", PRIORITIES),
          (float("nan"), "nan", "a valid integer"),
      ]),
    *(case(f"preemptible {given!r}", policy(preemptible=given), "tasks[0].policy.preemptible", found, "a valid boolean")
      for given, found in [("yes", "'yes'"), (1, "1"), (0.0, "0.0")]),
    case("reason misspelt", policy(retry_on=["timeout", "timout"]), "tasks[0].policy.retry_on[1]", "'timout'",
         "'node_lost' or 'unserializable' did you mean 'timeout'?"),
    case("reason that lasts", policy(retry_on=["invalid"]), "tasks[0].policy.retry_on[0]", "'invalid'", "'exception'"),
    case("reason a number", policy(retry_on=[1]), "tasks[0].policy.retry_on[0]", "1", "'exception'"),
    case("reason null", policy(retry_on=[None]), "tasks[0].policy.retry_on[0]", "None", "'exception'"),
    case("reason a list", policy(retry_on=[["timeout"]]), "tasks[0].policy.retry_on[0]", "['timeout']", "'exception'"),
    case("reason half a letter", policy(retry_on=["\ud800"]), "tasks[0].policy.retry_on[0]", r"'\ud800'",
         "a text that UTF-8 can hold"),
    case("reasons a word", policy(retry_on="timeout"), "tasks[0].policy.retry_on", "'timeout'",
         f"a list, such as [timeout], of any of {REASONS}"),
    case("reasons a mapping", policy(retry_on={"timeout": 3}), "tasks[0].policy.retry_on", "{'timeout': 3}", REASONS),
    case("reasons true", policy(retry_on=True), "tasks[0].policy.retry_on", "True", REASONS),
    case("backoff a number", policy(backoff=3), "tasks[0].policy.backoff", "3", MAPPING),
    case("backoff a list", policy(backoff=[0.1]), "tasks[0].policy.backoff", "[0.1]", MAPPING),
    case("backoff a text", policy(backoff="exponential"), "tasks[0].policy.backoff", "'exponential'", MAPPING),
    case("key of a backoff", policy(backoff={"first": 1}), "tasks[0].policy.backoff.first", "an unknown key",
         f"{BACKOFF_KEYS} did you mean 'first_s'?"),
    case("key of a backoff a number", policy(backoff={1: 2}), "tasks[0].policy.backoff", "the key 1",
         "keys that are texts"),
    case("key of a backoff half a letter", policy(backoff={"\ud800": 1}), "tasks[0].policy.backoff", r"'\ud800'",
         "a text that UTF-8 can hold"),
    *(case(f"backoff {name} {given}", policy(backoff={name: given}), f"tasks[0].policy.backoff.{name}", found, expected)
      for name, given, found, expected in [
          ("first_s", -1, "-1", "0 to 86400"),
          ("factor", 0.5, "0.5", "1 to 100"),
          ("factor", float("nan"), "nan", "a finite number"),
          ("most_s", 86_401, "86401", "0 to 86400"),
          ("jitter", 1.5, "1.5", "0 to 1"),
          ("jitter", True, "True", "a valid number"),
          ("jitter", "0.5", "'0.5'", f"a valid number {UNQUOTED}"),
      ]),
    case("policy a list", task(policy=[1]), "tasks[0].policy", "[1]", MAPPING),
    case("policy a number", task(policy=5), "tasks[0].policy", "5", MAPPING),
    case("policy a text", task(policy="retry"), "tasks[0].policy", "'retry'", MAPPING),
    case("policy false", task(policy=False), "tasks[0].policy", "False", MAPPING),
    case("policy without a bottom", task(policy=containing_itself()), "tasks[0].policy", "{'again': {...}}",
         f"deeper than {DEPTH_LIMIT} levels"),
    case("policy unprintable", policy(priority=Unprintable()), "tasks[0].policy.priority",
         "a value of type 'Unprintable' whose repr raises RuntimeError", "a valid integer"),
    case("key of a policy", policy(timeout=60), "tasks[0].policy.timeout", "an unknown key",
         f"{POLICY_KEYS} did you mean 'timeout_s'?"),
    case("key of a policy null", policy(attempts=None), "tasks[0].policy.attempts", "an unknown key",
         f"{POLICY_KEYS} did you mean 'max_attempts'?"),
    case("key of a policy a number", task(policy={3: 1}), "tasks[0].policy", "the key 3",
         "keys that are texts put it in quotes"),
    case("key of a policy half a letter", task(policy={"\ud800": 1}), "tasks[0].policy", r"the key '\ud800'",
         "keys that are texts"),
    case("key of a policy with colour", policy(**{"\x1b[31mred": 1}), r"tasks[0].policy.\x1b[31mred",
         "an unknown key", POLICY_KEYS),
    case("policy of an unknown domain", [{"domain": "maz", "policy": {}}], "tasks[0].domain", "'maz'", NAMES),
    case("policy of a block", block(policy={"timeout_s": 0}), "generate[0].policy.timeout_s", "0", TIMEOUTS),
    case("policy of a block a list", block(policy=[1]), "generate[0].policy", "[1]", MAPPING),
    case("default policy a list", {"defaults": {"policy": [1]}, "tasks": [MAZE, MAZE]}, "defaults.policy", "[1]",
         MAPPING),
    case("default timeout 0", {"defaults": {"policy": {"timeout_s": 0}}, "tasks": [MAZE | {"policy": {"priority": 1}},
         MAZE], **block(policy={"backoff": {"jitter": 0}})}, "defaults.policy.timeout_s", "0", TIMEOUTS),
    case("default backoff a number", {"defaults": {"policy": {"backoff": 3}}, "tasks": [MAZE, MAZE], **block()},
         "defaults.policy.backoff", "3", MAPPING),
    Case("policy that is all wrong", policy(
        max_attempts=0, retry_on=["oom"], timeout_s="60", priority="high", preemptible=2, backof={}, backoff={"x": 1}
    ), [
        ("tasks[0].policy.max_attempts", "0", "1 to 1000"),
        ("tasks[0].policy.backoff.x", "an unknown key", BACKOFF_KEYS),
        ("tasks[0].policy.retry_on[0]", "'oom'", "'out_of_memory'"),
        ("tasks[0].policy.timeout_s", "'60'", "a valid number"),
        ("tasks[0].policy.priority", "'high'", "a valid integer"),
        ("tasks[0].policy.preemptible", "2", "a valid boolean"),
        ("tasks[0].policy.backof", "an unknown key", "did you mean 'backoff'?"),
    ]),
]  # fmt: skip


@cases_in_all_forms(CASES)
def test_refused(data: Any, problems: list[tuple[str, str, str]], form: str, tmp_path: Path) -> None:
    """Each problem of a policy is reported with its path: the same in Python, YAML and JSON."""
    assert_told(refusal(FORMS[form](tmp_path, data)), problems)


def test_which_policy_wins() -> None:
    """For each key of a policy and of its backoff the task wins over `defaults`, those over the configuration."""
    configured = Policy(max_attempts=9, priority=9, preemptible=False, backoff=Backoff(first_s=9, factor=9, most_s=9))
    own = {"max_attempts": 1, "backoff": {"first_s": 1}}
    batch = accept(
        {
            "defaults": {"policy": {"max_attempts": 2, "priority": 2, "backoff": {"first_s": 2, "factor": 2}}},
            "tasks": [MAZE, MAZE | {"policy": own}],
            "generate": [MAZE | {"count": 1, "policy": own}],
        },
        default_policy=configured,
    )

    shared = Policy(max_attempts=2, priority=2, preemptible=False, backoff=Backoff(first_s=2, factor=2, most_s=9))
    backoff = shared.backoff.model_copy(update={"first_s": 1.0})
    stronger = shared.model_copy(update={"max_attempts": 1, "backoff": backoff})
    assert [one.policy for one in batch.tasks] == [shared, stronger, stronger]


def test_a_null_in_a_policy() -> None:
    """A null says nothing, so that the next source is asked; that of a timeout says that there is none."""
    nothing = {"priority": None, "backoff": None, "max_attempts": None, "retry_on": None, "preemptible": None}
    shared = {"priority": 5, "timeout_s": 60, "backoff": {"first_s": 3}, "retry_on": []}

    batch = accept(
        {
            "defaults": {"policy": shared},
            "tasks": [MAZE | {"policy": own} for own in (nothing, {"backoff": {"first_s": None}}, {"timeout_s": None})],
        }
    )

    expected = Policy(priority=5, timeout_s=60, backoff=Backoff(first_s=3), retry_on=())
    *same, endless = (one.policy for one in batch.tasks)
    assert same == [expected, expected]
    assert endless == expected.model_copy(update={"timeout_s": None})


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"retry_on": ["node_lost", "out_of_memory", "worker_crashed", "node_lost"], "priority": None},
        {"max_attempts": 3, "timeout_s": None, "backoff": {"factor": 2, "most_s": 60.0}},
        {"priority": np.int64(0), "preemptible": np.bool_(True), "backoff": {"jitter": np.float32(0.5)}},
    ],
)
def test_equal_policies_are_one(said: dict[str, Any]) -> None:
    """Tasks that are treated alike share one policy, in whichever words it is given."""
    batch = accept({"tasks": [MAZE, MAZE | {"policy": said}, MAZE | {"policy": said}], **block(policy=said)})

    assert len({id(one.policy) for one in batch.tasks}) == 1


def test_the_policies_of_many_tasks() -> None:
    """Tasks of a few policies share a few objects, however they are mixed."""
    mixed = [MAZE | {"policy": {"priority": number % 3, "retry_on": ["timeout"]}} for number in range(30)]

    batch = accept(mixed)

    assert [one.policy.priority for one in batch.tasks] == [0, 1, 2] * 10
    assert len({id(one.policy) for one in batch.tasks}) == 3


def test_numpy_in_a_policy() -> None:
    """NumPy's scalars and arrays are as good in a policy as Python's own, and become them."""
    given = {
        "priority": np.int64(5),
        "timeout_s": np.float32(1.5),
        "max_attempts": np.uint8(7),
        "preemptible": np.bool_(False),
        "retry_on": np.array(["timeout", "exception"]),
        "backoff": {"first_s": np.int32(2)},
    }

    tasks = accept({"tasks": policy(**given), **block(count=1, policy=given)}).tasks

    for one in tasks:
        assert one.policy == Policy(
            priority=5,
            timeout_s=1.5,
            max_attempts=7,
            preemptible=False,
            retry_on=("exception", "timeout"),
            backoff=Backoff(first_s=2),
        )
        types = {"priority": int, "timeout_s": float, "max_attempts": int, "preemptible": bool, "retry_on": tuple}
        assert {key: type(getattr(one.policy, key)) for key in types} == types
        assert type(one.policy.backoff) is Backoff


@pytest.mark.parametrize(
    "given", [{"timeout_s": float("inf")}, {"backoff": {"most_s": float("-inf")}}, {"backoff": {"factor": np.inf}}]
)
def test_nothing_in_a_policy_is_infinite(given: dict[str, Any]) -> None:
    """An infinity from Python is refused as one from a file is: null says that there is no timeout."""
    (problem,) = refusal(policy(**given)).problems

    assert (problem.found.strip("-"), problem.expected) == ("inf", "a finite number")


def test_numpy_truths_are_no_numbers() -> None:
    """A truth value is no number, also where it is NumPy's."""
    problems = refusal(policy(priority=np.bool_(True), timeout_s=np.bool_(True))).problems

    assert [problem.where.rpartition(".")[2] for problem in problems] == ["timeout_s", "priority"]


def test_only_what_may_be_repeated_is_speculated_on() -> None:
    """`speculate` is refused for a domain that does not say that it may be executed twice at once."""
    domains = Registry()
    domains.add(Domain("once", Parameters, lambda p, seed, threads: {}, lambda p: ""))
    domains.add(Domain("often", Parameters, lambda p, seed, threads: {}, lambda p: "", repeatable=True))
    defaults = {"policy": {"speculate": True}}

    batch = accept({"defaults": defaults, "tasks": [{"domain": "often"}]}, domains)
    error = refusal({"defaults": defaults, "tasks": [{"domain": "often"}, {"domain": "once"}]}, domains=domains)
    of_block = refusal({"defaults": defaults, "generate": [{"domain": "once", "count": 9}]}, domains=domains)

    assert batch.tasks[0].policy.speculate
    assert [(one.where, one.found) for one in error.problems] == [("tasks[1].policy.speculate", "true")]
    assert [one.where for one in of_block.problems] == ["generate[0].policy.speculate"]
    assert "repeatable=True" in str(error)


def test_a_configuration_speculates_only_on_what_may_be_repeated() -> None:
    """Nobody has written the key in this batch: it holds where the domain allows it, and is refused nowhere."""
    domains = Registry()
    domains.add(Domain("once", Parameters, lambda p, seed, threads: {}, lambda p: ""))
    domains.add(Domain("often", Parameters, lambda p, seed, threads: {}, lambda p: "", repeatable=True))
    asked = Policy(speculate=True, max_attempts=7)

    batch = accept({"tasks": [{"domain": "often"}, {"domain": "once"}]}, domains, default_policy=asked)
    generated = accept({"generate": [{"domain": "once", "count": 3}]}, domains, default_policy=asked)
    declined = accept({"tasks": [{"domain": "once", "policy": {"speculate": False}}]}, domains, default_policy=asked)

    assert [task.policy.speculate for task in batch.tasks] == [True, False]
    assert [task.policy.speculate for task in generated.tasks] == [False] * 3
    assert not declined.tasks[0].policy.speculate
    assert {task.policy.max_attempts for task in (*batch.tasks, *generated.tasks)} == {7}
