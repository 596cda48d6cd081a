"""Ctrl-C in programs that tests start."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Let this process, and all that it starts, end by Ctrl-C, whatever has started it.

    A shell that starts a program with `&` lets it ignore that signal, and all that the program starts, too. Tests send
    it, and wait for its effect.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
