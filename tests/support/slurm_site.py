"""A Slurm of two nodes on this machine, with a munge of its own: a folder, ports and processes that it alone uses.

`python tests/support/slurm_site.py` starts it, prints what to set, and holds it until Ctrl-C. It needs root, and
Debian's packages slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
NODES = ("n1", "n2")
START_S = 60.0
PR_SET_PDEATHSIG = 1

CONF = """
ClusterName=site
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=15
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=bf_interval=5,sched_interval=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
KillWait=10
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE OverSubscribe=NO
"""


class SlurmSite:
    """The controller and two nodes of two CPUs each, which are ready once it is made."""

    def __init__(self) -> None:
        if missing := [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]:
            raise RuntimeError(f"no {missing[0]} is installed; `make services` installs Slurm and munge")
        self.folder = Path(tempfile.mkdtemp(prefix="ds-", dir="/tmp"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "PATH": _PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "RAY_TMPDIR": str(self.folder),  # so that what a job leaves is found
        }
        try:
            self._start_munge()
            self._write_conf()
            self._start("slurmctld", "-D")
            for name in NODES:
                self._start("slurmd", "-D", "-N", name)
            self._wait_until_idle()
        except BaseException:
            self.close()
            raise

    def call(self, *command: str, **options: object) -> str:
        """The output of a command of Slurm's, which must succeed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, **options)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def close(self) -> None:
        """Cancel all jobs, stop every process, and remove the folder."""
        if len(self._processes) > 1:  # munge and the controller at least
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                self.call("scancel", "--user", "root", "--full")
                deadline = time.monotonic() + 30
                while self.call("squeue", "--noheader") and time.monotonic() < deadline:
                    time.sleep(0.2)
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{len(self._processes)}.out").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call of C; they end also where the tests are killed
                )
            )

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        self.folder.chmod(0o755)  # munge refuses folders that it takes for unsafe, and a socket that others can't reach
        folder.mkdir(mode=0o711)
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}-file={folder}/{name}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={folder}/socket", "--num-threads=2", *files)
        self._wait((folder / "socket").exists, "munge answers")

    def _write_conf(self) -> None:
        controller_port, *ports = _free_ports(1 + len(NODES))
        host = socket.gethostname()
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN"
            for name, port in zip(NODES, ports, strict=True)
        )
        text = CONF.format(
            host=host, controller_port=controller_port, folder=self.folder, nodes=nodes, names=",".join(NODES)
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()
        for name in NODES:
            (self.folder / name).mkdir()

    def _wait_until_idle(self) -> None:
        def is_idle() -> bool:
            try:
                states = self.call("sinfo", "--noheader", "--Node", "--format=%T").split()
            except RuntimeError:
                return False
            return states == ["idle"] * len(NODES)

        self._wait(is_idle, "both nodes are idle")

    def _wait(self, condition: object, what: str) -> None:
        deadline = time.monotonic() + START_S
        while not condition():  # type: ignore[operator]
            ended = [process.args for process in self._processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = {path.name: path.read_text()[-1500:] for path in self.folder.glob("*.[ol]*[tg]")}
                raise RuntimeError(f"waited in vain until {what}; ended: {ended}; {logs}")
            time.sleep(0.1)


_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def slurm_site() -> Iterator[SlurmSite]:
    """A Slurm, until the end of the block."""
    site = SlurmSite()
    try:
        yield site
    finally:
        site.close()


if __name__ == "__main__":
    with slurm_site() as held, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={held.folder}/slurm.conf", flush=True)
        while True:
            time.sleep(1)
