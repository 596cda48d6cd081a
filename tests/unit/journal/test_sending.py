"""How many tasks were meant, and how many were sent: what a run says whose driver ended in between."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.command_line import dfz, held
from support.journal_rows import block
from support.sample_run import both_say_ok, build, check, completed, create, find_incomplete, told

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.run_status import RunStatus, find_status, write_status
from dfz_ray.journal.sending import MeantBatch, find_unsent
from dfz_ray.journal.writer import Group, JournalWriter

COMMAND = ("dfz", "run", "/data/two words.yaml")


def meant(tasks: int, epoch: int = 1, batch: int = 0, command: tuple[str, ...] = COMMAND) -> tuple[str, str]:
    """A note that a batch is meant to have so many tasks."""
    return f"meant/{batch}/{epoch}", MeantBatch("sample", tasks, command).to_json()


def test_a_run_of_which_tasks_were_not_sent_is_incomplete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status and audit say both numbers, and the command that sends the rest, and exit with 1; it is no violation."""
    folder = tmp_path / "my run"
    writer = create(folder)
    writer.commit(Group(meta=[meant(400_000)], completions=[completed(0, 1)]))
    writer.close()

    assert dfz("status", str(folder)) == dfz("audit", str(folder)) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("incomplete: ")]
    assert dfz("status", str(folder), "--json") == dfz("audit", str(folder), "--json") == 1
    status, audit = map(json.loads, capsys.readouterr().out.splitlines())

    command = f"dfz run '/data/two words.yaml' --run-dir {shlex.quote(str(folder))}"
    text = f"of the 400,000 tasks of batch 'sample' only 30 were sent; the rest is sent by: {command}"
    assert lines == [f"incomplete: {text}"] * 2
    assert status["incomplete"] == [{"batch": "sample", "sent": 30, "meant": 400_000, "command": command}]
    assert (audit["ok"], audit["incomplete"]) == (True, [text])
    assert both_say_ok(folder)
    assert find_incomplete(folder) == [(30, 400_000)]


def test_a_run_of_which_nothing_was_sent_is_incomplete(tmp_path: Path) -> None:
    """A new run knows how many tasks are meant before the first of them has come."""
    JournalWriter.create(tmp_path, {"name": "sample", **dict([meant(5, epoch=0)])}).close()

    (unsent,) = find_unsent(tmp_path)

    assert (unsent.sent, unsent.meant.tasks) == (0, 5)
    assert both_say_ok(tmp_path)
    assert find_incomplete(tmp_path) == [(0, 5)]


def test_a_program_sends_the_rest_by_itself(tmp_path: Path) -> None:
    """Of a batch that no command sent, the message names the call."""
    writer = create(tmp_path)
    writer.commit(Group(meta=[meant(31, command=())]))
    writer.close()

    (text,) = audit_run(tmp_path).incomplete

    assert text.endswith(f"calling run() again with the same batch and run_dir={str(tmp_path)!r}")


def test_while_a_process_works_on_the_run_nothing_is_incomplete(tmp_path: Path) -> None:
    """The rest may be on its way as long as a driver has the run open."""
    writer = create(tmp_path)
    writer.commit(Group(meta=[meant(31)]))

    with held(tmp_path):
        assert dfz("status", str(tmp_path)) == dfz("audit", str(tmp_path)) == 0
    assert dfz("status", str(tmp_path)) == dfz("audit", str(tmp_path)) == 1
    writer.close()


def test_of_several_notes_the_latest_counts(tmp_path: Path) -> None:
    """A batch that was sent again, with more or fewer tasks, is whole when it has as many as were meant last."""
    writer = create(tmp_path)
    writer.commit(Group(meta=[meant(40, epoch=2), meant(30, epoch=10)], blocks=[block(30, ["more"], batch=1)]))
    writer.commit(Group(meta=[meant(2, batch=1)], batches=[(1, "other", 0, 1.0)]))
    writer.close()

    assert [(one.number, one.sent, one.meant.tasks) for one in find_unsent(tmp_path)] == [(1, 1, 2)]
    assert find_incomplete(tmp_path) == [(1, 2)]


def test_a_batch_never_has_more_tasks_than_were_meant(tmp_path: Path) -> None:
    """More tasks than were meant are a violation, and so is a note on an opening that there never was."""
    writer = create(tmp_path)
    writer.commit(Group(meta=[meant(29), ("opening/2", json.dumps({"driver": "d", "imports": []}))]))
    writer.close()

    assert not both_say_ok(tmp_path)
    assert told(audit_run(tmp_path)) == {
        "conservation": (
            "the note opening/2 is of an unknown epoch",
            "batch 0 has 30 tasks, and only 29 were meant",
        )
    }
    assert len(check(tmp_path)) == 2


# --- the counts of the status file ------------------------------------------------------------------------------------


def write_counts(folder: Path, working: bool, **changes: int) -> None:
    """Write the status that a manager writes as it closes the sample run, or one with other counts."""
    with JournalReader(folder) as journal:
        counts, commits = journal.counts(), journal.commits()
    status = RunStatus("r", "sample", 2, 1, "host", 1.0, working, {**counts, **changes}, 2, "", 0, None, None, commits)
    write_status(folder, status)


@pytest.mark.parametrize(
    "changes", [{"completed": 28}, {"completed": 26}, {"failed": 0}, {"cancelled": 2}, {"pending": 0}, {"running": 1}]
)
def test_counts_that_differ_from_the_journal_are_found(tmp_path: Path, changes: dict[str, int]) -> None:
    """At rest the status file counts what the journal counts; any other number is a violation."""
    build(tmp_path)
    write_counts(tmp_path, working=False)
    assert both_say_ok(tmp_path)

    write_counts(tmp_path, working=False, **changes)

    assert find_status(tmp_path).counts.items() >= changes.items()  # as `dfz status` shows it
    assert not both_say_ok(tmp_path)
    assert told(audit_run(tmp_path)).keys() == {"status"}


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({"completed": 26, "running": 2}, True),
        ({"failed": 3}, True),
        ({"pending": 500}, True),
        ({"completed": 28}, False),
        ({"failed": 4}, False),
        ({"cancelled": 2}, False),
    ],
)
def test_the_status_of_a_run_that_was_killed_may_lag(tmp_path: Path, changes: dict[str, int], ok: bool) -> None:
    """A status that was written at work counts no more ended tasks than the journal; two failed ones were reopened."""
    build(tmp_path)
    (tmp_path / "seal").unlink()

    write_counts(tmp_path, working=True, **changes)

    assert both_say_ok(tmp_path) == ok
