"""The token that a Ray asks its drivers for: it is found where Ray looks for it, and made for an embedded Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from pathlib import Path

from dfz_ray.errors import ClusterUnusable, DfzError
from dfz_ray.journal.regular_file import read_small

HOW_TO_GIVE_ONE = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the token of its cluster, which `ray get-auth-token` shows there"
)


def make_token() -> None:
    """Make the token of an embedded Ray, if there is none, and let only this user read it: Ray lets all read it."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if _find_source() is not None:
        _read_token()  # Ray would end this process if it can't be sent
        return
    path = _default_path()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        path.chmod(0o600)
    except OSError:  # the home folder can't be written: only this process and the Ray that it starts know the token
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def use_local_token() -> None:
    """Use this user's token from now on, if there is one and RAY_AUTH_MODE does not decide on it."""
    if "RAY_AUTH_MODE" not in os.environ and _read_token():
        with contextlib.suppress(ImportError):  # older Rays know no tokens
            from ray._private.authentication import authentication_token_setup as setup

            logging.getLogger(setup.__name__).setLevel(logging.ERROR)  # it warns that it does what it is asked for
            setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def token_header() -> list[tuple[str, str]]:
    """The token as the header of a request; empty if there is none, or RAY_AUTH_MODE asks for none.

    Raises ClusterUnusable if it can't be read or sent.
    """
    token = _read_token() if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" else ""
    return [("authorization", f"Bearer {token}")] if token else []


def describe_token() -> str:
    """The token that this driver sends, in a few words."""
    return f"the token of {_find_source() or _default_path()}" if token_header() else "a driver without a token"


def _read_token() -> str:
    source = _find_source()
    try:
        if source == "RAY_AUTH_TOKEN":
            token = os.environ[source]
        else:
            token = read_small(Path(os.environ[source]) if source else _default_path()).decode()
    except (OSError, ValueError, DfzError) as error:
        if source is None:
            return ""
        raise ClusterUnusable(f"the file that {source} names can't be read: {error}") from None
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ClusterUnusable(
            f"the token of {source or _default_path()} has characters that no token has; {HOW_TO_GIVE_ONE}"
        )
    return token


def _find_source() -> str | None:
    """The variable that has or names the token; None if it is in the user's home folder."""
    return next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)


def _default_path() -> Path:
    return Path(os.path.expanduser("~")) / ".ray" / "auth_token"  # Path.home() raises where there is no home
