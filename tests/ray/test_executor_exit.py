"""The end of a program with calls that it does not wait for: they are made, or their loss is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240.0
CALLS = 5

BEGINNING = f"""
import os, signal, sys, threading, time
from pathlib import Path
import dfz_ray
from dfz_ray import ConcurrentTaskManager, DFZExecutor

CALLS, FOLDER = {CALLS}, sys.argv[1]

def write(name, number):
    Path(FOLDER, f"{{name}} {{number}}").touch()
"""
FORMS = {
    "submit": """
executor = DFZExecutor(2)
for number in range(CALLS): executor.submit(write, "submit", number)
""",
    "shutdown": """
leaving = DFZExecutor(2)
for number in range(CALLS): leaving.submit(write, "shutdown", number)
leaving.shutdown(wait=False)
""",
    "map": """
DFZExecutor(2).map(write, ["map"] * CALLS, range(CALLS))
""",
    "task": """
manager = ConcurrentTaskManager(2)
for number in range(CALLS): manager.submit_task(write, "task", number)
""",
}
"""Programs that submit calls and end at once, in each form."""


def run_program(program: str, folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process, which has to connect to Ray by itself; its calls write to a folder."""
    return subprocess.run(
        [sys.executable, "-c", BEGINNING + program, str(folder)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)},
    )


def files_of(folder: Path) -> list[str]:
    """The names of the files that the calls have written."""
    return sorted(path.name for path in folder.iterdir())


def all_calls(*forms: str) -> list[str]:
    """The files that all calls of these forms write."""
    return sorted(f"{form} {number}" for form in forms for number in range(CALLS))


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_program_that_ends_at_once(cluster: None, tmp_path: Path, form: str) -> None:
    """The calls of a program that ends before it is connected to Ray are made, in whatever form it submits them."""
    done = run_program(FORMS[form], tmp_path, ray.get_runtime_context().gcs_address)
    assert files_of(tmp_path) == all_calls(form)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.long
def test_a_program_that_ends_before_there_is_a_ray(tmp_path: Path) -> None:
    """Calls of all forms are made if the program has ended before its own Ray is there; its exit code is its own."""
    done = run_program("".join(FORMS.values()) + "sys.exit(3)", tmp_path, "local")
    assert files_of(tmp_path) == all_calls(*FORMS)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_a_program_that_finds_no_ray(tmp_path: Path) -> None:
    """Without Ray the calls of a program that has ended are lost, and a line for each kind says how many, and why."""
    done = run_program("".join(FORMS.values()), tmp_path, "127.0.0.1:1")
    why = "no Ray answers at '127.0.0.1:1' within 10 s; start one with `ray start --head`"
    assert files_of(tmp_path) == []
    assert sorted(done.stderr.splitlines()) == [
        f"dfz_ray: {3 * CALLS} calls ended with errors that nobody has read; the first: ExecutorBroken: the run can't "
        f"go on: {why}",
        f"dfz_ray: {CALLS} tasks ended with errors that nobody has read; the first: InfrastructureLost: {why}",
    ]


INTERRUPTED = """
def interrupt_the_end():
    while True:  # until the main thread waits for its calls
        frame, names = sys._current_frames()[threading.main_thread().ident], []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        if "join" in names and "_close_all" in names and (not WAIT or Path(FOLDER, "begun 0").exists()):
            break
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

def begin_and_wait():
    write("begun", 0)
    while True: time.sleep(0.01)

executor = DFZExecutor(1)
for number in range(CALLS): executor.submit(begin_and_wait)
threading.Thread(target=interrupt_the_end, daemon=True).start()
"""


@pytest.mark.parametrize(
    "is_at_work",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["before it is connected", "as calls are made"],
)
def test_ctrl_c_at_the_end(cluster: None, tmp_path: Path, is_at_work: bool) -> None:
    """A program that is interrupted while it waits for its calls at its end ends soon, and tells how many are lost."""
    program = INTERRUPTED.replace("WAIT", str(is_at_work))
    done = run_program(program, tmp_path, ray.get_runtime_context().gcs_address)
    assert done.stderr.splitlines() == [
        "dfz_ray: KeyboardInterrupt: the program ends without waiting for its open tasks",
        f"dfz_ray: {CALLS} calls ended with errors that nobody has read; the first: ExecutorBroken: the run was closed "
        "before the call had ended",
    ]


