"""What commands print besides their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfz_ray.cli.printing import tell_place


def test_a_ray_job_says_where_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within a Ray job a relative path starts elsewhere than its user stands: the absolute one is printed, and why."""
    monkeypatch.chdir(tmp_path)
    tell_place(Path("runs/a"))
    assert capsys.readouterr().err == ""

    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    tell_place(Path("runs/a"))
    tell_place(tmp_path)

    relative, absolute = capsys.readouterr().err.splitlines()
    assert f" in {tmp_path / 'runs/a'}; a job stands in a copy of its folder: give an absolute path" in relative
    assert absolute.endswith(f" in {tmp_path}")
