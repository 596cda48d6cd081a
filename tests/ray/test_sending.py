"""Batches on their way: a part that was sent is not taken for the whole, and messages may overtake each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from support.manager import open_run, wait_for_end
from support.sender import check_incomplete, end_while_sending, send_the_rest

from dfz_ray.client import shipped_domains
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.manager_actor import answer_of, get_manager
from dfz_ray.driver.slot_plan import SlotPlan
from dfz_ray.errors import InfrastructureLost
from dfz_ray.protocol.submission import Submission, SubmittedKind
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.settings import Settings

SETTINGS = Settings()
FOLLOWS = Submission(0, 0, before=1).pack()
"""What the driver has sent after one task."""


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_a_run_whose_driver_ended_while_it_sent_is_incomplete(name: str, tmp_path: Path) -> None:
    """Status, audit and resume say how many of how many tasks were sent; the command that they name sends the rest.

    `last` means the run from its begin, and no command needs the run's modules to be named again.
    """
    ended = end_while_sending(tmp_path, name, 30_000)
    command = check_incomplete(tmp_path, ended.sent, ended.tasks)
    assert name == "SIGKILL" or command in ended.stderr  # the driver has printed it, too
    assert send_the_rest(tmp_path, command, ended.tasks)["counts"]["completed"] == ended.tasks


def test_what_overtakes_tasks_waits_for_them(cluster: None, tmp_path: Path) -> None:
    """A block, or a cancellation, that arrives before the tasks that were sent before it takes effect after them."""
    client = open_run(tmp_path / "run", SETTINGS, SlotPlan(1))
    manager = get_manager()
    early = [manager.submit.remote(client.id, FOLLOWS), manager.cancel.remote(client.id, {0}, "early", 1)]
    assert ray.wait(early, num_returns=1, timeout=0.5)[0] == []

    tasks = [{"domain": "sorting", "parameters": {"list_length": 10}}]
    batch = read_batch(tasks, REGISTRY, SETTINGS.resources, SETTINGS.policy)
    client.submit(batch, shipped_domains(batch))
    ray.get(early)
    wait_for_end(client)
    client.close()


def test_what_follows_tasks_that_never_came_does_not_wait_for_ever(cluster: None, tmp_path: Path) -> None:
    """Tasks that the manager can't take in end the run: what was sent after them is refused, and nothing hangs."""
    client = open_run(tmp_path / "run", SETTINGS, SlotPlan(1))
    manager = get_manager()
    follows = manager.submit.remote(client.id, FOLLOWS)
    broken = Submission(0, 0, kinds=[SubmittedKind("sorting", "sorting", "no shape", "{}")])
    with pytest.raises(InfrastructureLost):
        answer_of(manager, manager.submit.remote(client.id, broken.pack()))
    with pytest.raises(InfrastructureLost, match="the run can't go on"):
        answer_of(manager, follows)
    client.close()


def test_what_waits_for_tasks_ends_with_its_run(cluster: None, tmp_path: Path) -> None:
    """A run that is closed refuses what waits for tasks that will not come any more."""
    client = open_run(tmp_path / "run", SETTINGS, SlotPlan(1))
    manager = get_manager()
    follows = manager.submit.remote(client.id, FOLLOWS)
    client.close()
    with pytest.raises(InfrastructureLost, match="the run was closed"):
        answer_of(manager, follows)
