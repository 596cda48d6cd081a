"""DFZExecutor passes loky's own tests of executors, which its wheel does not have and which are not copied here.

`make chaos` downloads its source for them. By hand:
pip download loky --no-deps --no-binary loky && tar xzf loky-*.tar.gz
DFZ_LOKY=loky-3.7.0 pytest tests/ray/test_loky_executor.py -m long
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dfz_ray import DFZExecutor
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.executor.call_packing import LIMIT_BYTES

ship_by_value(sys.modules[__name__])  # the workers need not have this module

HINT = "set DFZ_LOKY to the folder of an unpacked source distribution of loky, and install loky"
PACKAGE = "loky_executor_tests"
"""The name under which the package `tests` of loky is loaded here and in the workers."""
GENERIC = {
    "ExecutorShutdownTest": ("test_run_after_shutdown", "test_hang_issue12364"),
    "WaitTests": (
        "test_first_completed",
        "test_first_completed_some_already_completed",
        "test_first_exception",
        "test_first_exception_some_already_complete",
        "test_first_exception_one_already_failed",
        "test_all_completed",
        "test_timeout",
    ),
    "AsCompletedTests": ("test_no_timeout", "test_zero_timeout", "test_duplicate_futures"),
    "ExecutorTest": (
        "test_submit",
        "test_submit_keyword",
        "test_map",
        "test_map_exception",
        "test_map_timeout",
        "test_shutdown_race_issue12456",
        "test_no_stale_references",
        "test_max_workers_negative",
        "test_falsey_exception",
        "test_map_chunksize",
        "test_thread_safety",
        "test_submit_from_callback",
    ),
}
"""The tests that hold for any executor, by class."""
PROCESSES = "looks at a process pool's processes, threads, queues and flags, or passes `context` or `kill_workers`"
PICKLING = "wants the PicklingError of a pool that pickles in a thread; submit raises here"
LEFT_OUT = {
    **dict.fromkeys(("test_shutdown_with_pickle_error", "test_shutdown_with_sys_exit_at_pickle"), PICKLING),
    **dict.fromkeys(("test_shutdown_deadlock_pickle", "test_serialization"), PROCESSES),
    **dict.fromkeys(("test_interpreter_shutdown", "test_hang_gh94440"), "starts a program that names loky's executor"),
    "test_hang_issue39205": "reads what a call has printed from the program's stdout; it is in Ray's logs",
    **dict.fromkeys(("test_processes_terminate", "test_processes_terminate_on_executor_gc"), PROCESSES),
    **dict.fromkeys(("test_processes_crash_handling_after_executor_gc", "test_context_manager_shutdown"), PROCESSES),
    **dict.fromkeys(("test_del_shutdown", "test_shutdown_no_wait", "test_shutdown_and_kill_workers"), PROCESSES),
    **dict.fromkeys(("test_killed_child", "test_killed_child_with_cancelled_work_items"), PROCESSES),
    **dict.fromkeys(("test_worker_timeout", "test_max_depth", "test_memory_leak_protection"), PROCESSES),
    **dict.fromkeys(("test_reference_cycle_collection", "test_exited_child", "test_child_env_executor"), PROCESSES),
    **dict.fromkeys(("test_viztracer_profiler", "test_viztracer_profiler_with_custom_init"), "profiles loky's workers"),
    "test_traceback": "wants loky's own class as the cause of an exception",
    "test_exception_cause_with_tblib": "tests loky's own pickling of tracebacks",
    "test_no_deprecation_warning_is_raised_on_fork": PROCESSES,
    **dict.fromkeys(
        ("test_manager_thread_crash_breaks_executor", "test_feeder_error_hook_crash_breaks_executor"), PROCESSES
    ),
    "test_no_failure_on_large_data_send": f"sends 2.2 GB as an argument; at most {LIMIT_BYTES / 1e9:.2f} GB may travel",
}
"""All other tests, with the reason."""
CASES = [(name, method) for name, methods in GENERIC.items() for method in methods]

pytestmark = pytest.mark.long


def begin(folder: str, event: Any) -> None:
    """The initializer of the workers: they can import loky's tests, and know the event."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.import_module(f"{PACKAGE}._executor_mixin")._test_event = event


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module of loky's tests."""
    source = Path(os.environ.get("DFZ_LOKY", "(none)")) / "tests"
    if not (source / "_test_process_executor.py").is_file():
        pytest.skip(HINT)
    pytest.importorskip("loky", reason=HINT)
    folder = tmp_path_factory.mktemp("loky")
    (folder / PACKAGE).symlink_to(source.resolve())
    sys.path.insert(0, str(folder))
    yield importlib.import_module(f"{PACKAGE}._test_process_executor")
    sys.path.remove(str(folder))


@pytest.mark.parametrize(("name", "method"), CASES)
@pytest.mark.usefixtures("cluster")
def test_of_loky(theirs: ModuleType, name: str, method: str) -> None:
    """A test that holds of any executor holds of DFZExecutor."""
    test = getattr(theirs, name)()
    test.executor_type, test.worker_count = DFZExecutor, 2
    with multiprocessing.Manager() as manager:
        event = theirs._executor_mixin._test_event = manager.Event()
        folder = str(Path(theirs.__file__ or "").parents[1])
        with DFZExecutor(2, initializer=begin, initargs=(folder, event)) as test.executor:
            assert test.executor.submit(abs, -1).result() == 1  # loky, too, has workers before a test begins
            getattr(test, method)()
        theirs._executor_mixin._test_event = None


def test_the_list_is_complete(theirs: ModuleType) -> None:
    """Each of loky's tests is run, or left out for a reason."""
    known = {method for methods in GENERIC.values() for method in methods} | set(LEFT_OUT)
    found = {method for name in GENERIC for method in vars(getattr(theirs, name)) if method.startswith("test_")}
    assert found - known == set()
