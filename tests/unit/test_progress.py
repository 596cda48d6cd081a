"""The progress bar, wherever a program sends its stderr."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from dfz_ray.progress import is_terminal, show_progress


class Log:
    """Where a program with a window sends its output: it can be written to, and no more."""

    def write(self, text: str) -> None:
        """Write."""


class Terminal(Log):
    """A window that is a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def closed() -> io.StringIO:
    """A file that was closed."""
    file = io.StringIO()
    file.close()
    return file


@pytest.mark.parametrize("stream", [None, Log(), io.StringIO(), closed()])
def test_no_bar_is_shown_where_there_is_no_terminal(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without stderr, or with an object of its own there, runs; it gets no bar."""
    monkeypatch.setattr(sys, "stderr", stream)
    with show_progress(None) as show:
        show({"completed": 1})
    assert not is_terminal(stream)
    assert is_terminal(Terminal())
