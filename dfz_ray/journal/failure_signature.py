"""The signature of a failure: its message without what differs between failures of one cause."""

from __future__ import annotations

import functools
import re

SIGNATURE_CHARACTERS = 300
MEMORY = 10_000
"""The most messages that are remembered with their signatures, for most of them occur again."""

_VARIABLE = re.compile(
    r"(?P<uuid>\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b)"
    r"|(?P<text>(?<!\w)'[^'\n]*'(?!\w)|\"[^\"\n]*\"|`[^`\n]*`)"
    r"|(?P<path>(?<![\w/])~?(?:/[^\s/:,;'\"()<>]+){2,}/?)"
    r"|(?P<hex>\b0[xX][0-9a-fA-F]+\b|\b(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{8,}\b)"
    r"|(?P<number>(?:(?<![\w.)\]])[-+])?\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?)"
)
"""The parts of a message that differ between failures of one cause."""
_ONE_DIGIT = str.maketrans("123456789", "000000000")
"""Turns every digit into 0: the signature is the same, and more texts are equal, so that they are remembered."""


def normalise(message: str) -> str:
    """Replace the parts of a message that differ between failures of one cause: numbers, ids, quoted texts, paths."""
    return _normalise(message[: 4 * SIGNATURE_CHARACTERS].translate(_ONE_DIGIT))


@functools.lru_cache(MEMORY)
def _normalise(message: str) -> str:
    return _VARIABLE.sub(_stand_in, " ".join(message.split()))[:SIGNATURE_CHARACTERS]


def _stand_in(match: re.Match[str]) -> str:
    if match.lastgroup != "path":
        return f"<{match.lastgroup}>"
    return re.sub(r"[^/]*\d[^/]*|tmp[^/]*", "*", match[0])
