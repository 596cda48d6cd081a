"""An interrupted run goes on, whatever ended it, and no committed task runs again."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import ray
from support.cut_off_commit import cut_off_commit
from support.driver import BIN, processes_of, start_run, wait_until

from dfz_ray import DfzError, domain, run, submit
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.listener import RunListener
from dfz_ray.driver.manager_actor import answer_of, get_manager
from dfz_ray.driver.run_session import RunSession
from dfz_ray.errors import JournalDamaged, ManagerLost
from dfz_ray.journal.lock import LOCK, is_held
from dfz_ray.journal.reader import JournalReader, count_ended
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.protocol.task_events import FailedTask
from dfz_ray.specs.run_config import RunConfig


@domain("count")
def count(n: int = 0, *, seed: int) -> dict[str, Any]:
    """Return what was asked for."""
    return {"n": n, "seed": seed}


@domain("nap")
def nap() -> None:
    """Take a moment."""
    time.sleep(0.02)


@domain("moody")
def moody(file: str) -> str:
    """Fail until a file is there."""
    if not Path(file).exists():
        raise RuntimeError("not yet")
    return "fine"


def resume(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "dfz"), "resume", "run", "--import", "slow.py", "--address", "local", "--max-workers", "2"]
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the batch of `start_run`, run in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start_run(folder)
    process.communicate(timeout=300)
    with JournalReader(folder / "run") as journal:
        return journal.digest()


def assert_whole(folder: Path, digest: str) -> None:
    """Every task has completed, once, with the results of an undisturbed run."""
    with JournalReader(folder / "run") as journal:
        assert journal.counts()["completed"] == 400
        assert journal.digest() == digest
    with sqlite3.connect(folder / "run/run.sqlite") as connection:
        chunks = connection.execute("SELECT tasks FROM completions").fetchall()
        assert sorted(number for (tasks,) in chunks for number in msgpack.unpackb(tasks)) == list(range(400))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_a_run_goes_on_after_the_death_of_its_driver(number: int, tmp_path: Path, undisturbed: str) -> None:
    """After Ctrl-C and after kill -9, `dfz resume` runs the remaining tasks, with the results of an undisturbed run."""
    process = start_run(tmp_path)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=300)
    assert (number == signal.SIGKILL) or "goes on with: dfz resume run" in stderr
    done = resume(tmp_path)  # at once: it waits for the old manager to die
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path, undisturbed)


@pytest.mark.long
def test_a_run_goes_on_by_itself_when_its_manager_dies(tmp_path: Path, undisturbed: str) -> None:
    """If only the manager dies, another one takes over at once, from the journal."""
    process = start_run(tmp_path)
    (manager,) = processes_of(process, "ray::TaskManager")
    manager.kill()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "another one goes on with the run" in stderr
    assert_whole(tmp_path, undisturbed)


@pytest.mark.long
def test_a_run_goes_on_by_itself_when_its_manager_dies_in_a_commit(tmp_path: Path, undisturbed: str) -> None:
    """Also where the journal has no write-ahead log, as on network file systems, another manager takes over."""
    process = start_run(tmp_path)
    (manager,) = processes_of(process, "ray::TaskManager")
    manager.suspend()
    run_folder, cut_off = tmp_path / "run", tmp_path / "cut off"
    cut_off.mkdir()
    with sqlite3.connect(run_folder / "run.sqlite") as journal, sqlite3.connect(cut_off / "run.sqlite") as copy:
        journal.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    journal.close()
    copy.close()
    cut_off_commit(cut_off)
    for end in ("-wal", "-shm"):
        (run_folder / f"run.sqlite{end}").unlink()
    for name in ("run.sqlite-journal", "run.sqlite"):
        (cut_off / name).replace(run_folder / name)
    manager.kill()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "another one goes on with the run" in stderr
    assert_whole(tmp_path, undisturbed)


@pytest.mark.long
def test_a_run_goes_on_after_the_death_of_everything(tmp_path: Path, undisturbed: str) -> None:
    """When every process, Ray's and the driver's, is killed at once, the run is resumed on another cluster."""
    process = start_run(tmp_path)
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        victim.kill()
    process.communicate(timeout=300)
    done = resume(tmp_path)
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path, undisturbed)


@pytest.mark.usefixtures("cluster")
def test_the_same_batch_again_is_a_no_op(tmp_path: Path) -> None:
    """A batch that is submitted again to its run has nothing to do, and gives the same results."""
    tasks = [count.task(n=n) for n in range(50)]
    first = run(tasks, run_dir=tmp_path / "run")
    again = run(tasks, run_dir=tmp_path / "run")
    assert again.values() == first.values()
    assert [record.attempts for record in again] == [1] * 50


@pytest.mark.usefixtures("cluster")
def test_new_tasks_are_added_to_a_run_and_others_under_known_ids_refused(tmp_path: Path) -> None:
    """New ids are appended; an id that the run knows with other parameters is refused, and nothing changes."""
    tasks = [{"id": f"n{n}", **count.task(n=n)} for n in range(10)]
    run(tasks[:6], run_dir=tmp_path / "run")
    results = run(tasks, run_dir=tmp_path / "run")
    assert [record.task_id for record in results] == [f"n{n}" for n in range(10)]
    assert [value["n"] for value in results.values()] == list(range(10))
    with pytest.raises(DfzError, match="has other tasks under 1 of these ids, such as 'n3'"):
        run([{"id": "n3", **count.task(n=33)}, {"id": "new", **count.task()}], run_dir=tmp_path / "run")
    assert len(run(tasks, run_dir=tmp_path / "run")) == 10


@pytest.mark.usefixtures("cluster")
def test_failed_tasks_are_tried_again_when_asked_for(tmp_path: Path) -> None:
    """Failed tasks stay failed when a run goes on, unless it is asked to retry them; the journal notes that it was."""
    tasks = [moody.task(file=str(tmp_path / "there")), count.task()]
    assert run(tasks, run_dir=tmp_path / "run").counts["failed"] == 1
    (tmp_path / "there").touch()
    assert run(tasks, run_dir=tmp_path / "run").counts["failed"] == 1
    results = run(tasks, run_dir=tmp_path / "run", retry_failed=True)
    assert results.counts["completed"] == 2
    assert [record.attempts for record in results] == [2, 1]
    with sqlite3.connect(tmp_path / "run/run.sqlite") as connection:
        assert connection.execute("SELECT task, reason, message FROM reopened").fetchall() == [
            (0, "exception", "RuntimeError: not yet")
        ]


@pytest.mark.usefixtures("cluster")
def test_a_folder_of_another_schema_is_refused(tmp_path: Path) -> None:
    """A run of a newer dfz_ray is not touched, and the message says which schemas meet."""
    run([count.task()], run_dir=tmp_path / "run")
    with sqlite3.connect(tmp_path / "run/run.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    with pytest.raises(DfzError, match="has schema 999; this dfz_ray reads schema"):
        run([count.task()], run_dir=tmp_path / "run")


@pytest.mark.usefixtures("cluster")
def test_a_run_that_was_killed_as_it_began_is_begun_anew(tmp_path: Path) -> None:
    """A folder with a lock and a journal without tables, as a kill in the first moment leaves it, is as good as new."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).touch()
    (tmp_path / "run" / "run.sqlite").touch()
    assert run([count.task()], run_dir=tmp_path / "run").counts["completed"] == 1


