"""Domains that workers can't load, because they lack a module."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.calls import DEADLINE_S

from dfz_ray import domain, run
from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.journal.run_audit import audit_run

ship_by_value(sys.modules[__name__])  # the workers need not have this module


class ElsewhereMissing:
    """Something of a module that only the driver has."""

    def __reduce__(self) -> Any:
        return importlib.import_module, ("a_module_of_the_driver",)


HELD = ElsewhereMissing()


@domain("unloadable")
def unloadable() -> bool:
    """It refers to what workers lack."""
    return HELD is not None


@pytest.mark.parametrize("use_threads", [False, True])
def test_tasks_of_a_domain_that_no_worker_can_load_fail_soon(cluster: None, use_threads: bool, tmp_path: Path) -> None:
    """They fail with the import error, not after one slow start after the other; other domains' complete."""
    sorting = {"domain": "sorting", "parameters": {"list_length": 10}}
    run([sorting] * 4, max_workers=2, use_threads=use_threads)  # so that Ray and its workers are there
    began = time.monotonic()
    results = run(
        [unloadable.task() for _ in range(500)] + [sorting] * 5,
        max_workers=2,
        use_threads=use_threads,
        run_dir=tmp_path / "run",
    )

    assert time.monotonic() - began < DEADLINE_S / 4
    assert (results.counts["failed"], results.counts["completed"]) == (500, 5)
    errors = {record.error for record in results if record.error is not None}
    (error,) = errors
    assert error.reason == "exception"
    assert "the domain can't be loaded on any worker: ModuleNotFoundError: No module named 'a_module" in error.message
    assert "import_module" in (error.traceback or "")
    assert [text for check in audit_run(tmp_path / "run").checks for text in check.violations] == []
