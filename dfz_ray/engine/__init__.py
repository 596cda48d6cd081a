"""WHAT happens next: events and the time in, commands out; no clock, no I/O, no Ray."""
