"""The folder in which nodes find each other: only its user can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dfz_ray.driver.cluster_folder import ClusterFolder
from dfz_ray.errors import ClusterUnusable


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    """Whatever the umask, the folder has mode 0700, and its files 0600; a second head keeps the token."""
    before = os.umask(0)
    try:
        shared = ClusterFolder(tmp_path / "cluster")
        shared.make_token()
        shared.announce_head("192.0.2.9:20000")
        shared.note_node("up")
    finally:
        os.umask(before)
    token = shared.token_file.read_text()
    shared.make_token()

    files = [path for path in (tmp_path / "cluster").rglob("*") if path.is_file()]
    assert stat.S_IMODE((tmp_path / "cluster").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len(files) == 3
    assert shared.token_file.read_text() == token
    assert len(token) == 64
    assert ClusterFolder(tmp_path / "cluster").wait_for_head() == "192.0.2.9:20000"


def test_one_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The message names the mode that was found, and what to do about it, for the folder and for its token."""
    shared = ClusterFolder(tmp_path / "cluster")
    shared.make_token()
    shared.token_file.chmod(0o644)
    with pytest.raises(ClusterUnusable, match=r"found mode 644 .* expected 600 .*: chmod 600 .*/cluster/token"):
        shared.check_token()
    shared.path.chmod(0o755)
    with pytest.raises(ClusterUnusable, match=r"found mode 755 .* expected 700 .*: chmod 700 .*/cluster"):
        ClusterFolder(shared.path)


def test_a_head_that_does_not_come_is_told(tmp_path: Path) -> None:
    """A node that waits in vain says for which file it has waited."""
    with pytest.raises(ClusterUnusable, match=r"no head has written its address to .*/address within 0 s"):
        ClusterFolder(tmp_path).wait_for_head(0)
