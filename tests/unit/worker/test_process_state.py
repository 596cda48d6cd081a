"""Whatever a task changes in its process, no reported result has felt it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
from support.child import in_child
from support.state_changes import DEEDS, feel

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker import process_state
from dfz_ray.worker.process_state import ProcessState


class Asked(Parameters):
    what: str = ""
    lasts_s: float = 0.0


def compute(parameters: Asked, seed: int, threads: int) -> Any:
    if parameters.what:
        DEEDS[parameters.what]()
    end = time.perf_counter() + parameters.lasts_s
    while time.perf_counter() < end:
        pass
    return None if parameters.what else feel()


DOMAIN = Domain("asked", Asked, compute, lambda _: "asked")


def run_chunk(state: ProcessState, *tasks: dict[str, Any]) -> dict[str, Any]:
    """Execute a chunk as a worker does: the values and reasons of its tasks, and what became of the process."""
    works = [Work(number, 0, encode(task)) for number, task in enumerate(tasks)]
    executions = execute_chunk(DOMAIN, works, 1, FileShelf(), settle=state.settle)
    state.rest()
    return {
        "values": [decode(one.result) if one.result is not None else None for one in executions],
        "reasons": [one.failure and (one.failure.reason, one.failure.message) for one in executions],
        "change": state.change,
        "is_of_one": state.is_of_one,
    }


def test_a_process_remembers_that_it_had_threads_which_tasks_left_behind() -> None:
    """What such a thread has done may end the process later, in another lease, when the thread itself has ended."""

    def play() -> tuple[bool, bool, bool]:
        _, first = tell_strays()
        state, second = tell_strays()
        thread = threading.Thread(target=time.sleep, args=(0.3,))
        thread.start()
        state.settle()
        thread.join()
        _, third = tell_strays()
        return bool(first), bool(second), bool(third)

    def tell_strays() -> tuple[ProcessState, list[str]]:
        told: list[str] = []
        return ProcessState(lambda: told.append("strays")), told

    assert in_child(play) == (False, True, True)


@pytest.mark.parametrize("what", DEEDS)
def test_no_task_feels_what_another_one_has_changed(what: str) -> None:
    """Tasks beside one that changes the state feel nothing of it, or the chunk's results do not count."""

    def play() -> tuple[dict[str, Any], dict[str, Any]]:
        state = ProcessState()
        before = run_chunk(state, {})
        return before, run_chunk(state, {}, {"what": what}, *[{}] * 20)

    before, chunk = in_child(play)

    assert before["change"] == ""
    if not chunk["change"] or chunk["is_of_one"]:
        felt = [value for position, value in enumerate(chunk["values"]) if position != 1]
        assert felt == before["values"] * len(felt)
        assert not any(reason for position, reason in enumerate(chunk["reasons"]) if position != 1)


@pytest.mark.parametrize("what", DEEDS)
def test_a_task_alone_is_known_to_have_changed_the_state(what: str) -> None:
    """What a task alone changes is put back before the next chunk, or its process ends after its result is reported."""

    def play() -> list[dict[str, Any]]:
        state = ProcessState()
        chunks = [run_chunk(state, {}), run_chunk(state, {"what": what})]
        if not state.change:
            chunks.append(run_chunk(state, {}))
        return chunks

    before, alone, *after = in_child(play)

    assert len(alone["values"]) == 1
    assert not alone["change"] or alone["is_of_one"]
    assert [(chunk["values"], chunk["change"]) for chunk in after] == [(before["values"], "")] * len(after)


@pytest.mark.parametrize("what", ["working directory", "environment", "umask", "locale", "limit of files"])
def test_what_a_long_task_changes_is_put_back_at_once(what: str) -> None:
    """After a task that took long nothing needs to be executed again: what it changed is put back there and then."""

    def play() -> list[dict[str, Any]]:
        state = ProcessState()
        long_s = process_state.LOOK_S
        return [run_chunk(state, {}), run_chunk(state, {"lasts_s": long_s}, {"what": what, "lasts_s": long_s}, {}, {})]

    before, chunk = in_child(play)

    assert chunk["change"] == ""
    assert chunk["values"][2:] == before["values"] * 2


def test_settings_that_programs_set_in_each_task_cost_nobody_his_chunk() -> None:
    """Warnings filters and NumPy's error handling are set in many tasks: they are put back after each."""

    def quiet(parameters: Any, seed: int, threads: int) -> Any:
        found = [np.geterr()["divide"], len(warnings.filters)]
        np.seterr(all="ignore")
        warnings.filterwarnings("ignore", message="mine")
        return found

    def play() -> tuple[str, int, int]:
        state = ProcessState()
        domain = Domain("quiet", Asked, quiet, lambda _: "quiet")
        executions = execute_chunk(
            domain, [Work(n, 0, encode({})) for n in range(50)], 1, FileShelf(), settle=state.settle
        )
        state.rest()
        return state.change, len(executions), len({one.result for one in executions})

    assert in_child(play) == ("", 50, 1)


