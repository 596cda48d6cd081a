"""What all tests rest on."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# A shell that starts a program with `&` lets it ignore Ctrl-C, and all that the program starts, too. Tests send that
# signal, and wait for its effect.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test rests on how fast the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
