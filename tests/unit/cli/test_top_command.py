"""`dfz top`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import EVIL, dfz
from support.small_run import completed, failed, make_run

from dfz_ray.journal.lock import RunLock
from dfz_ray.journal.run_activity import Activity, FailureCause, KindActivity, ManagerLoad, SlotActivity
from dfz_ray.journal.run_status import RunStatus, write_status
from dfz_ray.specs.states import STATES

pytestmark = pytest.mark.usefixtures("working_folder")


def counts(**given: int) -> dict[str, int]:
    return {**dict.fromkeys(STATES, 0), **given}


def activity(kinds: int = 2, slots: int = 2, causes: int = 2) -> Activity:
    return Activity(
        domains=(KindActivity("coin", "", counts(pending=600, running=3, completed=397), 2.0),),
        kinds=tuple(
            KindActivity("coin", f"coin of {number}", counts(pending=300, completed=200), 2.0)
            for number in range(kinds)
        ),
        slots=tuple(
            SlotActivity(number, "host-a", 4711 + number, 1, "coin", "coin of 1", 12, 3.5) for number in range(slots)
        ),
        more_slots=5,
        failures=tuple(FailureCause("coin", "exception", f"cause {number}", 7, 1) for number in range(causes)),
        load=ManagerLoad(0.25, 0.0031, 12.5, 70.0),
    )


STATUS = RunStatus(
    run_id="r",
    name="demo",
    epoch=2,
    process=4711,
    host="host-a",
    updated_at=0.0,
    working=True,
    counts=counts(pending=600, running=3, completed=380, failed=17),
    slots=4,
    why_slots="",
    leases=3,
    tasks_per_s=12.34,
    left_s=400.0,
    commits=1,
    activity=activity(),
)


@contextlib.contextmanager
def at_work(folder: Path, status: RunStatus = STATUS) -> Iterator[None]:
    """A process works on the run, and has written this status."""
    lock = RunLock(folder)
    write_status(folder, dataclasses.replace(status, updated_at=time.time()))
    try:
        yield
    finally:
        lock.close()


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_run_at_work(
    width: int, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress, time left, slots, failures and the manager's load of a run at work fit a terminal of any width."""
    monkeypatch.setenv("COLUMNS", str(width))
    with at_work(run):
        assert dfz("top", "last", "--once") == 0

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    if width < 80:
        return
    told = " ".join(out.split())
    for part in (
        "demo",
        "process 4711 on host-a",
        "39 % of 1,000",
        "12.3 tasks/s",
        "6.7 min left",
        "3 of 4 slots",
        "600 pending, 3 running, 380 completed, 17 failed",
        "manager 25 % busy, commits take 3.1 ms, 12.5 tasks a chunk, oldest waits 70 s",
        "coin 397 1,000 3 6.7 min",
        "coin of 1 200 500 2.0 s 3.3 min",
        "host-a 4712 1 coin: coin of 1 12 4 s",
        "and 5 more processes",
        "7 1 exception",
        "cause 1",
        "3 earlier, see: dfz failures RUN",
    ):
        assert part in told


