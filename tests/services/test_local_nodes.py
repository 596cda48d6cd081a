"""`dfz cluster local`, and drivers that are somewhere else than the manager's files, or come by `ray job submit`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.driver import wait_until
from support.local_nodes import DFZ, LocalNodes

ROOT = Path(__file__).parents[2]
BATCH = "generate: [{domain: sorting, count: 20, parameters: {list_length: 10}}]"
LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalNodes]:
    cluster = LocalNodes()
    yield cluster
    cluster.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a batch."""
    (tmp_path / "batch.yaml").write_text(BATCH)
    return tmp_path


def test_a_local_cluster_is_used_by_its_address_and_reached_from_this_machine_only(
    nodes: LocalNodes, folder: Path
) -> None:
    """Its address is all that a run needs; every process listens on loopback; a second cluster is refused."""
    done = nodes.call(*DFZ, "run", "batch.yaml", "--address", nodes.address, "--json", cwd=folder)
    assert json.loads(done.stdout)["counts"]["completed"] == 20, done.stderr

    of_the_cluster = {process.pid for process in nodes.processes()}  # idle workers among them may end meanwhile
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.pid in of_the_cluster
    }
    assert listening
    assert listening <= LOOPBACK
    second = nodes.call(*DFZ, "cluster", "local")
    assert second.returncode == 2
    assert f"one of 2 nodes runs at {nodes.address}; dfz cluster local --stop ends it" in second.stderr


def test_another_user_without_the_token_is_refused(nodes: LocalNodes, folder: Path) -> None:
    """Without the token nothing runs, and the message says how to give it."""
    done = nodes.call(*DFZ, "run", "batch.yaml", "--address", nodes.address, cwd=folder, HOME=str(folder))

    assert (done.returncode, done.stdout) == (2, "")
    assert "refuses a driver without a token; set RAY_AUTH_MODE=token" in done.stderr


def test_a_driver_that_does_not_see_the_managers_files_is_refused(nodes: LocalNodes, folder: Path) -> None:
    """A driver in another mount namespace gets one error before anything runs; nothing is made on either side."""
    (folder / "out").mkdir()
    run = f"{sys.executable} -m dfz_ray run batch.yaml --address {nodes.address} --run-dir out/run"
    script = f"mount -t tmpfs none out && {run}; echo code $? made $(ls -A out)"
    done = nodes.call("unshare", "--mount", "sh", "-c", script, cwd=folder)

    assert done.stdout == "code 2 made\n", done.stderr
    (line,) = done.stderr.splitlines()
    assert f"the run's manager does not see {folder}/out as this process does" in line
    assert not [*(folder / "out").iterdir()]
    elsewhere = nodes.call("unshare", "--mount", "sh", "-c", run, cwd=folder)  # another namespace, the same files
    assert elsewhere.returncode == 0, elsewhere.stderr


def test_a_driver_on_a_machine_without_a_node_is_refused(nodes: LocalNodes, folder: Path) -> None:
    """A driver that sees no process of the cluster gets one error, which says how to start a node there."""
    command = (*DFZ, "run", "batch.yaml", "--address", nodes.address)
    done = nodes.call("unshare", "--pid", "--fork", "--mount-proc", *command, cwd=folder)

    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert (
        f"no node of the Ray at {nodes.address} runs on this machine, where a driver needs one: start it with" in line
    )


def test_a_ray_job_says_where_its_files_are(nodes: LocalNodes, folder: Path) -> None:
    """A study as a Ray job runs in the cluster, and tells on which host and in which folder its files are."""
    scale = (sys.executable, str(ROOT / "benchmarks/scale.py"), "--domain", "sorting", "--count", "4", "--workers", "2")
    submit = (str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", nodes.dashboard, "--")
    command = (*submit, *scale, "--repeats", "2", "--output", str(folder / "study"))
    credentials = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": nodes.token}
    submitted = nodes.call(*command, **credentials)
    for _ in range(12):  # Ray waits ten seconds for the agent that takes jobs, which comes later than its node
        if "try again later" not in submitted.stdout + submitted.stderr:
            break
        submitted = nodes.call(*command, **credentials)

    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert f"this is a Ray job; its files are on {os.uname().nodename} in {folder}/study" in submitted.stdout
    (point,) = json.loads((folder / "study" / "summary.json").read_text())["points"]
    assert (point["workers"], point["success_rate"]) == (2, 1.0)


def test_a_killed_holder_leaves_no_node_behind_and_the_next_cluster_starts() -> None:
    """Whatever ends `dfz cluster local`, its nodes end with it; `--stop` ends one that runs, and says if none does."""
    killed = LocalNodes()
    try:
        os.kill(killed.process.pid, signal.SIGKILL)
        wait_until(lambda: not killed.processes(), "its nodes are gone", 240)  # Ray's agents wait a minute for the head
        assert killed.call(*DFZ, "cluster", "local", "--stop").stdout == "no local cluster runs\n"
    finally:
        killed.close()


def test_stop_ends_every_node(nodes: LocalNodes) -> None:
    """The cluster ends with exit code 0, every process and every file of it is gone."""
    assert nodes.call(*DFZ, "cluster", "local", "--stop").stdout == "the local cluster has stopped\n"

    assert nodes.process.wait(30) == 0
    assert not nodes.processes()
    assert {path.name for path in (nodes.folder / f"dfz-{os.getuid()}").iterdir()} == {"local", "starting"}
