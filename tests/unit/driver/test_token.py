"""The token of a Ray: it is found, kept private, and refused if no request could carry it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dfz_ray.driver.token import describe_token, make_token, token_header
from dfz_ray.errors import ClusterUnusable


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, and an environment that says nothing about one."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")  # so that what a test leaves is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("there", [False, True])
def test_only_the_user_can_read_the_token(home: Path, there: bool) -> None:
    """The token and its folder are the user's alone, also if Ray has made them earlier; it then stays the same."""
    if there:
        (home / ".ray").mkdir(mode=0o755)
        (home / ".ray" / "auth_token").write_text("as before")
    umask = os.umask(0)
    try:
        make_token()
    finally:
        os.umask(umask)

    content = (home / ".ray" / "auth_token").read_text()
    assert content == "as before" if there else len(content) == 64
    assert stat.S_IMODE((home / ".ray").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600


def test_a_home_that_cannot_be_written_is_no_obstacle(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home folder the token stays in the process, and in the Ray that it starts."""
    for number, broken in enumerate([home / "missing", home / "file", Path("/proc")]):
        (home / "file").touch()
        monkeypatch.setenv("HOME", str(broken))
        monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)

        make_token()

        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64, number
        assert not (home / "missing").exists()


def test_a_token_is_sent_only_where_the_mode_asks_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token comes from where Ray looks for it, in the same order."""
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("of-home\n")
    assert token_header() == []
    assert describe_token() == "a driver without a token"

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert token_header() == [("authorization", "Bearer of-home")]
    assert describe_token() == f"the token of {home}/.ray/auth_token"

    (home / "other").write_text("of-path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "other"))
    assert token_header() == [("authorization", "Bearer of-path")]

    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-variable")
    assert token_header() == [("authorization", "Bearer of-variable")]
    assert describe_token() == "the token of RAY_AUTH_TOKEN"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "RAY_AUTH_TOKEN",
            "two\nlines",
            "the token of RAY_AUTH_TOKEN has characters that no token has; set RAY_AUTH_MODE",
        ),
        ("RAY_AUTH_TOKEN", "schlüssel", "the token of RAY_AUTH_TOKEN has characters"),
        (
            "RAY_AUTH_TOKEN_PATH",
            "/missing/token",
            "the file that RAY_AUTH_TOKEN_PATH names can't be read: .*No such file",
        ),
        ("RAY_AUTH_TOKEN_PATH", "/dev/zero", "the file that RAY_AUTH_TOKEN_PATH names can't be read: .*a device"),
    ],
)
def test_a_token_that_cannot_be_sent_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """A broken token is refused with the name of its variable before Ray is started or asked."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for use in (make_token, token_header):
        with pytest.raises(ClusterUnusable, match=message):
            use()
