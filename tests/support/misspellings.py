"""A document in which one field is misspelt, for each of its fields."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Set
from typing import Any


def misspell_each_field(
    document: Any, free: Set[str] = frozenset(), place: tuple[Any, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield the path of each field, and the document with that field misspelt.

    Args:
        document: Mappings and lists, as YAML gives them.
        free: Fields whose mappings have keys of the user's own.
        place: The path to the document.
    """
    nested = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in nested:
        if isinstance(document, dict):
            wrong = {f"{key}x" if name == key else name: field for name, field in document.items()}
            yield ".".join(map(str, (*place, key))), wrong
        if isinstance(value, dict | list) and key not in free:
            for name, inner in misspell_each_field(value, free, (*place, key)):
                whole = copy.copy(document)
                whole[key] = inner
                yield name, whole