def test_the_journal_of_a_run_at_work_is_not_opened(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run at work is shown from its status file: a journal that nobody could read makes no difference."""
    (run / "run.sqlite").write_bytes(b"no journal")
    with at_work(run):
        assert dfz("top", str(run), "--once") == 0
    assert "39 % of 1,000" in words(capsys)


def test_a_run_that_nobody_works_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was left shows what its journal has, why tasks failed, and how it goes on."""
    assert dfz("top", str(run)) == 0

    told = words(capsys)
    assert "dfz resume RUN" in told
    assert "60 % of 5" in told
    assert "2 pending, 2 completed, 1 failed" in told
    assert "1 exception coin" in told
    assert "slots" not in told, "nobody has any"


def test_a_run_that_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that has ended shows its end."""
    make_run(tmp_path / "over", ["a", "b"], completed(0, 1), failed(1, "timeout", "it took 12 s")).close()
    assert dfz("top", "over") == 0

    told = words(capsys)
    assert "all tasks have ended" in told
    assert "100 % of 2" in told
    assert "1 timeout coin it took <number> s" in told


def test_a_run_whose_tasks_were_never_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is shown as incomplete if its driver ended before it had sent all tasks."""
    writer = make_run(tmp_path / "half", ["a"], completed(0, 1))
    from dfz_ray.journal.sending import MeantBatch
    from dfz_ray.journal.writer import Group

    writer.commit(Group(meta=[("meant/0/0", MeantBatch("batch", 10, ("dfz", "run", "b.yaml")).to_json())]))
    writer.close()
    assert dfz("top", "half") == 0

    told = words(capsys)
    assert "of the 10 tasks of batch 'batch' only 1 were sent" in told
    assert "before all of its tasks were sent" in told


def test_several_runs_and_other_folders(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several runs are shown one below the other; a folder that holds no run is named, and hides no other one."""
    make_run(tmp_path / "other", ["a"]).close()
    (tmp_path / "foreign").mkdir()
    with at_work(run):
        assert dfz("top", "last", "other", "foreign", "--once") == 0

    told = words(capsys)
    assert told.index("39 % of 1,000") < told.index("0 % of 1") < told.index("can't be read: foreign is no run folder")


def test_without_a_run_those_at_work_are_shown(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without RUN the runs at work in the folder of runs are shown, or else the last one."""
    for name in ("first", "second", "third"):
        make_run(tmp_path / "runs" / name, ["a"]).close()
    assert dfz("top") == 0
    assert "my run" in words(capsys)

    with at_work(tmp_path / "runs" / "first"), at_work(tmp_path / "runs" / "third"):
        assert dfz("top") == 0
    told = words(capsys)
    assert ("runs/first" in told, "runs/second" in told, "runs/third" in told) == (True, False, True)


def test_texts_of_users_do_no_harm(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, kinds and messages are shown with their control characters as escapes, and markup as it is."""
    evil = EVIL[:-1]
    found = Activity(
        domains=(KindActivity(evil, "", counts(pending=1), None),),
        kinds=(KindActivity(evil, f"kind {evil}", counts(pending=1), None),),
        slots=(SlotActivity(0, f"host{evil}", 1, 1, evil, evil, 1, 0.0),),
        failures=(FailureCause(evil, "exception", f"{evil}\nmore", 1, 0),),
    )
    with at_work(run, dataclasses.replace(STATUS, name=evil, notices=(evil,), activity=found)):
        assert dfz("top", "last", "--once") == 0

    out = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\u202e\ud800") & set(out)
    assert "\\x1b]0;evil\\x07\\x9b2J[red]\\u202e" in out


def test_top_needs_no_ray(run: Path) -> None:
    """The screen loads neither Ray nor the libraries that check settings and batches, or compute."""
    program = (
        "import sys\nfrom dfz_ray.cli import call, group\n"
        f"assert call(group, ['top', {str(run)!r}]) == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stderr == ""
    assert not set(done.stdout.splitlines()[-1].split()) & {"ray", "pydantic", "yaml", "numpy", "scipy", "torch"}


class Terminal:
    """`dfz top` on a terminal of 24 lines."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._reader, writer = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dfz_ray", "top", *arguments],
            stdin=writer,
            stdout=writer,
            stderr=writer,
            env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", **environment},
        )
        os.close(writer)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Wait until the terminal has shown this text since the last time."""
        shown, deadline = "", time.monotonic() + 60
        while text not in shown:
            assert time.monotonic() < deadline, f"{text!r} was never shown: {shown!r}"
            if select.select([self._reader], [], [], 1.0)[0]:
                shown += os.read(self._reader, 65_536).decode(errors="replace")
        self.shown += shown

    def end(self, number: int) -> int:
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        with contextlib.suppress(OSError):
            while more := os.read(self._reader, 65_536):
                self.shown += more.decode(errors="replace")
        os.close(self._reader)
        return self.process.wait()


def test_a_live_screen(run: Path) -> None:
    """On a terminal the screen follows the run, through its end and the loss of its folder; Ctrl-C ends it with 0."""
    with at_work(run):
        terminal = Terminal("my run")
        terminal.wait_for("39 % of 1,000")
        more = dataclasses.replace(STATUS, counts=counts(pending=500, completed=500), updated_at=time.time())
        write_status(run, more)
        terminal.wait_for("50 % of 1,000")
    terminal.wait_for("it goes on with")
    shutil.rmtree(run)
    terminal.wait_for("can't be read: ")

    assert terminal.end(signal.SIGINT) == 0
    assert "Traceback" not in terminal.shown


def test_a_live_screen_without_colour(run: Path) -> None:
    """Where colours are not wanted none is used, and the screen says the same."""
    with at_work(run):
        terminal = Terminal("my run", NO_COLOR="1")
        terminal.wait_for("39 % of 1,000")
        assert terminal.end(signal.SIGINT) == 0

    codes = [one.partition("m")[0] for one in terminal.shown.split("\x1b[")[1:] if "m" in one[:8]]
    assert not [code for code in codes if any(30 <= int(part or 0) < 50 for part in code.split(";") if part.isdigit())]


def test_many_rows_fit_a_small_screen(run: Path) -> None:
    """However many kinds, slots and causes there are, a live screen is no longer than the terminal."""
    from rich.console import Console

    from dfz_ray.cli.top_screen import RunView, render

    many = dataclasses.replace(STATUS, activity=activity(kinds=90, slots=100, causes=40), notices=("a notice",))
    for height in (8, 12, 24, 50):
        for runs in (1, 2):
            console = Console(width=80, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
            console.print(render([RunView(run, many)] * runs, 80, height, time.time()))
            assert len(console.export_text().splitlines()) <= max(height, 8 * runs)
