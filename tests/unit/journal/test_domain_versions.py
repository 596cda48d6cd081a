"""The versions of domains: the journal holds them, and a run is not gone on with under another one unasked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.audit_checker import check
from support.journal_rows import completion
from support.small_run import META, handed_out, make_run

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import BUILT_IN, REGISTRY
from dfz_ray.driver.run_opening import RunOpening
from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.domain_versions import find_versions
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.writer import Group
from dfz_ray.manager.group_commit import GroupCommit
from dfz_ray.manager.run_journal import RunJournal
from dfz_ray.protocol.columns import pack
from dfz_ray.protocol.submission import ShippedDomain
from dfz_ray.specs.run_config import RunConfig


def coin(version: int) -> Domain:
    """A domain as an installed package offers it."""
    return Domain("coin", Parameters, lambda *_: 0, lambda _: "coin of 3", version=version)


def shipped(version: int, *volatile: str) -> ShippedDomain:
    return ShippedDomain("coin", b"", json.dumps(volatile), version=version)


def begin(folder: Path) -> None:
    """A run of two tasks, as it was before domains had versions; the first has completed."""
    done = completion(0, {0: {"heads": 1, "seconds": 0.5}}, volatile=frozenset({"seconds"}))
    make_run(folder, ["a", "b"], Group(chunks=[handed_out(0, 0)], completions=[done])).close()


def go_on(folder: Path, domain: ShippedDomain, *results: Any) -> None:
    """Open the run under a version of the domain, as the manager does, and complete its second task."""
    lock, writer, recovered = open_for_work(folder, META)

    async def work() -> None:
        commits = GroupCommit(writer, lambda *_: None, lambda error: None)
        journal = RunJournal(writer, commits, 0, 0, find_versions(recovered.meta))
        journal.note_versions([domain])
        await commits.wait()
        for result in results:
            volatile = frozenset(json.loads(domain.volatile))
            writer.commit(
                Group(
                    leases=[(writer.epoch, 0, "host-a", 4712, 5.0)],
                    chunks=[(9, writer.epoch, 0, 6.0, pack([1]))],
                    completions=[completion(9, {1: result}, volatile=volatile)],
                )
            )
        await commits.close()

    asyncio.run(work())
    writer.close()
    lock.close()


def open_run(folder: Path, version: int, *, accepts: bool = False) -> RunOpening:
    config = RunConfig(run_dir=folder, accept_domain_versions=accepts)
    return RunOpening(config, folder, [coin(version)], has_listener=False)


def noted(folder: Path) -> dict[str, int]:
    with JournalReader(folder) as journal:
        return find_versions(journal.meta)


def assert_sound(folder: Path) -> None:
    """Neither our audit nor the one by the book finds anything."""
    assert [text for one in audit_run(folder).checks for text in one.violations] == []
    assert check(folder) == []


def test_a_run_of_another_version_is_refused_with_both(tmp_path: Path) -> None:
    """A run whose journal names no version is of version 1; under version 2 it is refused, before anything starts."""
    begin(tmp_path / "run")
    open_run(tmp_path / "run", 1)
    with pytest.raises(RunFolderRefused, match=r"'coin' is version 2 here, and was version 1 then") as caught:
        open_run(tmp_path / "run", 2)
    assert f"dfz resume {tmp_path / 'run'} --accept-domain-versions" in str(caught.value)
    open_run(tmp_path / "run", 2, accepts=True)


def test_a_folder_without_a_run_has_no_version(tmp_path: Path) -> None:
    """A new run begins under any version; asking for it makes no folder."""
    open_run(tmp_path / "none", 7)
    assert not (tmp_path / "none").exists()


def test_an_accepted_version_is_noted_and_the_run_stays_sound(tmp_path: Path) -> None:
    """From then on the run is of the new version, and the digests of old and new results both hold."""
    folder = tmp_path / "run"
    begin(folder)
    go_on(folder, shipped(2, "heads_s"), {"heads": 2, "heads_s": 0.25})
    assert noted(folder) == {"coin": 2}
    assert_sound(folder)
    open_run(folder, 2)
    with pytest.raises(RunFolderRefused, match="'coin' is version 1 here, and was version 2 then"):
        open_run(folder, 1)


def test_the_keys_that_digests_leave_out_are_those_of_the_latest_version(tmp_path: Path) -> None:
    """A run that is opened again under the version it went on with has that version's keys."""
    folder = tmp_path / "run"
    begin(folder)
    go_on(folder, shipped(2, "heads_s"))
    lock, writer, recovered = open_for_work(folder, META)
    assert recovered.volatile == {"coin": '["heads_s"]'}
    writer.close()
    lock.close()


def test_version_1_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    """A journal of domains of version 1 names no versions; one can go back to it, too, once that is accepted."""
    folder = tmp_path / "run"
    begin(folder)
    go_on(folder, shipped(1, "seconds"))
    assert noted(folder) == {}
    go_on(folder, shipped(2, "seconds"))
    go_on(folder, shipped(1, "seconds"))
    assert noted(folder) == {"coin": 1}
    assert_sound(folder)


def test_versions_of_built_in_domains() -> None:
    """Every built-in domain has grown a version, since its results have changed."""
    assert {name: REGISTRY.get(name).version for name in BUILT_IN} == dict.fromkeys(BUILT_IN, 2)
