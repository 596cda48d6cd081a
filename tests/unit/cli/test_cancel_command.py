"""`dfz cancel`, whether or not a process works on the run."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import pytest
from support.command_line import counts_of, dfz, held, managed, started, wait_for

from dfz_ray.journal.cancel_requests import read_requests

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize("at_work", [False, True])
@pytest.mark.parametrize(
    ("arguments", "told", "counts"),
    [
        (["fourth"], "1 task cancelled", {"pending": 1, "cancelled": 1}),
        (["fourth", "first", "second"], "1 task cancelled; 2 had ended already, and stay as they are", None),
        (["first"], "0 tasks cancelled; 1 had ended already, and stay as they are", {"pending": 2}),
        (["fourth", "fourth"], "1 task cancelled", {"pending": 1, "cancelled": 1}),
        (["--batch", "y"], "2 tasks cancelled; 1 had ended already, and stay as they are", {"cancelled": 2}),
        (["--all"], "2 tasks cancelled; 3 had ended already, and stay as they are", {"cancelled": 2}),
    ],
)
def test_cancelling(
    arguments: list[str],
    told: str,
    counts: dict[str, int] | None,
    at_work: bool,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Tasks, a batch or the whole run are cancelled in the same way whether or not a process works on the run."""
    with managed(run) if at_work else contextlib.nullcontext():
        assert dfz("cancel", "last", *arguments) == 0
        assert capsys.readouterr().out == f"{told}\n"
        assert counts_of(run) == {"completed": 2, "failed": 1, **(counts or {"pending": 1, "cancelled": 1})}
    assert read_requests(run) == []


def test_a_process_that_dies_before_it_cancels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the process that was asked ends before it has cancelled, the command cancels by itself."""
    with held(run) as worker:
        killer = threading.Thread(target=lambda: (wait_for(lambda: read_requests(run)), worker.kill()))
        killer.start()
        assert dfz("cancel", "last", "--all") == 0
        killer.join()

    assert capsys.readouterr().out.startswith("2 tasks cancelled;")
    assert counts_of(run) == {"completed": 2, "failed": 1, "cancelled": 2}
    assert read_requests(run) == []


def test_an_interrupt_takes_the_request_back(run: Path) -> None:
    """Ctrl-C while the process that works on the run has not cancelled yet leaves nothing that it would do later."""
    with held(run), started("cancel", "last", "--all") as cancelling:
        wait_for(lambda: read_requests(run))
        cancelling.send_signal(signal.SIGINT)
        assert cancelling.wait() == 130
        assert (cancelling.stdout.read(), cancelling.stderr.read().strip()) == ("", "")
    assert read_requests(run) == []
    assert counts_of(run) == {"pending": 2, "completed": 2, "failed": 1}
