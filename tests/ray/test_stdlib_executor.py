"""DFZExecutor passes the standard library's own tests of executors; what fails of them is listed with its reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from support import stdlib_tests
from support.stdlib_tests import KNOWN_FAILURES, Case, find_cases, find_folder, is_generic, run_case, why_left_out

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
LEAST_SHARE = 0.95

pytestmark = pytest.mark.skipif(FOLDER is None, reason=stdlib_tests.HINT)


class NoRun:
    """In the place of the run of a future that is not submitted."""

    def cancel(self, futures: Any) -> None:
        """There is nothing to cancel."""


class Future(CallFuture):
    """Our future, made as the tests make theirs."""

    def __init__(self) -> None:
        super().__init__(NoRun(), Treatment(Resources(), Policy()), PackedCall("", b"", None))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def programs(cluster: None) -> Iterator[None]:
    """Programs that the tests start find DFZExecutor in concurrent.futures, and the Ray of this process."""
    assert FOLDER is not None
    ship_by_value(sys.modules[stdlib_tests.PACKAGE])  # the workers need not have these tests
    shutdown: Any = MODULES["test_shutdown"]
    run_python, before = shutdown.assert_python_ok, stdlib_tests.prelude(FOLDER, ray.get_runtime_context().gcs_address)
    shutdown.assert_python_ok = lambda flag, program: run_python(flag, before + program, __isolated=False)
    yield
    shutdown.assert_python_ok = run_python


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}.{case[2]}")
@pytest.mark.usefixtures("programs")
def test_of_the_standard_library(case: Case) -> None:
    """A test that holds of any executor holds of DFZExecutor, unless it is listed."""
    why = run_case(MODULES, case, DFZExecutor, Future)
    if case in KNOWN_FAILURES:
        assert "!= b'apple'" in why, why or "it is listed as failing, and passes"
        pytest.xfail(KNOWN_FAILURES[case])
    assert not why


def test_the_list_is_complete() -> None:
    """Each test of the standard library is run, or left out for a reason; at least 95 % of those run pass."""
    told = [case for case in find_cases(MODULES) if not is_generic(case) and why_left_out(case) is None]
    failing = [case for case in CASES if case in KNOWN_FAILURES]

    assert told == []
    assert len(CASES) > 40
    assert len(failing) <= (1 - LEAST_SHARE) * len(CASES)
