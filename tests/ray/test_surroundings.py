"""The Ray of a run: how it is started and found, whom it listens to, and where its notices go."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.local_cluster import Node

from dfz_ray import domain, run

BATCH = (
    "[{id: a, domain: sorting, parameters: {list_length: 10}}, {id: b, domain: sorting, parameters: {list_length: 10}}]"
)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = free.getsockname()[1]

RETRY = """
import logging, os
from dfz_ray.driver.connection import connect
import psutil, ray

class GiveTime(logging.Handler):
    def emit(self, record):
        os.environ["RAY_gcs_server_port_wait_time_s"] = "30"
        print(record.getMessage())

os.environ["RAY_gcs_server_port_wait_time_s"] = "0"  # no Ray is up after so long
logging.getLogger("dfz_ray").addHandler(GiveTime())
connect("local", logical_cpus=1)
print(sorted(process.name() for process in psutil.Process().children() if process.name() == "gcs_server"))
print(ray.get(ray.remote(lambda: "works").remote()))
"""

INTERRUPTED = """
import os, signal, threading
from dfz_ray.driver.connection import connect

signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
connecting = threading.Thread(target=connect, args=("local",), kwargs={"logical_cpus": 1})
connecting.start()
connecting.join()
os.kill(os.getpid(), signal.SIGTERM)
print(signal.getitimer(signal.ITIMER_REAL))
"""


@domain("crash_once")
def crash_once(note: str = "") -> str:
    """End the process the first time."""
    if not Path(note).exists():
        Path(note).touch()
        os._exit(1)
    return "done"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="dfz-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def dfz_run(*options: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run two small tasks by the command line. A variable that is empty is not set."""
    (folder / "batch.yaml").write_text(BATCH)
    left = {name: value for name, value in {**os.environ, **environment}.items() if value}
    command = [sys.executable, "-m", "dfz_ray", "run", "batch.yaml", "--json", *options]
    return subprocess.run(command, cwd=folder, env=left, capture_output=True, text=True, check=False, timeout=500)


NO_TOKEN = {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "", "RAY_ADDRESS": ""}


# --- the embedded Ray -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cluster")
def test_the_embedded_ray_listens_on_loopback_only() -> None:
    """No process of an embedded Ray, this one included, can be reached from another machine."""
    listening = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # an idle worker may end at any moment
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    listening.add((process.name(), connection.laddr.ip))
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.mark.usefixtures("cluster")
def test_notices_of_ray_go_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """When a worker dies, Ray's notice of it is in the log of dfz_ray, and stdout has what the program prints alone."""
    noticed = threading.Event()

    class Listening(logging.Handler):
        """Waits for the notice."""

        def emit(self, record: logging.LogRecord) -> None:
            if "(raylet)" in record.getMessage():
                noticed.set()

    logger, handler = logging.getLogger("dfz_ray"), Listening()
    logger.addHandler(handler)
    try:
        results = run([crash_once.task(note=str(tmp_path / "note"))], max_workers=1, progress=False)
        print(json.dumps(results.counts))
        assert noticed.wait(300)
    finally:
        logger.removeHandler(handler)

    assert capfd.readouterr().out == json.dumps(results.counts) + "\n"
    assert results.values() == ["done"]


@pytest.mark.long
def test_a_run_needs_no_home_and_keeps_its_token_to_itself(short_folder: Path) -> None:
    """A first run makes a token that only the user can read; without a home that can be written it runs as well."""
    (short_folder / "file").touch()
    for home in (short_folder, short_folder / "file"):
        done = dfz_run("--address", "local", folder=short_folder, HOME=str(home), **NO_TOKEN)

        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        assert json.loads(done.stdout)["counts"]["completed"] == 2
    ray = short_folder / ".ray"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (ray, ray / "auth_token")] == [0o700, 0o600]


def test_a_disk_that_takes_nothing_is_told_in_a_line(short_folder: Path) -> None:
    """Where Ray's files can't be written, the message says where that is, and nothing is traced back."""
    (short_folder / "file").touch()
    done = dfz_run("--address", "local", folder=short_folder, RAY_TMPDIR=str(short_folder / "file"))

    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert re.match(f"error: no Ray can be started here: .*{short_folder}/file.*; RAY_TMPDIR names the folder", line)


@pytest.mark.long
def test_a_ray_that_is_not_up_in_time_is_started_again() -> None:
    """A start that took too long is told and repeated; what it had started is gone by then."""
    done = subprocess.run([sys.executable, "-c", RETRY], capture_output=True, text=True, check=True, timeout=500)

    told, servers, answer = done.stdout.splitlines()
    assert told.startswith("Ray did not start, and is started again: ")
    assert (servers, answer) == ("['gcs_server']", "works")


@pytest.mark.long
def test_sigterm_is_handled_by_the_program_alone() -> None:
    """Ray's own handler neither prints a stack nor sets the timer that would abort the program three seconds later."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True, timeout=500)

    assert (done.stdout, done.stderr) == ("handled\n(0.0, 0.0)\n", "")


# --- a Ray that `ray start` made --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, str]]:
    """The environment of a user who has a token, and a Ray that asks for it."""
    folder = Path(tempfile.mkdtemp(prefix="dfz-"))
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("secret" * 8)
    environment = {**NO_TOKEN, "HOME": str(folder), "RAY_TMPDIR": str(folder)}
    set_now = {name: value for name, value in {**os.environ, **environment}.items() if value}
    arguments = ["--head", f"--port={PORT}", "--num-cpus=1", "--include-dashboard=false"]
    head = Node(arguments, {**set_now, "RAY_AUTH_MODE": "token"})
    head.wait_until_started()
    yield environment
    head.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
def test_a_ray_of_this_machine_needs_no_hint(started: dict[str, str], tmp_path: Path) -> None:
    """Its address is enough, as `auto` is: the user's token is found."""
    done = dfz_run("--address", f"localhost:{PORT}", folder=tmp_path, **started)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["completed"] == 2


@pytest.mark.long
@pytest.mark.usefixtures("cluster")
def test_auto_says_which_ray_it_takes(started: dict[str, str], tmp_path: Path) -> None:
    """Where several Rays run, a line says which one was taken, whose it is, and where the others are."""
    done = dfz_run("--address", "auto", folder=tmp_path, **started)

    assert done.returncode == 0, done.stderr
    user = psutil.Process().username()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("takes the Ray at ")]
    assert f":{PORT} of the user {user}; others run at " in line


@pytest.mark.long
def test_a_token_that_does_not_fit_is_refused_in_a_line(started: dict[str, str], tmp_path: Path) -> None:
    """The message names the token that was sent, and how to give the right one; nothing is tried for long."""
    for address in (f"127.0.0.1:{PORT}", "auto"):
        done = dfz_run("--address", address, folder=tmp_path, **{**started, "RAY_AUTH_TOKEN": "other"})

        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert f":{PORT} refuses the token of RAY_AUTH_TOKEN; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to" in line


def test_a_command_line_may_have_any_bytes() -> None:
    """A file name in the command line that is no UTF-8 keeps no Ray from being started."""
    script = "from dfz_ray.driver.connection import connect; connect('local', logical_cpus=1, boots_workers=False)"
    done = subprocess.run([sys.executable, "-c", script, b"caf\xe9.yaml"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
