"""What a real Prometheus sees of runs: their metrics, the queries of the Grafana board, and the alerts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.local_cluster import LocalCluster
from support.watched_runs import CPUS, FAILING

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_status import read_status
from dfz_ray.protocol.columns import unpack

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "cluster" / "monitoring"
DEADLINE_S = 120.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Wait until it is so; returns what is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"this never came: {what}"
        time.sleep(0.2)
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Watched:
    """A cluster with a dashboard, a driver on it that starts runs, and a Prometheus that watches both."""

    def __init__(self, folder: Path) -> None:
        self._stack = contextlib.ExitStack()
        self.cluster = LocalCluster()
        self._stack.callback(self.cluster.close)
        self.cluster.environment["RAY_metrics_report_interval_ms"] = "1000"
        self.folder = folder
        self.port, self.dashboard_port = free_port(), free_port()

    def start(self) -> None:
        """Start everything."""
        self.cluster.start_head(CPUS, dashboard_port=self.dashboard_port)
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "support.watched_runs", self.cluster.address, str(self.folder)],
            env={**self.cluster.environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(self._end_driver)
        self._start_prometheus()

    def _end_driver(self) -> None:
        self._driver.kill()
        self._driver.communicate()

    def _start_prometheus(self) -> None:
        """With the files of cluster/monitoring, but in seconds where these have minutes."""
        settings = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        targets = self.cluster.folder / "ray" / "prom_metrics_service_discovery.json"
        settings["scrape_configs"][0]["file_sd_configs"][0] |= {"files": [str(targets)], "refresh_interval": "1s"}
        rules = (MONITORING / "alerts.yaml").read_text().replace("for: 1m", "for: 1s").replace("> 900", "> 3")
        (self.folder / "alerts.yaml").write_text(rules)
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        log = self._stack.enter_context((self.folder / "prometheus.log").open("w"))
        arguments = [
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        prometheus = subprocess.Popen(["prometheus", *arguments], stdout=log, stderr=log)
        self._stack.callback(prometheus.wait)
        self._stack.callback(prometheus.terminate)
        wait_for(lambda: self.get("status/buildinfo"), "Prometheus is up")
        # The gauges of a short run may be gone before the first look at its node; its counters stay.
        wait_for(lambda: self.query("ray_node_cpu_count"), "Prometheus looks at the node")

    def close(self) -> None:
        """Leave nothing behind."""
        self._stack.close()

    def step(self, name: str) -> Path:
        """Let the driver start a run, or run it to its end; returns the run folder."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(f"{name}\n")
        self._driver.stdin.flush()
        assert self._driver.stdout.readline().strip() == name
        return self.folder / name

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of Prometheus; None if it does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series that an expression gives now."""
        found = self.get("query", query=expression)
        assert found is not None, f"Prometheus refuses {expression}"
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def ask_dashboard(self, path: str) -> list[dict[str, Any]]:
        """The rows that the dashboard's REST API returns."""
        token = self.cluster.environment["RAY_AUTH_TOKEN"]
        url = f"http://127.0.0.1:{self.dashboard_port}/api/v0/{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
            return rows


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Everything at work: one run has ended, one is stalled, of one many tasks have failed, one runs on threads."""
    found = Watched(tmp_path_factory.mktemp("watched"))
    try:
        found.start()
        found.step("mixed")
        for name in ("stalled", "failing", "wide"):
            found.step(name)
        yield found
    finally:
        found.close()


def test_the_numbers_of_a_run_are_those_of_its_journal(watched: Watched) -> None:
    """Prometheus has the tasks of a run that has ended, by domain and state, and its attempts, as its journal does."""
    with JournalReader(watched.folder / "mixed") as journal:
        counts = journal.counts()
        chunks = [len(unpack(tasks)) for _, _, _, _, tasks, _ in journal.query("scan_chunks")]
    assert (counts["failed"], counts["completed"]) == (FAILING, 300 - FAILING)
    expected = {("coin", "failed"): FAILING, ("coin", "completed"): 100 - FAILING, ("die", "completed"): 200}

    def find_tasks() -> dict[tuple[str, str], float]:
        found = watched.query('last_over_time(ray_dfz_tasks{run=~"mixed .*"}[1h]) > 0')
        return {(labels["domain"], labels["state"]): value for labels, value in found}

    wait_for(lambda: find_tasks() == expected, f"the tasks of the journal: {expected}")
    attempts = watched.query('sum by (domain, outcome, reason) (ray_dfz_attempts_total{run=~"mixed .*"})')
    assert {(labels["domain"], labels["outcome"], labels.get("reason", "")): value for labels, value in attempts} == {
        ("coin", "completed", ""): 100 - FAILING,
        ("die", "completed", ""): 200,
        ("coin", "failed", "exception"): FAILING,
    }
    slots = watched.query('last_over_time(ray_dfz_slots_busy{run=~"mixed .*"}[1h])')
    assert [value for _, value in slots] == [0.0], "it has ended"
    for name, expected_sum in (("chunk_tasks", sum(chunks)), ("chunks", len(chunks))):
        handed_out = watched.query(f'sum(ray_dfz_{name}_total{{run=~"mixed .*"}})')
        assert [value for _, value in handed_out] == [expected_sum]


def test_every_query_of_the_board_returns_data(watched: Watched) -> None:
    """Each panel of the Grafana board has data of real runs, and no panel asks for a metric that is not there."""
    board = json.loads((MONITORING / "grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) >= len(board["panels"]) >= 10
    variables = {"$run": ".+", "$SessionName": ".+", "$__rate_interval": "1m"}
    for expression in expressions:
        asked = expression
        for name, value in variables.items():
            asked = asked.replace(name, value)
        assert "$" not in asked
        wait_for(lambda asked=asked: watched.query(asked), f"data for {asked}")
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            label = variable["query"]["query"].rstrip(")").rpartition(" ")[2]
            values = watched.get(f"label/{label}/values", **{"match[]": "ray_dfz_tasks"})
            assert values, f"the label {label} has no values"


def test_the_alerts_fire(watched: Watched) -> None:
    """The alert for a stalled run fires for the stalled run alone, and the one for failures for the run that fails."""
    expected = {("DfzRunStalled", "stalled"), ("DfzTasksFail", "failing")}

    def find_firing() -> set[tuple[str, str]]:
        alerts = (watched.get("alerts") or {"alerts": []})["alerts"]
        firing = [one["labels"] for one in alerts if one["state"] == "firing"]
        return {(labels["alertname"], labels["run"].split()[0]) for labels in firing}

    wait_for(lambda: expected <= find_firing(), f"alerts {expected}")
    assert ("DfzRunStalled", "mixed") not in find_firing()
    assert ("DfzTasksFail", "stalled") not in find_firing()


def test_promtool_accepts_the_files() -> None:
    """Prometheus's own checker accepts the alerts and the configuration."""
    for arguments in (["check", "rules", "alerts.yaml"], ["check", "config", "--syntax-only", "prometheus.yaml"]):
        done = subprocess.run(["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_names_that_read_well(watched: Watched) -> None:
    """Ray's dashboard names the manager, and each lease by its domain and the tasks that it executes at once."""
    at_work = ("dfz lease sleeper", "dfz lease sleeper on 2 threads")

    def find_running() -> set[str]:
        rows = watched.ask_dashboard("tasks?detail=true&limit=1000")
        return {row["name"] for row in rows if row["state"] == "RUNNING"}

    wait_for(lambda: find_running() >= set(at_work), f"the leases {at_work}")
    names = {row["name"] for row in watched.ask_dashboard("tasks?detail=true&limit=1000")}
    assert all(name.startswith("dfz ") for name in names), names
    (manager,) = watched.ask_dashboard("actors?detail=true")
    assert manager["name"].startswith("dfz manager ")


def test_a_status_says_what_each_slot_does(watched: Watched) -> None:
    """The status file of a run at work has its leases, with process, domain, slots and the chunk that each executes."""

    def find_slots() -> Any:
        status = read_status(watched.folder / "wide")
        return status and status.activity and [one for one in status.activity.slots if one.kind and one.slots > 1]

    (slot,) = wait_for(find_slots, "a process that executes several tasks")
    assert (slot.domain, slot.kind, slot.slots) == ("sleeper", "sleeper", 2)
    assert slot.process > 0
    assert slot.host == socket.gethostname()
