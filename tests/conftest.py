"""What all tests rest on."""

from __future__ import annotations

import signal

# A shell that starts a program with `&` lets it ignore Ctrl-C, and all that the program starts, too. Tests send that
# signal, and wait for its effect.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
