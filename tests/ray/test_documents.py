"""The examples of README and docs run as they stand there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.documents import blocks_of, run_examples

from dfz_ray.domains.registry import REGISTRY

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = {"batches.md", "domains.md", "journal.md"}
"""Pages whose examples take five to ten seconds together."""
SHORT_PAGES = [page for page in PAGES if any(not block.is_long for block in blocks_of(page))]
LONG_PAGES = [page for page in PAGES if any(block.is_long for block in blocks_of(page))]


@pytest.fixture(autouse=True)
def _working_folder(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each page has a folder with the example batches, and domains and modules of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(REGISTRY, "defined", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "120")
    Path("configs").symlink_to(ROOT / "configs")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.long] if page.name in SLOW else []) for page in SHORT_PAGES],
    ids=[page.name for page in SHORT_PAGES],
)
def test_the_examples_of_a_page_run(page: Path) -> None:
    """Every example of the page, but for the long ones, runs, and ends as the page says."""
    assert run_examples(page) > 0


@pytest.mark.long
@pytest.mark.parametrize("page", LONG_PAGES, ids=lambda page: page.name)
def test_the_long_examples_of_a_page_run(page: Path) -> None:
    """Every example of the page runs, the long ones too."""
    assert run_examples(page, long=True) > 0


def test_pages_lead_to_files_that_exist() -> None:
    """Every link from README, docs and cluster to a file of the repository leads to one."""
    for page in (*PAGES, *(ROOT / "cluster").rglob("*.md"), ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert re.match("https?://", target) or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short() -> None:
    """README has at most 150 lines; what goes further is a page of docs."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
