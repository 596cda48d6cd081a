"""DFZExecutor passes the standard library's own tests of executors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from support import stdlib_tests
from support.stdlib_tests import Case, find_cases, find_folder, is_generic, run_case, why_left_out

from dfz_ray import DFZExecutor
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.executor.call_packing import PackedCall
from dfz_ray.executor.call_run import Treatment
from dfz_ray.executor.future import CallFuture
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

FOLDER = find_folder()
MODULES = stdlib_tests.load(FOLDER) if FOLDER else {}
CASES = [case for case in find_cases(MODULES) if is_generic(case)]
LONG = {
    *("test_duplicate_futures", "test_free_reference", "test_free_reference_yielded_future", "test_map_timeout"),
    *("test_first_exception", "test_first_exception_one_already_failed", "test_timeout"),
    *("test_first_exception_some_already_complete", "test_submit_after_interpreter_shutdown"),
    *("test_hang_gh83386", "test_hang_issue12364", "test_interpreter_shutdown"),
}
"""Tests that wait for seconds, or start programs."""

pytestmark = pytest.mark.skipif(FOLDER is None, reason=stdlib_tests.HINT)


class NoRun:
    """In the place of the run of a future that is not submitted."""

    def cancel(self, futures: Any) -> None:
        """There is nothing to cancel."""


class Future(CallFuture):
    """Our future, made as the tests make theirs."""

    def __init__(self) -> None:
        super().__init__(NoRun(), Treatment(Resources(), Policy()), PackedCall("", b"", None))  # type: ignore[arg-type]


@pytest.fixture
def programs(cluster: None, tmp_path: Path) -> Iterator[None]:
    """Programs that the tests start find DFZExecutor in concurrent.futures, and the Ray of this process.

    The output of their calls, which is in a file, is handed to the tests as that of the program.
    """
    assert FOLDER is not None
    ship_by_value(sys.modules[stdlib_tests.PACKAGE])  # the workers need not have these tests
    shutdown: Any = MODULES["test_shutdown"]
    run_python, output = shutdown.assert_python_ok, tmp_path / "output"
    before = stdlib_tests.prelude(FOLDER, ray.get_runtime_context().gcs_address, output)

    def run_program(flag: str, program: str) -> tuple[int, bytes, bytes]:
        code, out, errors = run_python(flag, before + program, __isolated=False)
        return code, out + (output.read_bytes() if output.exists() else b""), errors

    shutdown.assert_python_ok = run_program
    yield
    shutdown.assert_python_ok = run_python


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.long] if case[2] in LONG else []) for case in CASES],
    ids=[f"{case[1]}.{case[2]}" for case in CASES],
)
@pytest.mark.usefixtures("programs")
def test_of_the_standard_library(case: Case) -> None:
    """A test that holds of any executor holds of DFZExecutor."""
    assert not run_case(MODULES, case, DFZExecutor, Future)


def test_the_list_is_complete() -> None:
    """Each test of the standard library is run, or left out for a reason."""
    assert [case for case in find_cases(MODULES) if not is_generic(case) and why_left_out(case) is None] == []
    assert len(CASES) > 40
