"""`dfz cluster local` as a process of its own, which tests use and disturb."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from support.command_line import children_of_session
from support.driver import wait_until

DFZ = (sys.executable, "-m", "dfz_ray")


class LocalNodes:
    """`dfz cluster local`, at work, with a home and a folder for nodes of its own.

    Args:
        nodes: how many it has.
        cpus: of each node.
    """

    def __init__(self, nodes: int = 2, cpus: int = 1) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
        left_out = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
        self.environment = {name: value for name, value in os.environ.items() if name not in left_out}
        self.environment |= {"HOME": str(self.folder), "RAY_TMPDIR": str(self.folder), "PYTHONUNBUFFERED": "1"}
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*DFZ, "cluster", "local", "--nodes", str(nodes), "--cpus", str(cpus)],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(lambda: "  stop " in self.told or self.process.poll() is not None, "it has started", 300)
            self.address = re.findall(r"--address (\S+)", self.told)[0]
            self.dashboard = re.findall(r"look +(\S+)", self.told)[0]
        except BaseException:
            self.close()
            raise

    @property
    def token(self) -> str:
        """The token, for which drivers and the dashboard are asked."""
        return (self.folder / ".ray" / "auth_token").read_text().strip()

    @property
    def told(self) -> str:
        """The text that it has printed so far."""
        return self._log.read_text()

    @property
    def holders(self) -> list[int]:
        """The processes that hold the nodes; each is the first of a session."""
        return [int(pid) for pid in re.findall(r"process (\d+)", self.told)]

    def processes(self) -> list[psutil.Process]:
        """Every process of the nodes."""
        return [process for holder in self.holders for process in children_of_session(holder)]

    def call(self, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the environment of the cluster's user."""
        return subprocess.run(
            arguments, cwd=cwd, env={**self.environment, **more}, capture_output=True, text=True, timeout=240
        )

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        for process in self.processes():
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
