"""Deaths that come together: during a recovery, beside a second process, while someone waits.

Each story is a function of a new folder and the digest of an undisturbed run; it raises AssertionError where the run
is not whole in the end, or was treated as it must not be.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from dfz_ray.journal.lock import WAIT_S
from support.driver import BIN, Program, count_tasks, glance, wait_until, write_batch
from support.kill_trial import NOTICED_S, TASKS, assert_no_violation, check_whole, count_attempts, opened, reach, strike

Story = Callable[[Path, str], None]


def kill_manager_twice_in_a_recovery(folder: Path, digest: str) -> None:
    """The manager dies as it recovers, and so does the one after it; the resume goes on by itself."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=True) as program:
        for epoch in (2, 3):
            reach(program, epoch=epoch)
            find_one(program, "manager").kill()
        assert program.wait() == 0, program.stderr
        assert program.stderr.count("another one goes on with the run") == 2
        assert glance(program.run).epoch == 4
    check_whole(folder, digest)


def kill_driver_in_resume_after_resume(folder: Path, digest: str) -> None:
    """The driver of each of three resumes is killed as it begins, each resume at once after the one before it."""
    write_batch(folder, TASKS)
    with contextlib.ExitStack() as stack, opened(folder, killed_before=True) as program:
        programs = [program]
        for epoch in (2, 3, 4):
            reach(programs[-1], epoch=epoch)
            programs[-1].process.kill()
            programs.append(stack.enter_context(contextlib.closing(Program(folder, "resume"))))
        assert programs[-1].wait() == 0, programs[-1].stderr
    check_whole(folder, digest)


def resume_twice_at_once(folder: Path, digest: str) -> None:
    """Of two resumes of one run at the same time one works on it; the other one is refused, or finds it done."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=True) as first, contextlib.closing(Program(folder, "resume")) as second:
        codes = {first.wait(): first, second.wait(): second}
        assert set(codes) in ({0}, {0, 2}), f"{first.stderr}{second.stderr}"
        if 2 in codes:
            assert "works on the run in" in codes[2].stderr
    check_whole(folder, digest)
    assert set(count_attempts(folder).values()) <= {1, 2}


def resume_beside_a_stopped_manager(folder: Path, digest: str) -> None:
    """While a stopped manager holds the run a resume is refused, and says who holds it; the first driver goes on."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program)
        manager = find_one(program, "manager")
        with stopped(manager), contextlib.closing(Program(folder, "resume")) as second:
            assert second.wait() == 2, second.stderr
            assert f"process {manager.pid} on " in second.stderr
            assert "works on the run in" in second.stderr
            assert f"waited {WAIT_S:g} s" in second.stderr
        assert program.wait() == 0, program.stderr
    check_whole(folder, digest)


def kill_driver_of_a_stopped_manager(folder: Path, digest: str) -> None:
    """A stopped manager whose driver is dead does no harm when it comes back, and the run can be resumed."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program)
        manager = find_one(program, "manager")
        with stopped(manager):
            program.process.kill()
            program.wait()
            before = glance(program.run)
        with contextlib.closing(Program(folder, "resume")) as again:
            assert again.wait() == 0, again.stderr
        assert glance(program.run).epoch == before.epoch + 1
    check_whole(folder, digest)


def two_managers_where_locks_do_not_hold(folder: Path, digest: str) -> None:
    """Where a lock was lost, a stopped manager that comes back finds that its epoch is past, and commits nothing."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program, contextlib.ExitStack() as stack:
        reach(program)
        with stopped(find_one(program, "manager")):
            (program.run / "lock").unlink()  # as a network file system may lose it
            second = stack.enter_context(contextlib.closing(Program(folder, "resume")))
            reach(program, epoch=2, chunks=1)
        assert program.wait() == 1, program.stderr
        assert "epoch 2 has taken over" in program.stderr
        assert second.wait() == 0, second.stderr
    check_whole(folder, digest)


