"""What a task changes in its process reaches no other task's result, in processes and on threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from support import state_changes
from support.attempt_rows import assert_sound, read_attempts
from support.driver import wait_until

from dfz_ray import domain, run
from dfz_ray.driver.connection import connect
from dfz_ray.driver.domain_shipping import ship_by_value

pytestmark = pytest.mark.usefixtures("new_workers")
for module in (sys.modules[__name__], state_changes):
    ship_by_value(module)  # the domains call functions of these modules

GOOD = 120
TRIES = 10


@pytest.fixture(scope="module")
def new_workers(cluster: None) -> None:
    """Workers that are alike: calls of earlier tests have given some of theirs the variables of this process."""
    ray.shutdown()
    connect("local", logical_cpus=4)


@domain("felt")
def felt(what: str = "", *, seed: int) -> Any:
    """Change something, or tell what one feels."""
    if what:
        state_changes.DEEDS[what]()
        return None
    found = state_changes.feel()
    for one in ("environment", "stdout"):  # Ray's differ from process to process
        del found[one]
    found["warnings"] = [text for text in found["warnings"] if "error" in text]  # others come with imports
    time.sleep(0.001)
    return found


def assert_good_tasks_feel_nothing(folder: Path, whats: list[str], **how: Any) -> None:
    """Run tasks that change the state among good ones; every good one completes with the same result, uncharged."""
    tasks: list[dict[str, Any]] = [felt.task() for _ in range(GOOD)]
    for position, what in enumerate(whats):
        at = GOOD // 3 + 7 * position
        tasks.insert(at, {**felt.task(what=what), "id": what})
    results = run(tasks, run_dir=folder, max_workers=2, **how)

    good = [record for record in results if record.task_id not in whats]
    assert {record.status for record in good} == {"completed"}
    differing = {key for record in good for key, felt in record.result.items() if felt != good[0].result[key]}
    assert not differing, [{key: record.result[key] for key in differing} for record in good[::8]]
    assert len(good) == GOOD
    assert not [row for row in read_attempts(folder) if row.charged and row.task not in whats]
    assert_sound(folder)


IN_PROCESSES = [
    ["repeating alarm", "alarm that hides itself", "working directory", "timer without a handler"],
    ["umask", "environment", "limit of file sizes", "tracing"],
    ["os patched", "builtins patched", "closed stdout", "signal mask"],
    ["search path", "folder of temporary files", "collector", "no finders"],
]
ON_THREADS = [
    ["working directory", "umask", "limit of files", "errors of warnings"],
    ["environment", "locale", "os patched", "tracing"],
]


@pytest.mark.long
@pytest.mark.parametrize("use_threads", [False, True])
def test_ordinary_tasks_change_nothing_that_counts(use_threads: bool, tmp_path: Path) -> None:
    """No task of the domains that come with dfz_ray is executed twice for the state of its process."""
    count = {"quantum": 30, "maze": 60, "sorting": 60}
    batch = {"generate": [{"domain": name, "count": tasks} for name, tasks in count.items()]}

    results = run(batch, run_dir=tmp_path / "run", max_workers=2, use_threads=use_threads)

    assert results.counts["completed"] == sum(count.values())
    assert {row.outcome for row in read_attempts(tmp_path / "run")} == {"completed"}


@pytest.mark.parametrize("whats", IN_PROCESSES, ids=", ".join)
def test_no_result_has_felt_a_change_in_its_process(whats: list[str], tmp_path: Path) -> None:
    """Whatever state a task leaves behind, the tasks after it complete with their own results, and none is charged."""
    assert_good_tasks_feel_nothing(tmp_path / "run", whats)


@pytest.mark.parametrize("whats", ON_THREADS, ids=", ".join)
def test_no_result_has_felt_a_change_on_threads(whats: list[str], tmp_path: Path) -> None:
    """What was executed beside a task that changes the state is executed again, in another process, uncharged."""
    assert_good_tasks_feel_nothing(tmp_path / "run", whats, use_threads=True)


@domain("wanders")
def wander(delay_s: float = 0.0) -> tuple[int, str]:
    """The process, and its working directory, which a thread changes after a while."""
    if delay_s:
        timer = threading.Timer(delay_s, os.chdir, ("/",))
        timer.daemon = True
        timer.start()
    return os.getpid(), os.getcwd()


def test_a_folder_that_changes_between_leases_is_put_back() -> None:
    """A thread that outlives its task may change the folder of an idle process: the next run does not work there."""
    process, before = next(found for found in map(leave_a_wanderer, range(TRIES)) if find_folder(found[0]) == "/")
    found = dict(tuple(one) for one in run([wander.task()] * 4, max_workers=1, progress=False).values())
    assert found.get(process, before) == before
    assert set(found.values()) == {before}


def leave_a_wanderer(_: int) -> tuple[int, str]:
    """Leave a thread that changes the folder of its process; returns the process when that was done, or it is gone.

    Ray ends processes that are idle when there are more than it has CPUs.
    """
    ((process, before),) = run([wander.task(delay_s=0.5)], max_workers=1, progress=False).values()
    wait_until(lambda: find_folder(process) in ("/", ""), "the folder is another one")
    return process, before


def find_folder(process: int) -> str:
    """The working directory of a process; empty if it is gone."""
    try:
        return str(psutil.Process(process).cwd())
    except psutil.NoSuchProcess:
        return ""
