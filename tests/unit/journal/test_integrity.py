"""The outcomes of completed tasks, which no sum covers, must be those that follow from the completions."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.damage import assert_refused, copies, damage_by_sql
from support.sample_run import build, check, told

from dfz_ray.journal.run_audit import audit_run


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    build(folder)
    return folder


DISAGREEMENTS = {
    "other chunk": (
        "UPDATE outcomes SET chunk = 99 WHERE task = 8",
        "task 8: it completed in chunk 8, but has no outco",
    ),
    "a chunk-mate's": ("UPDATE outcomes SET chunk = 9 WHERE task = 8", "task 8: its outcome says that it completed in"),
    "no chunk": (
        "UPDATE outcomes SET chunk = NULL WHERE task = 8",
        "outcomes say that tasks [8] completed in chunk None",
    ),
    "other commit": (
        'UPDATE outcomes SET "commit" = 1 WHERE task = 2',
        "chunk 102: it completed in commit 29, by its outcomes in commits 1 to 29",
    ),
    "a reason": ("UPDATE outcomes SET reason = '' WHERE task = 8", "chunk 8: completed tasks of it have a reason"),
    "a message": ("UPDATE outcomes SET message = 'm' WHERE task = 8", "chunk 8: completed tasks of it have a reason"),
    "a traceback": (
        "UPDATE outcomes SET traceback = 't' WHERE task = 8",
        "chunk 8: completed tasks of it have a reason",
    ),
    "failed": ("UPDATE outcomes SET state = 3 WHERE task = 8", "task 8: it completed in chunk 8, but has no outcome"),
    "missing": (
        "DELETE FROM outcomes WHERE task = 6",
        "task 6: it completed in chunk 102, but has no outcome that says",
    ),
    "all missing": ("DELETE FROM outcomes WHERE state = 2", "task 0: it completed in chunk 0, but has no outcome"),
    "surplus": (
        "INSERT INTO outcomes VALUES (7, 2, 102, NULL, NULL, NULL, 29)",
        "task 7: its outcome says that it completed in chunk 102, in which it did not",
    ),
    "of no completion": (
        "INSERT INTO outcomes VALUES (7, 2, 7, NULL, NULL, NULL, 29)",
        "outcomes say that tasks [7] completed in chunk 7, in which none did",
    ),
    "of no task": (
        "INSERT INTO outcomes VALUES (-1, 2, 7, NULL, NULL, NULL, 29)",
        "outcomes say that tasks [-1] completed in chunk 7, in which none did",
    ),
}


@pytest.mark.parametrize(("change", "text"), DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_an_outcome_that_does_not_follow_from_a_completion_is_noticed(
    sound: Path, tmp_path: Path, change: str, text: str
) -> None:
    """Outcomes of completed tasks, which no sum covers, are compared with the completions."""
    folder = next(copies(sound, tmp_path / "run"))
    damage_by_sql(folder, change)

    assert any(text in one for one in told(audit_run(folder))["outcomes"]), told(audit_run(folder))
    assert check(folder)
    assert_refused(folder)


def test_a_task_that_completed_before_it_was_reopened_is_noticed(sound: Path, tmp_path: Path) -> None:
    """Only failed tasks are reopened: that one completed before then is a contradiction."""
    folder = next(copies(sound, tmp_path / "run"))
    damage_by_sql(folder, "INSERT INTO reopened VALUES (8, 3, 3, 'exception', 'no', NULL, 2, 28)")

    assert "task 8 was reopened after it had completed" in told(audit_run(folder))["outcomes"]
    assert check(folder)
