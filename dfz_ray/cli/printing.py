"""Texts of the user's on their way to a terminal: ids, messages and results may hold anything."""

from __future__ import annotations

import unicodedata


def safe(text: str) -> str:
    """The text with what a terminal would obey, or can't show, as escapes; spaces, tabs and lines stay."""
    return text if text.isprintable() else "".join(map(_safe_character, text))


def safe_line(text: str) -> str:
    """The same on one line."""
    return safe(" ".join(text.split()))


def marked(text: str) -> str:
    """The same for rich, which then finds no markup in it."""
    from rich.markup import escape

    return escape(safe(text))


def _safe_character(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return ascii(character)[1:-1]
