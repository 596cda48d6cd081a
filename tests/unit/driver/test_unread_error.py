"""Errors that nobody has read are told when the interpreter exits, and those that somebody has read are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

PROGRAM = """
import concurrent.futures, logging, sys
from dfz_ray.driver.unread_error import UnreadError
from dfz_ray.dropin.submitted_task import SubmittedCall, SubmittedTask
from dfz_ray.dropin.task_list import TaskList
from dfz_ray.errors import DfzError
from dfz_ray.executor.call_packing import PackedCall
from dfz_ray.executor.call_run import Treatment
from dfz_ray.executor.future import CallFuture
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

class Run:
    def cancel(self, calls):
        for call in calls: call.on_cancelled()

def call():
    return CallFuture(Run(), Treatment(Resources(), Policy()), PackedCall("", b"", None))

tasks = TaskList()
"""


def stderr_of(program: str) -> list[str]:
    """The lines that a program writes to stderr, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()


def test_one_line_for_each_type_of_error() -> None:
    """The number of calls and tasks whose errors nobody has read is told for each type, with the first error's text."""
    told = stderr_of(
        "for number in range(3): call().fail(ValueError(f'bad {number}\\nvalue'))\n"
        "call().fail(KeyError('k'))\n"
        "tasks.make(SubmittedTask, 'a', {}).fail(DfzError('no such domain'))\n"
        "tasks.make(SubmittedCall, 'b', {}).refuse(TypeError('no lock'))\n"
    )
    assert told == [
        "dfz_ray: 3 calls ended with errors that nobody has read; the first: ValueError: bad 0",
        "dfz_ray: 1 call ended with an error that nobody has read: KeyError: 'k'",
        "dfz_ray: 1 task ended with an error that nobody has read: DfzError: no such domain",
        "dfz_ray: 1 task ended with an error that nobody has read: TypeError: no lock",
    ]


def test_errors_that_were_read_are_not_told() -> None:
    """Whoever reads an error by `exception`, by `result`, in a callback or in a record has read it."""
    told = stderr_of(
        "by_exception, by_result, by_callback, cancelled, waited = [call() for _ in range(5)]\n"
        "by_callback.add_done_callback(lambda future: future.exception())\n"
        "cancelled.cancel()\n"
        "for future in (by_exception, by_result, by_callback, cancelled, waited): future.fail(ValueError('bad'))\n"
        "concurrent.futures.wait([waited])\n"
        "by_exception.exception(); by_exception.exception()\n"
        "try: by_result.result()\n"
        "except ValueError: pass\n"
        "tasks.make(SubmittedTask, 'a', {}).fail(DfzError('bad'))\n"
        "tasks.make(SubmittedTask, 'b', {}).fail(DfzError('bad'))\n"
        "tasks.status('a'); tasks.find('b').future.result()\n"
    )
    assert told == ["dfz_ray: 1 call ended with an error that nobody has read: ValueError: bad"]


def test_a_program_with_a_log_finds_them_there() -> None:
    """Where the program has set up logging, the lines go to its log; an error that can't be formatted is told, too."""
    told = stderr_of(
        "class Bad(Exception):\n    def __str__(self): raise OSError\n"
        "logging.basicConfig(format='%(levelname)s %(name)s %(message)s')\n"
        "call().fail(Bad())\n"
    )
    assert told == [
        "ERROR dfz_ray 1 call ended with an error that nobody has read: Bad: (its __str__ raises OSError)",
    ]


def test_a_forked_process_does_not_tell_what_its_parent_lost() -> None:
    """A process that is forked tells only of its own calls."""
    told = stderr_of(
        "import os, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # from 3.12 on: of a fork beside other threads\n"
        "call().fail(ValueError('of the parent'))\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
        "else: call().fail(ValueError('of the child'))\n"
    )
    assert told == [
        "dfz_ray: 1 call ended with an error that nobody has read: ValueError: of the child",
        "dfz_ray: 1 call ended with an error that nobody has read: ValueError: of the parent",
    ]


def test_errors_that_are_forgotten_while_others_are_told() -> None:
    """At exit all are told, also if telling lets the garbage collector close an iterator, which forgets its errors."""
    told = stderr_of(
        "class Forgetful(logging.Handler):\n"
        "    def emit(self, record): print(record.getMessage(), file=sys.stderr); second.mark_read()\n"
        "logging.getLogger('dfz_ray').addHandler(Forgetful())\n"
        "first, second = call(), call()\n"
        "first.fail(ValueError('bad')); second.fail(KeyError('k'))\n"
    )
    assert told == [
        "1 call ended with an error that nobody has read: ValueError: bad",
        "1 call ended with an error that nobody has read: KeyError: 'k'",
    ]


def test_a_fork_waits_for_no_thread_of_its_parent() -> None:
    """A process that is forked while another thread holds our locks goes on: that thread is not there."""
    told = stderr_of(
        "import os, signal, threading, warnings\n"
        "from dfz_ray.driver import exit, unread_error\n"
        "from dfz_ray.executor import future as futures\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # from 3.12 on: of a fork beside other threads\n"
        "exit._watch_exit()\n"
        "held, done = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with exit._lock, unread_error._lock, futures._lock: held.set(); done.wait()\n"
        "threading.Thread(target=hold, daemon=True).start(); held.wait()\n"
        "child = os.fork()\n"
        "if child:\n"
        "    if os.waitpid(child, 0)[1]: print('the child hangs', file=sys.stderr)\n"
        "    done.set()\n"
        "else:\n"
        "    signal.alarm(10)\n"
        "    future = call(); future.fail(ValueError('x')); future.exception(); exit._get_open_runs(); os._exit(0)\n"
    )
    assert told == []
