"""A user of dfz starts a Ray by hand, beyond loopback, and uses it by its address: the token is no obstacle."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.local_cluster import Node

LEFT_OUT = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, since sockets lie in it, and a batch."""
    path = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    (path / "batch.yaml").write_text("generate: [{domain: sorting, count: 4, parameters: {list_length: 10}}]")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def own_address() -> str:
    """An address of this machine that others can reach."""
    found = [
        one.address for of_name in psutil.net_if_addrs().values() for one in of_name if one.family == socket.AF_INET
    ]
    return next(address for address in found if not address.startswith("127."))


def dfz_run(address: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dfz_ray", "run", "batch.yaml", "--address", address, "--json"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def test_an_embedded_run_then_ray_start_then_its_address(folder: Path) -> None:
    """The first run makes a token that only the user can read; `ray start` asks for it, and dfz gives it."""
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    environment |= {"HOME": str(folder), "RAY_TMPDIR": str(folder)}
    first = dfz_run("local", folder, environment)
    assert first.returncode == 0, first.stderr
    token = folder / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]

    head = Node(["--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"], environment)
    try:
        head.wait_until_started()
        for host in (own_address(), "127.0.0.1", "localhost"):
            done = dfz_run(f"{host}:{port}", folder, environment)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["counts"]["completed"] == 4
        token.write_text("f" * 64)
        refused = dfz_run(f"{own_address()}:{port}", folder, environment)
        assert refused.returncode == 2
        assert f"refuses the token of {token}; set RAY_AUTH_MODE=token" in refused.stderr
    finally:
        head.kill()
