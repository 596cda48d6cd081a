"""Addresses at which no Ray can be used: the reason comes in one line, and nothing waits for long."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dfz_ray.driver import connection
from dfz_ray.driver.connection import connect
from dfz_ray.errors import ClusterUnusable


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "'nonsense' is no address: give host:port, auto or local"),
        ("127.0.0.1:²", "is no address: give host:port, auto or local"),
        ("127.0.0.1:1", "no Ray answers at '127.0.0.1:1' within 10 s"),
        ("127.0.0.1:99999", "no Ray answers at '127.0.0.1:99999'"),
        ("ray://127.0.0.1:1", "is a Ray Client address"),
    ],
)
def test_an_address_without_a_ray_is_refused(address: str, message: str) -> None:
    """The message names the address, and says what to do."""
    with pytest.raises(ClusterUnusable, match=message):
        connect(address)


def test_auto_says_why_the_ray_that_was_left_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A Ray that is gone is named with its address, whether it was asked for or would have been taken by itself."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

        assert connection._find_ray(left_only=True) is None
        assert f"is passed over: no Ray answers at '{address}' within 2 s" in caplog.text


def test_the_address_that_was_left_is_only_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file of `ray start`, or with something else in its place, no Ray was left."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert connection._find_ray(left_only=True) is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").symlink_to("/dev/zero")
    assert connection._find_ray(left_only=True) is None
