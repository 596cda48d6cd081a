"""A driver that ends while it sends its batch: nobody takes the part that was sent for the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sender import check_incomplete, end_while_sending, send_the_rest


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
