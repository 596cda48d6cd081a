"""The parts of the state that libraries and imports touch: what is put back, and what stays."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.child import in_child

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker.code_state import _Names
from dfz_ray.worker.process_state import ProcessState


def execute(state: ProcessState, *tasks: Callable[[], Any]) -> list[Any]:
    """Execute tasks as a chunk of a worker; returns their results."""
    domain = Domain("acts", Parameters, lambda parameters, seed, threads: tasks[seed](), lambda _: "acts")
    works = [Work(number, number, encode({})) for number in range(len(tasks))]
    executions = execute_chunk(domain, works, 1, FileShelf(), settle=state.settle)
    state.rest()
    return [one.failure.message if one.failure else decode(one.result or b"") for one in executions]


def test_folders_that_came_with_an_import_stay_and_hide_no_others(tmp_path: Path) -> None:
    """A module that adds its folder to the search path finds its neighbours there also in a later task."""
    (tmp_path / "lazy.py").write_text("import sys\nsys.path.insert(0, __path__)\ndef late(): import neighbour\n")
    (tmp_path / "neighbour.py").touch()

    def load() -> None:
        spec = importlib.util.spec_from_file_location("lazy", tmp_path / "lazy.py")
        assert spec is not None
        assert spec.loader is not None
        lazy = sys.modules["lazy"] = importlib.util.module_from_spec(spec)
        vars(lazy)["__path__"] = str(tmp_path)
        spec.loader.exec_module(lazy)

    def use() -> None:
        sys.modules["lazy"].late()

    def play() -> tuple[Any, ...]:
        state, before = ProcessState(), list(sys.path)
        results = execute(state, lambda: None, load, use, lambda: None)
        return results, state.change, before, list(sys.path)

    results, change, before, after = in_child(play)

    assert (results, change) == ([None] * 4, "")
    assert after == [*before, str(tmp_path)]


class Finder(importlib.abc.MetaPathFinder):
    """It finds one module, before others may look for it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, Loader()) if name == "virtual" else None


class Loader(importlib.abc.Loader):
    def exec_module(self, module: Any) -> None:
        module.value = 17


@pytest.mark.parametrize("has_imported", [True, False])
def test_import_hooks_that_came_with_an_import_stay(has_imported: bool) -> None:
    """A library that installs a hook once, as it is imported, goes on to work; a hook that a task adds ends with it."""

    def install() -> None:
        sys.meta_path.insert(0, Finder())
        if has_imported:
            sys.modules["library"] = type(sys)("library")

    def use() -> Any:
        return importlib.import_module("virtual").value

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        return execute(state, lambda: None, install, use), state.change

    results, change = in_child(play)

    assert change == ""
    assert results == [None, None, 17 if has_imported else "ModuleNotFoundError: No module named 'virtual'"]


def test_a_folder_that_every_task_adds_costs_nobody_his_chunk() -> None:
    """The search path does not grow, and nothing is executed again."""

    def add() -> int:
        sys.path.insert(0, "/nowhere")
        return sys.path.count("/nowhere")

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        return execute(state, *[add] * 20), state.change

    assert in_child(play) == ([1] * 20, "")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="needs two CPUs")
def test_a_thread_that_openmp_binds_stays_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP binds the main thread when it first works in parallel, and rests on it: that is no change of a task."""
    last = max(os.sched_getaffinity(0))

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        execute(state, lambda: None, lambda: os.sched_setaffinity(0, {last}), lambda: None)
        return os.sched_getaffinity(0), state.change

    monkeypatch.setenv("OMP_PROC_BIND", "true")
    assert in_child(play) == ({last}, "")


TORCH = {
    "gradients": lambda torch: torch.set_grad_enabled(False),
    "type": lambda torch: torch.set_default_dtype(torch.float64),
    "device": lambda torch: torch.set_default_device("meta"),
    "algorithms": lambda torch: torch.use_deterministic_algorithms(True),
    "precision": lambda torch: torch.set_float32_matmul_precision("medium"),
}


@pytest.mark.parametrize("what", TORCH)
def test_settings_of_torch_are_put_back(what: str) -> None:
    """What a task sets in torch, and does not restore, the next one does not find."""
    torch = pytest.importorskip("torch")

    def feel() -> list[str]:
        made = torch.ones(1, requires_grad=True).sum()
        precision = torch.get_float32_matmul_precision()
        return [str(made), str(made.device), str(torch.are_deterministic_algorithms_enabled()), precision]

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        (before,) = execute(state, feel)
        execute(state, lambda: TORCH[what](torch))
        return before, execute(state, feel), state.change

    before, after, change = in_child(play)

    assert (after, change) == ([before], "")


def test_a_mode_of_torch_that_is_left_on_ends_its_process() -> None:
    """Inference mode can't be switched off from outside: no task is executed in that process any more."""
    torch = pytest.importorskip("torch")

    def play() -> tuple[Any, ...]:
        state = ProcessState()
        execute(state, lambda: None, mode.__enter__, lambda: None)
        return state.change, state.is_of_one

    mode = torch.inference_mode()
    assert in_child(play) == ("torch settings", False)


def test_functions_that_were_put_back_are_the_same_again() -> None:
    """Of two modules one was patched: both are what they were, by identity, and so is one that healed by itself."""
    patched, other = ModuleType("patched"), ModuleType("other")
    for module in (patched, other):
        vars(module)["function"] = len
    functions = _Names(lambda: [patched, other])
    saved = functions()

    vars(patched)["function"] = print
    changed = functions()
    assert changed[0] is not saved[0]
    assert changed[1] is saved[1]
    functions.put_back(saved)
    assert functions() is saved

    vars(other)["function"] = print
    vars(other)["function"] = len
    assert functions() is saved


def test_a_look_that_failed_counts_for_nothing() -> None:
    """Functions that could not be read are read again, although nothing has changed since."""
    module = ModuleType("module")
    vars(module)["function"] = len
    functions = _Names(lambda: [module])
    found = functions()
    del vars(module)["function"]
    for _ in range(2):
        with pytest.raises(KeyError):
            functions()
    functions.put_back(found)
    assert functions() == found == ((len, len),)
