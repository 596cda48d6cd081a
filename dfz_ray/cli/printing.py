"""Makes texts of users safe for a terminal, for ids, messages and results may hold anything."""

from __future__ import annotations

import json
import os
import socket
import sys
import unicodedata
from pathlib import Path
from typing import Any


def safe(text: str) -> str:
    """Replace control characters, and whatever a terminal can't show, by escapes; spaces, tabs and lines stay."""
    return text if text.isprintable() else "".join(map(_safe_character, text))


def safe_line(text: str) -> str:
    """The safe text on one line."""
    return safe(" ".join(text.split()))


def marked(text: str) -> str:
    """The safe text for rich, without any markup."""
    from rich.markup import escape

    return escape(safe(text))


def to_json(value: Any) -> str:
    """The value as JSON text, on one line. Integers may have any length, which Python else refuses to write."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(limit)


def tell_place(folder: Path) -> None:
    """Within a Ray job, print where the command's files are: a relative path does not start where the user stands."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # Ray sets it for the program of a job
        return
    advice = (
        "" if folder.is_absolute() else "; a job stands in a copy of its folder: give an absolute path to keep them"
    )
    place = f"{socket.gethostname()} in {folder.absolute()}"
    print(safe_line(f"this is a Ray job; its files are on {place}{advice}"), file=sys.stderr, flush=True)


def _safe_character(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return ascii(character)[1:-1]
