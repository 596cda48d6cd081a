"""`dfz status`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command_line import EVIL, dfz, held, started

from dfz_ray.journal.run_status import RunStatus, write_status
from dfz_ray.specs.states import STATES

pytestmark = pytest.mark.usefixtures("working_folder")


def test_the_status_of_a_run_at_rest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status of a run at rest says so, with its commits, and how to resume it."""
    assert dfz("status", "last") == dfz("status", str(run), "--watch") == dfz("status", "last", "--json") == 0

    *lines, last = capsys.readouterr().out.splitlines()
    told = " ".join(" ".join(lines).split())
    assert told.count("tasks 5: 2 pending, 2 completed, 1 failed (60 % ended)") == 2
    assert "nobody: " in told
    assert "dfz resume" in told
    status = json.loads(last)
    assert (status["working"], status["counts"]["pending"], status["name"]) == (False, 2, "test")


def test_the_status_of_a_run_that_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status of a run at work is the one that its process writes, with control characters as escapes."""
    told = RunStatus(
        run_id="r",
        name=f"demo{EVIL[:-1]}",
        epoch=2,
        process=4711,
        host="host-a",
        updated_at=time.time() - 60,
        working=True,
        counts={**dict.fromkeys(STATES, 0), "pending": 1000, "running": 3, "completed": 997},
        slots=4,
        why_slots="",
        leases=3,
        tasks_per_s=12.34,
        left_s=400.0,
        commits=1,
        notices=(f"a node was lost{EVIL[:-1]}",),
    )
    with held(run):
        write_status(run, told)
        assert dfz("status", "last") == 0

    out = capsys.readouterr().out
    assert "\x1b" not in out
    words = " ".join(out.split())
    for part in (
        "run demo\\x1b]0;evil",
        "process 4711 on host-a, silent for 6",
        "2,000: 1,000 pending, 3 running, 997 completed (49 % ended)",
        "12.3 tasks/s, about 6.7 min left",
        "3 of 4 in use",
        "notice a node was lost\\x1b",
    ):
        assert part in words


def test_watching_ends_with_the_work(run: Path) -> None:
    """`--watch` shows the status until no process works on the run any more, and ends with 0."""
    with held(run) as worker, started("status", "last", "--watch", "--json") as watching:
        first = json.loads(watching.stdout.readline())
        worker.kill()
        worker.wait()
        *_, last = map(json.loads, watching.stdout)
        assert watching.wait() == 0

    assert (first["working"], last["working"]) == (True, False)


def test_watching_ends_with_an_interrupt(run: Path) -> None:
    """Ctrl-C ends the watching, with the exit code of an interrupt and nothing else to say."""
    with held(run), started("status", "last", "--watch", "--json") as watching:
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 130
        assert watching.stderr.read().strip() == ""


def test_status_starts_fast(run: Path) -> None:
    """The status of a run folder is shown without loading the libraries that check settings and batches, or compute."""
    program = (
        "import sys\nfrom dfz_ray.cli import call, group\n"
        f"assert call(group, ['status', {str(run)!r}]) == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stderr == ""
    assert not set(done.stdout.splitlines()[-1].split()) & {"ray", "pydantic", "yaml", "numpy", "scipy", "torch"}
