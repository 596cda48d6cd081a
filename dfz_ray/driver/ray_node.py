"""A node of a Ray cluster that dfz_ray itself starts and stops, with ports, addresses and a folder of its own.

`ray stop` ends every Ray of the machine, by name. A node that is started here is a session of processes, which ends as
one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import psutil

from dfz_ray.driver.node_ports import PORTS, find_free_ports
from dfz_ray.errors import ClusterUnusable
from dfz_ray.journal.regular_file import open_regular

logger = logging.getLogger("dfz_ray")

LOOPBACK = "127.0.0.1"
STARTED = "Ray runtime started."
START_S = 120.0
"""Seconds that a node has to start: on a busy machine it takes half a minute."""
LOCK = "held"
"""A file in the folder of a node, locked by the process that holds the node."""
KEPT_S = 3600.0
"""Seconds for which the folder of a node that ended badly is kept for whoever reads Ray's logs."""
STARTS = 3
"""How often a node is started if it does not come up in time, or another program has taken its ports."""
STOP_S = 20.0
"""Seconds that a node has to stop before its processes are killed."""
BASE_BYTES = 23
"""The most bytes of the path under which nodes have their folders, if their names have ten: a socket's may have 107."""
RAY_SETTINGS = {
    # Ray's future default; without it Ray warns each time.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # If memory runs out, Ray kills one worker at a time: else many tasks would be charged for one, and the manager
    # could be among the victims.
    "RAY_worker_killing_policy_by_group": "true",
}
"""Variables of every Ray that dfz_ray starts, unless the user has set them."""


class RayNode:
    """A node, which has started once it is made, and lives until it is stopped or this process ends.

    Args:
        name: begins the name of its folder; ten letters at most.
        head: the address of the cluster's head; None if this node is the head.
        bind: the address of this node.
        cpus: the tasks of one CPU that it takes at once.
        token_file: the file with the cluster's token; None where the environment has or names it, or there is none.
        dashboard: True if a head is to have a dashboard, which listens on loopback only.
        options: more arguments of `ray start`.
        ports: its ports are a block of these.

    Raises:
        ClusterUnusable: it does not start; the message has the reason.
    """

    def __init__(
        self,
        name: str,
        *,
        head: str | None,
        bind: str,
        cpus: int,
        token_file: Path | None = None,
        dashboard: bool = False,
        options: tuple[str, ...] = (),
        ports: range = PORTS,
    ) -> None:
        base = make_own_folder()
        environment = {**RAY_SETTINGS, **os.environ}
        environment.pop("RAY_ADDRESS", None)  # it names a cluster for drivers
        if bind.startswith("127."):  # else the agent that takes jobs looks for the head at the machine's own address
            environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if token_file is not None:
            environment.pop("RAY_AUTH_TOKEN", None)
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
        for tries_left in reversed(range(STARTS)):
            with _alone(base):  # until its ports are in use, nobody else of this user looks for free ones
                self.ports = find_free_ports(cpus, ports)
                self.address = head or f"{bind}:{self.ports.head}"
                _remove_left_folders(base)
                self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
                self._lock = _lock(self.folder / LOCK)
                self._process = self._start(head, bind, cpus, dashboard, options, environment)
                try:
                    self._wait_until_started(name)
                    return
                except ClusterUnusable as error:
                    self._end()
                    if not tries_left:
                        raise
                    logger.warning("%s; it is tried again", error)
                except BaseException:
                    self.stop()
                    raise

    @property
    def pid(self) -> int:
        """The process that holds the node; its processes are a session of this number."""
        return self._process.pid

    @property
    def dashboard(self) -> str:
        """The dashboard's address, where there is one."""
        return f"http://{LOOPBACK}:{self.ports.dashboard}"

    def has_ended(self) -> bool:
        """True once the node has ended, by whatever cause."""
        return self._process.poll() is not None

    def describe_end(self) -> str:
        """The last that Ray said of the node, on one line."""
        lines = [" ".join(line.split()) for line in self._told().splitlines()]
        return "; ".join([line for line in lines if line.strip("-")][-4:])[-600:] or "Ray said nothing"

    def begin_stop(self) -> None:
        """Ask the node to end, without waiting."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def stop(self) -> None:
        """End every process of the node, and remove its folder."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _end(self) -> None:
        self.begin_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self._process.pid:
                    process.kill()
        self._process.wait()

    def _start(
        self,
        head: str | None,
        bind: str,
        cpus: int,
        dashboard: bool,
        options: tuple[str, ...],
        environment: Mapping[str, str],
    ) -> subprocess.Popen[bytes]:
        arguments = [
            *self.ports.arguments(is_head=head is None),
            f"--node-ip-address={bind}",
            f"--num-cpus={cpus}",
            f"--temp-dir={self.folder}",
            "--disable-usage-stats",
            *options,
        ]
        if head is None:
            arguments += ["--head", f"--include-dashboard={dashboard}", f"--dashboard-host={LOOPBACK}"]
        else:
            arguments += [f"--address={head}"]
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - this Python, and Ray's own program
                [sys.executable, "-m", "dfz_ray.driver.ray_start", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_started(self, name: str) -> None:
        deadline = time.monotonic() + START_S
        while STARTED not in self._told():
            is_late = time.monotonic() > deadline
            if is_late or self.has_ended():
                in_time = f" within {START_S:g} s" if is_late else ""
                raise ClusterUnusable(
                    f"the node {name} did not start{in_time}: {self.describe_end()}; Ray's logs are in {self.folder}"
                )
            time.sleep(0.05)

    @property
    def _log(self) -> Path:
        return self.folder / "ray-start.log"

    def _told(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")
        return ""


def make_own_folder() -> Path:
    """This user's folder for nodes on this machine, which nobody else can read or write.

    Raises ClusterUnusable if there can't be such a folder.
    """
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / f"dfz-{os.getuid()}"  # noqa: S108 - 0700, and checked
    if len(os.fsencode(folder)) > BASE_BYTES:
        raise ClusterUnusable(
            f"RAY_TMPDIR: found {folder.parent}; expected a shorter path, so that {folder} has at most {BASE_BYTES} "
            "bytes: paths of sockets may have 107"
        )
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise ClusterUnusable(f"{folder} is not this user's folder; remove it, or name another place by RAY_TMPDIR")
        folder.chmod(0o700)
    except OSError as error:
        raise ClusterUnusable(
            f"{folder} can't be made: {error.strerror or error}; RAY_TMPDIR names another place"
        ) from None
    return folder


def _remove_left_folders(base: Path) -> None:
    """Remove the folders of nodes whose holder was killed, or that did not start, some time ago."""
    for folder in base.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - (folder / LOCK).stat().st_mtime > KEPT_S:
                with _lock(folder / LOCK, fcntl.LOCK_NB):
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(base: Path) -> Iterator[None]:
    with _lock(base / "starting"):
        yield


def _lock(path: Path, flags: int = 0) -> IO[str]:
    """Lock a file, which is made if it is missing, until it is closed. Raises OSError."""
    file = os.fdopen(open_regular(path, os.O_RDWR | os.O_CREAT), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | flags)
    except OSError:
        file.close()
        raise
    return file


def stop_together(nodes: list[RayNode]) -> None:
    """Stop nodes at the same time, the head, which is the first one, last."""
    for node in reversed(nodes):
        node.begin_stop()
    for node in reversed(nodes):
        node.stop()
