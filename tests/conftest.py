"""The settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from support.interrupts import heed_interrupts

heed_interrupts()

# No test rests on how fast the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