@pytest.mark.parametrize("what", ["working directory", "environment", "umask"])
def test_tasks_that_all_change_the_same_cost_nobody_his_chunk(what: str) -> None:
    """If each task of a lease changes the state, that is seen at the first one, and put back after each."""

    def play() -> list[dict[str, Any]]:
        before, state = run_chunk(ProcessState(), {}), ProcessState()
        return [
            before,
            run_chunk(state, *[{"what": what}] * 20),
            run_chunk(state, {}, {"what": what}, {}),
        ]

    before, chunk, mixed = in_child(play)

    assert chunk["change"] == mixed["change"] == ""
    assert len(chunk["values"]) == 20
    assert mixed["values"][::2] == before["values"] * 2


def test_what_several_tasks_share_is_told_by_name() -> None:
    """The message names the part that has changed."""

    def play() -> str:
        state = ProcessState()
        return str(run_chunk(state, {}, {"what": "working directory"}, {"what": "umask"})["change"])

    assert in_child(play) == "working directory, file mode creation mask"


def test_a_process_that_nothing_changes_is_left_alone() -> None:
    """Tasks that restore what they change, and ordinary ones, spoil nothing, however often they are looked at."""

    def tidy(parameters: Any, seed: int, threads: int) -> int:
        with warnings.catch_warnings(), np.errstate(all="raise"), contextlib.redirect_stdout(None):
            warnings.simplefilter("error")
        with contextlib.chdir("/"):
            return os.getpid()

    def play() -> str:
        state = ProcessState()
        domain = Domain("tidy", Asked, tidy, lambda _: "tidy")
        for _ in range(20):
            execute_chunk(domain, [Work(n, 0, encode({})) for n in range(20)], 1, FileShelf(), settle=state.settle)
            state.rest()
        return state.change

    assert in_child(play) == ""


def test_what_a_thread_of_an_earlier_task_changed_is_not_taken_for_the_change_of_the_next_one() -> None:
    """The task that was executed then has felt it, and is executed again in another process."""

    def play() -> list[dict[str, Any]]:
        wanted, changed = threading.Event(), threading.Event()

        def change_later() -> None:
            wanted.wait()
            os.chdir("/")
            changed.set()

        def act(parameters: Any, seed: int, threads: int) -> Any:
            if seed == 0:
                threading.Thread(target=change_later, daemon=True).start()
            else:
                wanted.set()
                changed.wait()

        domain = Domain("acts", Parameters, act, lambda _: "acts")
        state, chunks = ProcessState(), []
        for seed in range(2):
            execute_chunk(domain, [Work(0, seed, encode({}))], 1, FileShelf(), settle=state.settle)
            state.rest()
            chunks.append({"change": state.change, "is_of_one": state.is_of_one})
        return chunks

    left, felt = in_child(play)

    assert left["change"] == ""
    assert felt == {"change": "working directory", "is_of_one": False}


def test_threads_of_a_library_cost_nobody_his_worker() -> None:
    """Where a task has changed the same without such threads, a change beside them is known to be one of tasks."""

    def play() -> dict[str, Any]:
        def act(parameters: Any, seed: int, threads: int) -> Any:
            if seed:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            os.environ["DFZ_LIBRARY"] = str(seed)

        domain = Domain("acts", Parameters, act, lambda _: "acts")
        state = ProcessState()
        for seed in range(4):
            execute_chunk(domain, [Work(0, seed, encode({}))] * 3, 1, FileShelf(), settle=state.settle)
            state.rest()
        return {"change": state.change}

    assert in_child(play) == {"change": ""}


def test_an_exception_that_another_tasks_thread_raises_is_not_taken_for_the_failure_of_the_task_that_it_hits() -> None:
    def play() -> list[dict[str, Any]]:
        wanted = threading.Event()

        def interrupt(thread: int) -> None:
            wanted.wait()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(LookupError))

        def act(parameters: Any, seed: int, threads: int) -> Any:
            if seed == 0:
                threading.Thread(target=interrupt, args=(threading.get_ident(),), daemon=True).start()
            elif seed == 1:
                assert not threading, "a failure of its own, beside that thread"
            else:
                wanted.set()
                while True:
                    time.perf_counter()

        domain = Domain("acts", Parameters, act, lambda _: "acts")
        state, chunks = ProcessState(), []
        for seed in range(3):
            (executed,) = execute_chunk(domain, [Work(0, seed, encode({}))], 1, FileShelf(), settle=state.settle)
            state.rest()
            chunks.append({"failed": bool(executed.failure), "change": state.change, "is_of_one": state.is_of_one})
        return chunks

    left, failed, hit = in_child(play)

    assert left == {"failed": False, "change": "", "is_of_one": False}
    assert failed == {"failed": True, "change": "", "is_of_one": False}
    assert hit == {"failed": True, "change": process_state.STRAYS, "is_of_one": False}