AGAIN = """
def submit_again(future):
    try:
        SUBMIT.add_done_callback(submit_again)
    except RuntimeError as error:
        print(error, flush=True)

executor, manager = DFZExecutor(1), ConcurrentTaskManager(1)
SUBMIT.add_done_callback(submit_again)
"""


@pytest.mark.long
@pytest.mark.parametrize("submit", ['executor.submit(write, "c", 0)', 'manager.submit_task(write, "t", 0)'])
def test_a_callback_that_submits_again_does_not_keep_a_program(cluster: None, tmp_path: Path, submit: str) -> None:
    """When the program ends, further calls are refused, as those of a pool; the program ends when its calls have."""
    done = run_program(AGAIN.replace("SUBMIT", submit), tmp_path, ray.get_runtime_context().gcs_address)
    assert (done.returncode, done.stdout) == (0, "cannot schedule new futures after interpreter shutdown\n")
    assert done.stderr == ""


@pytest.mark.long
def test_ctrl_c_before_the_end(cluster: None, tmp_path: Path) -> None:
    """A program that is interrupted before it is connected still waits for the calls that it has submitted."""
    done = run_program(
        FORMS["submit"] + "signal.raise_signal(signal.SIGINT)", tmp_path, ray.get_runtime_context().gcs_address
    )
    assert files_of(tmp_path) == all_calls("submit")
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


LEFT = """
@dfz_ray.domain("held")
def held(door: str):
    import time
    from pathlib import Path
    while Path(door).exists(): time.sleep(0.01)

tasks = [{"domain": "held", "parameters": {"door": str(Path(FOLDER, name))}} for name in ("none", "door", "door")]
handle = dfz_ray.submit(tasks, max_workers=1, run_dir=Path(FOLDER, "run"))
print(next(handle.as_completed()).status)
"""


@pytest.mark.long
def test_a_batch_that_is_left(cluster: None, tmp_path: Path) -> None:
    """A program that ends before its batch tells how much of it has ended, and the command that goes on with it."""
    (tmp_path / "door").touch()
    done = run_program(LEFT, tmp_path, ray.get_runtime_context().gcs_address)
    assert (done.returncode, done.stdout) == (0, "completed\n")
    assert done.stderr == (
        "dfz_ray: 1 run ended with an error that nobody has read: InfrastructureLost: the run was closed before its "
        f"end, when 1 of 3 tasks had ended; it goes on with: dfz resume {tmp_path / 'run'}\n"
    )


FORK = """
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: of a fork beside other threads
executor, manager = DFZExecutor(1), ConcurrentTaskManager(1)
executor.submit(pow, 2, 2).result(), manager.submit_task(pow, 2, 3).result()
slow = executor.submit(time.sleep, 1)
child = os.fork()
if not child:
    signal.alarm(60)
    for submit in (
        lambda: executor.submit(pow, 2, 3),
        lambda: next(executor.map(pow, [2], [3])),
        lambda: manager.submit_task(pow, 2, 3),
        lambda: DFZExecutor(1).submit(pow, 2, 3),
    ):
        try:
            submit().result()
        except Exception as error:
            print("was forked from" in str(error), flush=True)
    executor.shutdown()
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(slow.result(), executor.submit(pow, 2, 3).result(), manager.submit_task(pow, 2, 3).result())
"""


def test_a_forked_child_of_a_program(cluster: None, tmp_path: Path) -> None:
    """A child that was forked beside open executors hears why they, and new ones, can't be used there, and it ends.

    Its parent's go on.
    """
    done = run_program("import warnings" + FORK, tmp_path, ray.get_runtime_context().gcs_address)
    assert done.stdout.splitlines() == ["True"] * 4 + ["5", "None 8 8"]
    assert (done.returncode, done.stderr) == (0, "")