def test_resuming_what_is_no_run_is_told(tmp_path: Path) -> None:
    """`dfz resume` on a folder without a journal says so."""
    (tmp_path / "slow.py").write_text("")
    done = resume(tmp_path)
    assert done.returncode == 2
    assert "is no run folder" in done.stderr


@pytest.mark.usefixtures("cluster")
def test_a_domain_that_is_not_known_any_more_is_told(tmp_path: Path) -> None:
    """Resuming a run of a script's own domain elsewhere says which domain is missing, and how to bring it."""
    run([count.task()], run_dir=tmp_path / "run")
    (tmp_path / "slow.py").write_text("")
    done = resume(tmp_path)
    assert done.returncode == 2
    assert "no domain 'count' is known here: import the module that defines it (--import)" in done.stderr


@pytest.mark.usefixtures("cluster")
def test_a_run_that_has_ended_is_not_said_to_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If another batch can't be added to a run that has ended, the message does not say that the run did not end."""
    run([count.task()], run_dir=tmp_path / "run")
    monkeypatch.delitem(REGISTRY.defined, "count")
    with pytest.raises(DfzError, match="no domain 'count' is known here"):
        run([{"id": "other", **moody.task(file="x")}], run_dir=tmp_path / "run")
    assert "did not end" not in capsys.readouterr().err


@pytest.mark.usefixtures("cluster")
def test_a_domain_whose_digests_have_changed_is_refused(tmp_path: Path) -> None:
    """A run is not gone on with where its domain leaves other keys out of digests than before."""
    changing = domain("changing", volatile=("seed",))(lambda *, seed: {"seed": seed})
    run([changing.task()], run_dir=tmp_path / "run")
    changing = domain("changing")(lambda *, seed: {"seed": seed})
    with pytest.raises(DfzError, match=r"domain 'changing' calls \[\] volatile, and called \[\"seed\"\] so"):
        run([changing.task()], run_dir=tmp_path / "run")


