"""A run that was begun under another version of its domain: refused, or gone on with where one says so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.driver import BIN
from support.small_run import completed, make_run

from dfz_ray.journal.domain_versions import find_versions
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run


def resume(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "dfz"), "resume", str(folder), "--address", "local", "--max-workers", "1", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_a_run_of_the_first_version_goes_on_once_that_is_accepted(tmp_path: Path) -> None:
    """Its old results stay, the tasks that are left run under the new version, and the audit finds no fault."""
    folder, old = tmp_path / "run", {"main_score": 1.0}
    parameters = [{"size_x": 5, "size_y": 5}] * 2
    make_run(folder, ["a", "b"], completed(0, old), domain="maze", parameters=parameters).close()
    refused = resume(folder)
    assert refused.returncode == 2
    assert "'maze' is version 2 here, and was version 1 then" in refused.stderr
    assert "Ray" not in refused.stderr  # none was started for that
    accepted = resume(folder, "--accept-domain-versions")
    assert accepted.returncode == 0, accepted.stderr
    with JournalReader(folder) as journal:
        first, second = journal.records()
        assert first.result == old
        assert second.result["completion_time_s"] > 0
        assert find_versions(journal.meta) == {"maze": 2}
    assert [text for check in audit_run(folder).checks for text in check.violations] == []
    assert resume(folder).returncode == 0
