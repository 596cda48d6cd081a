"""Timers and signals."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import tempfile
import threading
import time
from typing import Any

from support.hostile_tasks.deed import COMPLETED, DIED, LATE, RAISED, deed, later, loop

OWN_SIGNALS = sorted(
    set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP}
)
LIBC = ctypes.CDLL(None)


def _raise(*_: Any) -> None:
    raise RuntimeError("a handler that a task has left behind")


@deed(COMPLETED)
def leave_an_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.02)


@deed(COMPLETED)
def leave_an_alarm_for_later() -> None:
    signal.alarm(1)


@deed(COMPLETED)
def leave_a_repeating_timer() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)


@deed(COMPLETED)
def leave_an_alarm_by_a_c_library() -> None:
    LIBC.alarm(1)


@deed(COMPLETED, RAISED)
def leave_an_alarm_with_a_handler_that_raises() -> None:
    signal.signal(signal.SIGALRM, _raise)  # on a thread this raises
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


@deed(COMPLETED)
def leave_a_virtual_timer() -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01, 0.01)


@deed(COMPLETED, RAISED)
def leave_a_profiling_timer_with_a_handler_that_raises() -> None:
    signal.signal(signal.SIGPROF, _raise)
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)


@deed(COMPLETED, DIED, strays=True)
def leave_a_thread_that_sends_an_alarm() -> None:
    later(lambda: os.kill(os.getpid(), signal.SIGALRM))


@deed(COMPLETED, DIED)
def a_storm_of_alarms() -> None:
    for _ in range(500):
        signal.raise_signal(signal.SIGALRM)


@deed(COMPLETED, RAISED)
def ignore_alarms() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


@deed(COMPLETED, RAISED)
def ignore_every_signal() -> None:
    for number in OWN_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@deed(COMPLETED, RAISED)
def take_every_signal() -> None:
    for number in OWN_SIGNALS:
        signal.signal(number, _raise)


@deed(COMPLETED, RAISED)
def every_signal_as_the_system_has_it() -> None:
    for number in OWN_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@deed(COMPLETED, RAISED)
def a_handler_of_dead_children_that_raises() -> None:
    signal.signal(signal.SIGCHLD, _raise)


@deed(COMPLETED, RAISED)
def ignore_dead_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@deed(COMPLETED)
def block_alarms() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})


@deed(COMPLETED)
def block_every_signal() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@deed(COMPLETED, hangs=True)
def block_every_signal_and_loop() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    loop()


@deed(RAISED, hangs=True)
def ignore_alarms_and_loop() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    loop()


@deed(LATE, hangs=True)
def turn_its_deadline_off_and_sleep() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    time.sleep(60)


@deed(LATE, hangs=True)
def swallow_every_interruption() -> None:
    while True:
        with contextlib.suppress(BaseException):
            loop()


@deed(COMPLETED)
def answer_the_signal_of_cancellations() -> None:
    for _ in range(50):
        os.kill(os.getpid(), signal.SIGUSR1)


@deed(COMPLETED, DIED)
def interrupt_its_worker() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@deed(DIED)
def terminate_its_worker() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # the signal may come a moment later


@deed(DIED)
def hang_its_worker_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(5)


@deed(DIED)
def a_signal_of_real_time() -> None:
    os.kill(os.getpid(), signal.SIGRTMIN + 3)
    time.sleep(5)


@deed(DIED, RAISED)
def write_to_a_broken_pipe() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"nobody reads this")


@deed(COMPLETED, RAISED)
def wake_a_closed_descriptor() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    os.close(reader)
    os.close(writer)


@deed(COMPLETED, DIED, strays=True)
def leave_a_watchdog() -> None:
    with tempfile.TemporaryFile() as dump:
        faulthandler.dump_traceback_later(0.03, exit=True, file=os.dup(dump.fileno()))


@deed(COMPLETED)
def call_the_watchdog_off() -> None:
    faulthandler.cancel_dump_traceback_later()
    faulthandler.disable()


@deed(COMPLETED)
def take_the_signal_of_cancellations() -> None:
    faulthandler.register(signal.SIGUSR1, file=os.dup(2), chain=False)
    faulthandler.unregister(signal.SIGUSR1)


@deed(COMPLETED)
def a_timer_of_threading() -> None:
    timer = threading.Timer(0.02, _raise)
    timer.daemon = True
    timer.start()