class Refusing(RunListener):
    """A listener that can't take in the tasks of a run that was left."""

    def __init__(self) -> None:
        self.failures: queue.Queue[BaseException | None] = queue.Queue()

    def on_known(self, names: Sequence[tuple[str, str, str]]) -> None:
        raise MemoryError("no room for them")

    def on_end(self, failure: BaseException | None) -> None:
        self.failures.put(failure)


@pytest.mark.usefixtures("cluster")
def test_a_run_that_can_not_be_taken_over_is_closed(tmp_path: Path) -> None:
    """If a driver fails while it opens a run, the run is at rest at once: nothing works on without it."""
    run([count.task()], run_dir=tmp_path / "run")
    listener = Refusing()
    session = RunSession(RunConfig(run_dir=tmp_path / "run"), listener)
    session.go_on()
    session.start()
    assert isinstance(listener.failures.get(timeout=60), MemoryError)
    assert not is_held(tmp_path / "run")


@pytest.mark.usefixtures("cluster")
def test_a_manager_that_can_not_set_a_run_up_does_not_hold_it(tmp_path: Path) -> None:
    """A run that the manager could not begin to work on is at rest, though the manager lives on."""
    opened = open_for_work(tmp_path / "run", {"name": "odd", "slots": "1", "input/ab": "as long as it is"})
    opened.writer.close()
    opened.lock.close()
    with pytest.raises(JournalDamaged, match="the journal notes no size of an input"):
        run([count.task()], run_dir=tmp_path / "run")
    assert not is_held(tmp_path / "run")


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_a_manager_that_can_not_be_reached_is_ended(tmp_path: Path) -> None:
    """If the connection to a manager breaks, another one goes on with its runs, which the first holds no longer."""
    handle = submit([nap.task() for _ in range(300)], run_dir=tmp_path / "run", max_workers=2)
    wait_until(lambda: handle.counts["completed"] > 20, "tasks have completed")
    manager = psutil.Process(int((tmp_path / "run" / LOCK).read_text().split()[1]))
    ports = {one.laddr.port for one in manager.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    broken = [one for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.port in ports]
    for connection in broken:
        with socket.socket(fileno=os.dup(connection.fd)) as end:
            end.shutdown(socket.SHUT_RDWR)
    assert broken
    assert handle.results(300).counts["completed"] == 300
    wait_until(lambda: not manager.is_running() or manager.status() == psutil.STATUS_ZOMBIE, "the manager has ended")
    with sqlite3.connect(tmp_path / "run/run.sqlite") as connection:
        assert connection.execute("SELECT max(epoch) FROM epochs").fetchone() == (2,)


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_a_late_error_of_a_lost_manager_ends_no_other_one() -> None:
    """A run that hears late that its manager is lost goes on at the one that others have started meanwhile."""
    lost = get_manager()
    first, late = (lost.arrive.remote("gate", 3, 60.0) for _ in range(2))
    ray.kill(lost)
    with pytest.raises(ManagerLost):
        answer_of(lost, first)
    successor = get_manager()
    with pytest.raises(ManagerLost):
        answer_of(lost, late)
    assert get_manager() is successor
    assert answer_of(successor, successor.is_open.remote("none")) is False


class Waiting(RunListener):
    """A listener that takes in the tasks of a run that was left only after one of them has failed again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attempts = 0
        self.attempts_at_end: list[int] = []
        self.failures: queue.Queue[BaseException | None] = queue.Queue()

    def on_known(self, names: Sequence[tuple[str, str, str]]) -> None:
        wait_until(lambda: count_ended(self.folder), "the task has failed again")

    def on_unsuccessful(self, numbers: Iterable[int], is_whole: bool) -> None:
        self.attempts = len(list(numbers)) + (0 if is_whole else self.attempts)

    def on_failed(self, failures: Sequence[FailedTask]) -> None:
        self.attempts_at_end += [self.attempts for _ in failures]

    def on_end(self, failure: BaseException | None) -> None:
        self.failures.put(failure)


@pytest.mark.usefixtures("cluster")
def test_an_attempt_that_ends_while_a_run_is_opened_counts_once(tmp_path: Path) -> None:
    """A task that fails before the driver has read the journal, and after the manager has, has failed once more."""
    folder = tmp_path / "run"
    assert run([moody.task(file=str(tmp_path / "never"))], run_dir=folder).counts["failed"] == 1
    listener = Waiting(folder)
    session = RunSession(RunConfig(run_dir=folder, retry_failed=True), listener, is_endless=False)
    session.go_on()
    session.start()
    assert listener.failures.get(timeout=60) is None
    assert (listener.attempts_at_end, listener.attempts) == ([2], 2)
