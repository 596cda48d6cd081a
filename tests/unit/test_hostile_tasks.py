"""The catalogue of hostile tasks, and the trials that are drawn from it."""

from __future__ import annotations

import ast
import inspect
from collections import Counter

import pytest
from support import hostile_tasks
from support.hostile_tasks import all_deeds, patches
from support.hostile_tasks.deed import COMPLETED, ENDS, LATE, deed
from support.hostile_trial import AT_ONCE, GOOD, Trial, draw_trials, make_batch


def test_there_are_many_hostile_tasks_of_every_group() -> None:
    """At least 100 hostile tasks are tried, of eight groups, each registered once and called without arguments."""
    deeds = all_deeds()

    assert len(deeds) >= 100
    groups = Counter(one.group for one in deeds.values())
    assert set(groups) == {
        "timers",
        "process_state",
        "patches",
        "interpreter",
        "errors",
        "values",
        "processes",
        "attacks",
    }
    assert min(groups.values()) >= 10
    assert len({one.act for one in deeds.values()}) == len(deeds)
    assert all(not inspect.signature(one.act).parameters for one in deeds.values())


def test_each_says_what_may_become_of_it() -> None:
    """Each hostile task names its possible ends; only one that has a deadline may end by it."""
    for one in all_deeds().values():
        assert one.may <= ENDS, one
        assert one.may, one
        assert LATE not in one.may or one.deadline_s, one


def test_no_name_is_taken_twice() -> None:
    """A second hostile task of one name is refused."""
    name = next(iter(all_deeds()))
    act = all_deeds()[name].act

    with pytest.raises(ValueError, match="twice"):
        deed(COMPLETED)(act)
    assert hostile_tasks.all_deeds()[name].act is act


def test_each_is_tried_on_processes_and_on_threads() -> None:
    """All trials together try each hostile task once in both ways, three in a run; another seed mixes them anew."""
    trials = draw_trials(0, [False, True])

    tried = Counter((name, trial.on_threads) for trial in trials for name in trial.names)
    assert set(tried.values()) == {1}
    assert len(tried) == 2 * len(all_deeds())
    assert {len(trial.names) for trial in trials[:-1]} <= {AT_ONCE, len(all_deeds()) % AT_ONCE}
    assert draw_trials(0, [False, True]) == trials
    assert draw_trials(1, [False, True]) != trials


def test_a_batch_has_80_good_tasks() -> None:
    """A trial's batch has 80 good tasks of one kind, and is the same whenever it is made."""
    trial = Trial(("end_with_3", "sleep_for_ever", "be_nice"), False, 5)

    batch = make_batch(trial)

    good = [task for task in batch["tasks"] if "deed" not in task["parameters"]]
    assert len(good) == GOOD == 80
    assert len({str(task["policy"]) for task in good}) == 1
    hostile = {task["id"]: task for task in batch["tasks"] if "deed" in task["parameters"]}
    assert set(hostile) == set(trial.names)
    assert "timeout_s" in hostile["sleep_for_ever"]["policy"]
    assert make_batch(trial) == batch


def test_what_they_patch_of_ours_is_there() -> None:
    """A hostile task that patches a name which nothing uses any more would pass for a harmless one."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(patches))) if isinstance(node, ast.Call)]
    patched = [
        [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "_patch_ours"
    ]

    assert len(patched) > 5
    for module, name in patched:
        patches.find_ours(module, name)
