"""A short run that reports its acknowledged commits, to be traced: `python fsync_work.py kills|calls FOLDER DURABLE`.

`kills` runs it again and again, in folders of their own, each time killed at a later fsync, until one run ends.
`calls` runs it once. Both print one JSON object a line.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST
from dfz_ray.journal.writer import Group
from dfz_ray.protocol.columns import pack
from support.sample_run import INLINE_BYTES, LARGE, META, attempt, completed, create, failed
from support.syscall_trace import SYNCS, Call, NoTracing, run_traced

TASKS = 12
AGAIN = 5
"""The task that fails at first, and is reopened."""

Report = Callable[[int, dict[str, int]], None]


def result_of(task: int) -> object:
    """The result of a task; one result is large."""
    return LARGE if task == 3 else {"heads": task}


def second_attempts(tasks: Sequence[int], epoch: int) -> Group:
    """Tasks that complete at the second attempt."""
    return Group(
        chunks=[(TASKS + task, epoch, 0, 7.0, pack([task])) for task in tasks],
        completions=[completed(task, result_of(task), TASKS + task) for task in tasks],
    )


def work(folder: Path, is_durable: bool, report: Report) -> None:
    """Create a run, commit, close it, open it again and commit more, and report after each commit what is on disk.

    Args:
        folder: of the run.
        is_durable: whether commits outlive the system.
        report: gets the number of commits, and the states (by number) of the tasks that have one.
    """
    states: dict[str, int] = {}
    writer = create(folder, TASKS, durable=is_durable)
    report(writer.commits, states)
    for task in range(AGAIN):
        writer.commit(Group(completions=[completed(task, result_of(task))]))
        states[str(task)] = 2
        report(writer.commits, states)
    group = Group(attempts=[attempt(AGAIN, AGAIN, ATTEMPT_FAILED, "exception", charged=True)], outcomes=[failed(AGAIN)])
    group.attempts.append(attempt(6, 6, ATTEMPT_LOST, "node_lost"))
    writer.commit(group)
    states[str(AGAIN)] = 3
    report(writer.commits, states)
    writer.close()
    report(writer.commits, states)

    del states[str(AGAIN)]
    lock, writer, _ = open_for_work(folder, META, INLINE_BYTES, retry_failed=True, durable=is_durable)
    report(writer.commits, states)
    writer.commit(second_attempts([AGAIN, 6], writer.epoch))
    states |= {str(AGAIN): 2, "6": 2}
    report(writer.commits, states)
    writer.close()
    lock.close()
    report(writer.commits, states)


def trace_work(folder: Path, is_durable: bool, look: Callable[[Call], bool]) -> tuple[int, list[str]]:
    """Do that work in a traced process. Returns its exit code and its reports, a JSON object each."""
    reading, writing = os.pipe()

    def report(commits: int, states: dict[str, int]) -> None:
        os.write(writing, json.dumps({"commits": commits, "states": states}).encode() + b"\n")

    code = run_traced(lambda: work(folder, is_durable, report), look)
    os.close(writing)
    with os.fdopen(reading) as told:
        return code, told.read().splitlines()


def print_kills(folder: Path, is_durable: bool) -> None:
    """For each kill a line: the run's folder, the exit code, and the reports."""
    code = -1
    for number in itertools.count(1):
        left = number

        def look(call: Call) -> bool:
            nonlocal left
            left -= call.name in SYNCS
            return left > 0

        code, told = trace_work(folder / str(number), is_durable, look)
        kill = {"run": str(folder / str(number)), "code": code, "told": [*map(json.loads, told)]}
        print(json.dumps(kill), flush=True)
        if code >= 0:
            break


def print_calls(folder: Path, is_durable: bool) -> None:
    """For each call a line: its name, and the file."""

    def look(call: Call) -> bool:
        print(json.dumps(call), flush=True)
        return True

    code, told = trace_work(folder, is_durable, look)
    print(json.dumps(["exit", f"{code} after {len(told)} acknowledgements"]))


if __name__ == "__main__":
    mode = {"kills": print_kills, "calls": print_calls}[sys.argv[1]]
    try:
        mode(Path(sys.argv[2]), sys.argv[3] == "durable")
    except NoTracing as error:
        print(json.dumps({"skip": str(error)}))
