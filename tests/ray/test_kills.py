"""Whatever dies, nothing is lost: a small part of tests/chaos.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import kill_stories
from support.kill_trial import TASKS, measure_undisturbed

from dfz_ray.journal.reader import JournalReader


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a run of the batch that nobody disturbs."""
    told: str = measure_undisturbed(tmp_path_factory.mktemp("undisturbed"))["digest"]
    return told


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(kill_stories.kill_one_after_the_other, id="one after the other", marks=pytest.mark.long),
        pytest.param(kill_stories.two_managers_where_locks_do_not_hold, id="two managers", marks=pytest.mark.long),
    ],
)
def test_a_run_is_whole_after_deaths_that_come_together(
    story: Callable[[Path, str], None], tmp_path: Path, digest: str
) -> None:
    """Processes that die one after the other, or come back when they were replaced, change nothing of a run."""
    story(tmp_path / "story", digest)
    with JournalReader(tmp_path / "story" / "run") as journal:  # as the story has seen in both audits
        assert journal.digest() == digest
        assert journal.counts()["completed"] == TASKS
