"""The domain of hostile runs: good tasks, which tell what they feel of others, and hostile ones beside them.

Both are of one domain and, but for deadlines, of one kind: so they share chunks and workers. A good task depends on
nothing that it may not count on: it holds the functions that it calls and has builtins of its own, since nobody gives a
module back that another task has patched.
"""

from __future__ import annotations

import builtins

__builtins__ = dict(vars(builtins))  # the functions below take theirs from here

import ctypes
import os
import resource
import warnings
from decimal import getcontext
from hashlib import sha256
from locale import LC_ALL, setlocale
from os import O_RDONLY, fsencode, getcwd, pread
from os import open as open_file
from signal import SIG_BLOCK, Signals, getitimer, getsignal, pthread_sigmask
from time import sleep
from typing import Any

from numpy import get_printoptions, geterr

from dfz_ray import domain
from support.hostile_tasks import all_deeds

KEPT_SIGNALS = ("SIGHUP", "SIGINT", "SIGPIPE", "SIGUSR2", "SIGTERM", "SIGCHLD", "SIGVTALRM", "SIGPROF")
"""The signals whose handlers a task may count on; SIGALRM and SIGUSR1 are those of deadlines and cancellations."""
_DEEDS = all_deeds()
_HANDLED = [Signals[name] for name in KEPT_SIGNALS]
_LIMITS = [getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
_getrlimit = resource.getrlimit
_getenv = ctypes.CDLL(None).getenv
_getenv.restype = ctypes.c_char_p
_STATUS = open_file("/proc/self/status", O_RDONLY) if os.path.exists("/proc/self/status") else -1
"""Shows the umask, which no call can read without changing it."""


@domain("guest")
def guest(deed: str = "", number: int = 0, ms: float = 0.0, *, seed: int) -> Any:
    """Do a hostile deed; without one sleep, and tell a word that depends on parameters and seed, and what is felt."""
    if deed:
        own = _DEEDS[deed].act()
        return own if _DEEDS[deed].own_result else {"deed": deed, "seed": seed}
    sleep(ms / 1000)
    return {"word": expected_word(number, seed), "felt": feel()}


def expected_word(number: int, seed: int) -> str:
    """The word of a good task."""
    return sha256(f"{number} with {seed}".encode()).hexdigest()


def feel() -> dict[str, Any]:
    """The process state that tasks may count on."""
    context = getcontext()
    return {
        "umask": _read_umask(),
        "folder": getcwd(),
        "handlers": [str(getsignal(number)).partition(" at ")[0] for number in _HANDLED],
        "mask": sorted(map(int, pthread_sigmask(SIG_BLOCK, ()))),
        "timers": [[*getitimer(which)] for which in (1, 2)],
        "limits": [[*_getrlimit(which)] for which in _LIMITS],
        "environment": sorted(f"{name}={_shorten(fsencode(value))}" for name, value in os.environ.items()),
        "path in C": _shorten(_getenv(b"PATH") or b"none"),
        "warnings": repr(warnings.filters[:2]),
        "locale": setlocale(LC_ALL),
        "decimal": [context.prec, context.rounding, sorted(str(trap) for trap, on in context.traps.items() if on)],
        "numpy": [repr(geterr()), repr(get_printoptions())],
    }


def _shorten(value: bytes) -> str:
    """The sum of a value: what is in an environment belongs in no run folder."""
    return sha256(value).hexdigest()[:8]


def _read_umask() -> str:
    try:
        return pread(_STATUS, 4096, 0).partition(b"Umask:")[2].split()[0].decode()
    except (OSError, IndexError):  # a task has closed the descriptor: then nobody knows
        return ""
