"""What a run says when it is opened."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from support.small_run import make_run

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver import manager_client, slot_plan
from dfz_ray.driver.run_opening import RunOpening
from dfz_ray.driver.slot_plan import SlotPlan
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.run_config import RunConfig

NO_EFFECT = "`speculate` has no effect on tasks that share processes, on threads: none gets a second attempt"


def make_batch(domain: str = "sorting", **policy: Any) -> Batch:
    """A batch with a task of another domain and policy, too."""
    tasks = [{"domain": "maze"}, {"domain": domain, "policy": policy}]
    return read_batch({"tasks": tasks}, REGISTRY)


def open_run(folder: Path, monkeypatch: pytest.MonkeyPatch, width: int, *batches: Batch | None) -> None:
    """Open a run twice with the first of these batches, and send the others; nothing of it needs Ray."""
    monkeypatch.setattr(slot_plan, "plan_slots", lambda *_: SlotPlan(8, width=width))
    monkeypatch.setattr(manager_client, "ManagerClient", lambda *_, **__: None)
    opening = RunOpening(RunConfig(use_threads=width > 1, accept_domain_versions=True), folder, (), False)
    for _ in range(2):
        opening.open(batches[0], is_endless=False)
    for batch in batches[1:]:
        assert batch is not None
        opening.ship(batch)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings so far."""
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_second_attempts_and_threads_do_not_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run on threads whose batch asks for second attempts says once that there will be none."""
    wishes = make_batch(speculate=True)
    open_run(tmp_path / "first", monkeypatch, 8, wishes, wishes)
    assert told(caplog) == [NO_EFFECT]

    open_run(tmp_path / "later", monkeypatch, 8, make_batch(), make_batch(), wishes, wishes)
    assert told(caplog) == [NO_EFFECT] * 2


def test_where_they_are_possible_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without threads, and without the wish."""
    open_run(tmp_path / "processes", monkeypatch, 1, make_batch(speculate=True))
    open_run(tmp_path / "modest", monkeypatch, 8, make_batch(max_attempts=2))

    assert told(caplog) == []


def test_of_tasks_that_share_no_process_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second attempt is possible for a domain that has each process to itself, also in a run on threads."""
    pytest.importorskip("torch")
    open_run(tmp_path / "exclusive", monkeypatch, 8, make_batch("image_classification", speculate=True))

    assert told(caplog) == []


@pytest.mark.parametrize("speculate", [False, True])
def test_a_run_that_goes_on_says_so_too(
    speculate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its journal has the policies of its tasks."""
    policy = json.loads(Policy(speculate=speculate).model_dump_json())
    monkeypatch.setattr("support.small_run.POLICY", json.dumps(policy))
    make_run(tmp_path / "run", ["a"], domain="sorting").close()

    open_run(tmp_path / "run", monkeypatch, 8, None)

    assert told(caplog) == [NO_EFFECT] * speculate