def kill_driver_while_a_cancel_waits(folder: Path, digest: str) -> None:
    """A cancellation that waits for a manager which dies is done all the same; what was not cancelled completes."""
    write_batch(folder, TASKS)
    last = f"t{TASKS - 1}"
    with opened(folder, killed_before=False) as program:
        reach(program)
        with stopped(find_one(program, "manager")):
            cancel = start_cancel(folder, last)
            wait_until(lambda: [*(program.run / "requests").glob("*.json")], "the cancellation waits")
            program.process.kill()
            program.wait()
        out, err = cancel.communicate(timeout=300)
        assert (cancel.returncode, out) == (0, "1 task cancelled\n"), err
    with contextlib.closing(Program(folder, "resume")) as again:
        assert again.wait() == 1, again.stderr
    counts = assert_no_violation(folder)["checks"][2]["looked_at"]
    assert (counts["completed"], counts["cancelled"], counts["open"]) == (TASKS - 1, 1, 0)


def kill_a_cancel_that_waits(folder: Path, digest: str) -> None:
    """A `dfz cancel` that is killed while it waits leaves its request, which the manager meets, once."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program)
        with stopped(find_one(program, "manager")):
            cancel = start_cancel(folder, f"t{TASKS - 1}")
            wait_until(lambda: [*(program.run / "requests").glob("*.json")], "the cancellation waits")
            cancel.kill()
            cancel.communicate(timeout=300)
        assert program.wait() == 1, program.stderr
        assert not [*(program.run / "requests").glob("*.json")]
    counts = assert_no_violation(folder)["checks"][2]["looked_at"]
    assert (counts["completed"], counts["cancelled"], counts["open"]) == (TASKS - 1, 1, 0)


def remove_the_status(folder: Path, digest: str) -> None:
    """A status file that is removed or spoilt is written anew; neither the run nor `dfz status` cares."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        status = program.run / "status.json"
        reach(program)
        wait_until(status.exists, "the status is told")
        status.unlink()
        told = subprocess.run([str(BIN / "dfz"), "status", "run"], cwd=folder, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        wait_until(status.exists, "the status is told again")
        status.write_text("nonsense")
        assert program.wait() == 0, program.stderr
        status.unlink()
    check_whole(folder, digest)


def kill_one_after_the_other(folder: Path, digest: str) -> None:
    """Managers and workers are killed, ended and stopped in one run, which goes on; at last its node is ended."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program, chunks=1)
        strike(find_one(program, "manager"), "SIGTERM")
        reach(program, epoch=2)
        strike(find_one(program, "manager"), "SIGKILL")  # as it recovers
        for victim, name in (("worker", "SIGKILL"), ("worker", "SIGTERM"), ("manager", "SIGSTOP")):
            reach(program, outcomes=glance(program.run).outcomes + 30)
            strike(find_one(program, victim), name, stopped_s=1.0)
        reach(program, outcomes=glance(program.run).outcomes + 30)
        assert program.stderr.count("another one goes on with the run") == 2
        strike(find_one(program, "raylet"), "SIGTERM")
        assert program.wait(NOTICED_S) == 1, program.stderr
        assert "goes on with: dfz resume run" in program.stderr
        assert "Traceback" not in program.stderr
    with contextlib.closing(Program(folder, "resume")) as again:
        assert again.wait() == 0, again.stderr
    check_whole(folder, digest)


def kill_manager_while_tasks_are_sent(folder: Path, digest: str) -> None:
    """The manager dies when the first block of a large batch is on disk; the driver sends the rest to the next one."""
    tasks = 12_000
    write_batch(folder, tasks, large=0, ms=0)
    with contextlib.closing(Program(folder, "run")) as program:
        wait_until(lambda: 0 < count_tasks(program.run) < tasks, "a part of the batch is on disk", 120, each_s=0.001)
        find_one(program, "manager").kill()
        assert program.wait() == 0, program.stderr
        told = program.summary()
    check_whole(folder, told["digest"], tasks)


def kill_driver_while_tasks_are_sent(folder: Path, digest: str) -> None:
    """The driver dies when the first block of a large batch is on disk; the same `dfz run` again sends the rest."""
    tasks = 12_000
    write_batch(folder, tasks, large=0, ms=0)
    with contextlib.closing(Program(folder, "run")) as program:
        wait_until(lambda: 0 < count_tasks(program.run) < tasks, "a part of the batch is on disk", 120, each_s=0.001)
        program.process.kill()
        with contextlib.closing(Program(folder, "run")) as again:
            assert again.wait() == 0, again.stderr
            told = again.summary()
    check_whole(folder, told["digest"], tasks)


def kill_manager_when_all_is_done(folder: Path, digest: str) -> None:
    """The manager dies between the last result and the end of the run; the run ends well all the same."""
    write_batch(folder, TASKS)
    with contextlib.closing(Program(folder, "run")) as program:
        manager = find_one(program, "manager")
        reach(program, outcomes=TASKS)
        manager.kill()
        assert program.wait() == 0, program.stderr
    check_whole(folder, digest)


def run_twice_at_once(folder: Path, digest: str) -> None:
    """Two processes begin the same run in one folder at once: one does, the other is refused, or finds it done."""
    write_batch(folder, TASKS)
    with contextlib.closing(Program(folder, "run")) as one, contextlib.closing(Program(folder, "run")) as other:
        codes = {one.wait(): one, other.wait(): other}
        assert set(codes) in ({0}, {0, 2}), f"{one.stderr}{other.stderr}"
        if 2 in codes:
            assert "works on the run in" in codes[2].stderr
    check_whole(folder, digest)


def stop_everything_for_a_while(folder: Path, digest: str) -> None:
    """All processes are stopped for twenty seconds, as when a laptop sleeps; the run goes on where it stood."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program)
        with contextlib.ExitStack() as sleep:
            for process in [*program.members()]:
                sleep.enter_context(stopped(process))
            time.sleep(20)  # not to wait for something: it is what is done to them
        end_well(program, folder)
    check_whole(folder, digest)


def stop_raylet_until_it_is_given_up(folder: Path, digest: str) -> None:
    """A raylet that is stopped until Ray takes its node for dead ends the run in bounded time; it can be resumed."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program)
        with stopped(find_one(program, "raylet")):
            time.sleep(30)  # not to wait for something: it is what is done to it
        end_well(program, folder)
    check_whole(folder, digest)


def kill_control_store(folder: Path, digest: str) -> None:
    """When Ray's control store (GCS) dies the driver ends in bounded time, and the run can be resumed."""
    write_batch(folder, TASKS)
    with opened(folder, killed_before=False) as program:
        reach(program)
        find_one(program, "gcs").kill()
        end_well(program, folder)
    check_whole(folder, digest)


STORIES: tuple[Story, ...] = (
    kill_manager_twice_in_a_recovery,
    kill_driver_in_resume_after_resume,
    resume_twice_at_once,
    resume_beside_a_stopped_manager,
    kill_driver_of_a_stopped_manager,
    two_managers_where_locks_do_not_hold,
    kill_driver_while_a_cancel_waits,
    kill_a_cancel_that_waits,
    remove_the_status,
    kill_one_after_the_other,
    kill_manager_while_tasks_are_sent,
    kill_driver_while_tasks_are_sent,
    kill_manager_when_all_is_done,
    run_twice_at_once,
    stop_everything_for_a_while,
    stop_raylet_until_it_is_given_up,
    kill_control_store,
)


def find_one(program: Program, victim: str) -> psutil.Process:
    """The first process of a role, as soon as there is one."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = program.find(victim)
        return bool(found)

    wait_until(is_there, f"there is a {victim}", 120)
    return found[0]


def end_well(program: Program, folder: Path) -> None:
    """The run ends in bounded time: well, or with an error after which it can be resumed."""
    if program.wait(NOTICED_S) != 0:
        with contextlib.closing(Program(folder, "resume")) as again:
            assert again.wait() == 0, f"{program.stderr}{again.stderr}"


@contextlib.contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Stop a process for a while."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def start_cancel(folder: Path, task_id: str) -> subprocess.Popen[str]:
    """`dfz cancel`, which waits."""
    command = [str(BIN / "dfz"), "cancel", "run", task_id]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
