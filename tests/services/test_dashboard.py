"""What Ray's dashboard shows of a run, in a real browser.

With DFZ_PICTURE naming a PNG file, the page of the run's job is written there: so docs/ray_dashboard.png is made.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.browser import Browser
from support.driver import wait_until
from support.local_nodes import DFZ, LocalNodes

WORK = """
import time
from pathlib import Path
from dfz_ray import domain

def wait(door):
    while Path(door).exists():
        time.sleep(0.05)

@domain("docking")
def docking(door: str):
    wait(door)

@domain("screening", kind=lambda parameters: parameters["assay"])
def screening(door: str, assay: str):
    wait(door)
"""
BATCH = """
name: library
tasks:
  - {{id: docking-1, domain: docking, parameters: {{door: {door}}}}}
  - {{id: screening-1, domain: screening, parameters: {{door: {door}, assay: binding}}}}
generate:
  - domain: sorting
    count: 100
    policy: {{priority: 1}}
    parameters: {{list_length: 100, algorithm: mergesort, list_type: random}}
"""
AT_WORK = ("dfz lease docking on 2 threads", "dfz lease screening: binding on 2 threads")
"""The leases that hold a CPU each, for as long as the door is there. With a second task a domain might get both."""
SHOWN_S = 240
"""Seconds within which a busy machine shows a page."""

ROWS = r"[...document.querySelectorAll('tr')].map(row => row.innerText.replace(/\s+/g, ' ').trim())"
EXPAND = """
(() => {
    const row = [...document.querySelectorAll('tr')].find(row => /PATTERN/.test(row.innerText.trim()));
    const icon = row && row.querySelector('svg');
    if (icon && icon.textContent === 'Expand') icon.dispatchEvent(new MouseEvent('click', {bubbles: true}));
})()
"""
SIGN_IN = "[...document.querySelectorAll('[role=dialog] button')].find(button => button.textContent === 'Submit')"
CLICK_BAR = """
document.querySelector('[data-testid=progress-bar-segment]').dispatchEvent(new MouseEvent('click', {bubbles: true}))
"""


class Shown(NamedTuple):
    """A dashboard in a browser, which watches a run at work."""

    nodes: LocalNodes
    browser: Browser

    def open(self, route: str) -> None:
        """Go to a page of the dashboard."""
        self.browser.open(f"{self.nodes.dashboard}/#/{route}")

    def rows(self) -> list[str]:
        """The rows of all tables, each as one line."""
        return list(self.browser.evaluate(ROWS))

    def find_row(self, pattern: str) -> re.Match[str]:
        """Wait until there is a row that matches."""
        found: list[re.Match[str]] = []

        def find() -> bool:
            found[:] = filter(None, (re.search(pattern, row) for row in self.rows()))
            return bool(found)

        try:
            wait_until(find, f"a row shows {pattern}", SHOWN_S, 0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page: {self.browser.text}") from None
        return found[0]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A run with the door closed on a local cluster, and a browser that was given the token, as a user gives it."""
    folder = tmp_path_factory.mktemp("dashboard")
    door = folder / "door"
    door.touch()
    (folder / "work.py").write_text(WORK)
    (folder / "batch.yaml").write_text(BATCH.format(door=door))
    nodes = LocalNodes(nodes=1, cpus=2)
    browser = driver = None
    try:
        arguments = ("--import", "work.py", "--address", nodes.address, "--max-workers", "4", "--use-threads")
        with (folder / "log").open("wb") as log:
            driver = subprocess.Popen(
                ["python", *DFZ[1:], "run", "batch.yaml", *arguments, "--run-dir", "run"],  # the dashboard shows that
                cwd=folder,
                env={**nodes.environment, "PATH": f"{Path(DFZ[0]).parent}{os.pathsep}{os.environ['PATH']}"},
                stdout=log,
                stderr=log,
            )
        browser = Browser()
        browser.open(nodes.dashboard)
        wait_until(lambda: browser.evaluate(f"Boolean({SIGN_IN})"), "the dashboard asks for the token", SHOWN_S, 0.5)
        browser.evaluate("document.querySelector('[role=dialog] input').focus()")
        browser.type(nodes.token)
        wait_until(lambda: browser.evaluate(f"!{SIGN_IN}.disabled"), "the token was typed", SHOWN_S, 0.5)
        browser.evaluate(f"window.has_no_token = true; {SIGN_IN}.click()")
        # It is loaded anew then, and forgets a page that it was sent to before.
        wait_until(lambda: browser.evaluate("!window.has_no_token"), "the token was taken", SHOWN_S, 0.5)
        wait_until(lambda: "Recent jobs" in browser.text, "its first page is there", SHOWN_S, 0.5)
        yield Shown(nodes, browser)
    finally:
        door.unlink()
        if browser is not None:
            browser.close()
        if driver is not None:
            driver.kill()
            driver.wait()
        nodes.close()


def test_the_actors_have_the_manager_with_its_name(shown: Shown) -> None:
    """The page of the actors has one, the task manager, alive, with a name that says whose it is."""
    shown.open("actors")

    assert shown.find_row(r"\bTaskManager dfz manager [0-9a-f]{8}\b.* ALIVE\b")


def test_a_job_has_the_leases_by_name_and_number(shown: Shown) -> None:
    """The job of a driver has the manager, and below it each lease by its name, with those that ended and all."""
    shown.open("jobs")
    job = shown.find_row(r"^([0-9a-f]{8}) .*\brun batch\.yaml\b.*\bRUNNING\b")[1]
    shown.open(f"jobs/{job}")
    wait_until(lambda: "Total: " in shown.browser.text, "the job has tasks", SHOWN_S, 0.5)
    shown.browser.evaluate(CLICK_BAR)
    for pattern in (r"^dfz manager\s\d", r"^dfz manager \w{8}:"):
        shown.find_row(pattern)
        shown.browser.evaluate(EXPAND.replace("PATTERN", pattern))

    of_one_name = r"(?:\(\s?\d+\) )?"  # where several leases have it, Ray shows their number
    for name in AT_WORK:
        assert shown.find_row(rf"^{name} {of_one_name}(\d+) / (?!\1$)[1-9]\d*$"), "one is at work"
    assert shown.find_row(rf"^dfz lease sorting: mergesort random .* on 2 threads {of_one_name}([1-9]\d*) / \1$")
    if picture := os.environ.get("DFZ_PICTURE"):
        shown.browser.take_picture(Path(picture))


def test_the_tasks_of_a_job_are_leases_with_their_names(shown: Shown) -> None:
    """The table of a job's tasks has the leases that run, with their names."""
    shown.open("jobs")
    job = shown.find_row(r"^([0-9a-f]{8}) .*\brun batch\.yaml\b")[1]
    shown.open(f"jobs/{job}")
    wait_until(lambda: "Task Table" in shown.browser.text, "the page has the table", SHOWN_S, 0.5)
    shown.browser.evaluate(
        "[...document.querySelectorAll('*')].filter(one => one.textContent === 'Task Table').pop().click()"
    )

    for name in AT_WORK:
        assert shown.find_row(rf"\b{name} {job} RUNNING\b")
