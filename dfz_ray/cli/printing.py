"""Makes texts of users safe for a terminal, for ids, messages and results may hold anything."""

from __future__ import annotations

import unicodedata


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


def _safe_character(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return ascii(character)[1:-1]
