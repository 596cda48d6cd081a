"""A Ray cluster of several nodes on this machine, each of them a group of processes that can be killed as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

BIN = Path(sys.executable).parent
STARTED = "Ray runtime started."


class Node:
    """One node, started by `ray start`.

    Args:
        arguments: of `ray start`.
        environment: of its processes.
    """

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        # Worker ports are left to the system: two nodes on one machine would take the same ones.
        fixed = ["--block", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0"]
        self._process = subprocess.Popen(
            [str(BIN / "ray"), "start", *fixed, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_until_started(self) -> None:
        """Wait until it is a part of the cluster."""
        assert self._process.stdout is not None
        told = []
        for line in self._process.stdout:
            told.append(line)
            if STARTED in line:
                return
        raise AssertionError(f"the node did not start: {''.join(told)}")

    def kill(self) -> None:
        """Kill every process of it at once, as a power failure does: they are of one session."""
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self._process.pid:
                    process.kill()
        self._process.wait()


class LocalCluster:
    """A head that runs no tasks, and nodes that do."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.folder = Path(tempfile.mkdtemp(prefix="dfzc-"))  # short: sockets lie in it
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": uuid.uuid4().hex,
            "RAY_TMPDIR": str(self.folder),  # so that no other program finds this cluster, or what is left of it
            # A node that does not answer is given up after two seconds instead of fifteen.
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        self._nodes: list[Node] = []

    def start_head(self, cpus: int = 0, dashboard_port: int | None = None, **custom: int) -> Node:
        """Start the first node, with a dashboard if that gets a port."""
        arguments = ["--head", f"--port={self._port}", f"--num-cpus={cpus}"]
        if dashboard_port is None:
            arguments.append("--include-dashboard=false")
        else:
            arguments.extend(["--include-dashboard=true", f"--dashboard-port={dashboard_port}"])
        head = Node([*arguments, f"--resources={json.dumps(custom)}"], self.environment)
        self._nodes.append(head)
        head.wait_until_started()
        return head

    def start_autoscaling_head(self, config: Mapping[str, Any]) -> Node:
        """Start the first node, of one CPU, and with it Ray's autoscaler, whose nodes are processes of this machine."""
        found = "import ray.util; print(ray.util.get_node_ip_address())"
        ip = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True).stdout.strip()
        provider = {
            "type": "fake_multinode",
            "gcs_address": f"{ip}:{self._port}",
            "launch_multiple": True,
            "use_node_id_as_ip": True,  # as all nodes have one
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        }
        file = self.folder / "autoscaling.json"
        file.write_text(json.dumps({**config, "provider": provider}))
        arguments = ["--head", f"--port={self._port}", "--num-cpus=1", "--include-dashboard=false"]
        head = Node([*arguments, f"--autoscaling-config={file}"], self.environment)
        self._nodes.append(head)
        head.wait_until_started()
        return head

    def start_node(self, cpus: int = 2, modules: str = "", **custom: int) -> Node:
        """Start another node; its temporary files, and a folder of modules, are its own, as another machine's are."""
        own = tempfile.mkdtemp(dir=self.folder)
        environment = {**self.environment, "TMPDIR": own}
        if modules:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [modules, environment.get("PYTHONPATH")]))
        custom = {"side": 8, **custom}
        arguments = [f"--address={self.address}", f"--num-cpus={cpus}", f"--resources={json.dumps(custom)}"]
        node = Node(arguments, environment)
        self._nodes.append(node)
        node.wait_until_started()  # two that start at the same time on one machine take the same sockets
        return node

    def kill(self) -> None:
        """Kill every node."""
        for node in reversed(self._nodes):
            node.kill()
        self._nodes.clear()

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
