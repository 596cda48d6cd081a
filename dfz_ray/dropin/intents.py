"""Finds the domains that a message is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.old_tasks import find_usable

NAMED = 1.0
"""The confidence if a message contains the name of a domain."""
CHOICE_NAMED = 0.5
"""The confidence if it only contains the name of an algorithm or a model, which other domains may have as well."""
CHOICES = ("algorithm", "model", "model_type")
"""The parameters whose values hint at a domain."""
TEXT_KEYS = ("content", "text", "message")


def find_intents(message: Any) -> list[dict[str, Any]]:
    """The domains that a message is about, the likeliest first, as `{"name", "confidence"}`.

    The message is a text, or a mapping with one as `content`, `text` or `message`. The confidence is a rule, not a
    probability: 1 if the domain's name is in the message (also in the plural, and with spaces for underscores), 0.5 if
    only one of its algorithms or models is.
    """
    if isinstance(message, Mapping):
        message = next((message[key] for key in TEXT_KEYS if isinstance(message.get(key), str)), "")
    words = _words(message if isinstance(message, str) else "")
    found = [{"name": name, "confidence": _confidence(name, words)} for name in REGISTRY.names()]
    return sorted((one for one in found if one["confidence"]), key=lambda one: -one["confidence"])


def _confidence(name: str, words: str) -> float:
    if _words(name) in words:
        return NAMED
    domain = find_usable(name)
    fields = domain.parameters.model_fields if domain is not None else {}
    choices = (choice for key in CHOICES if key in fields for choice in _texts(fields[key].annotation))
    return CHOICE_NAMED if any(_words(choice) in words for choice in choices) else 0.0


def _texts(annotation: Any) -> Iterator[str]:
    for argument in get_args(annotation):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _texts(argument)


def _words(text: str) -> str:
    """The words in lower case and the singular, with a space before and after each."""
    singular = (
        word[:-1] if len(word) > 3 and word.endswith("s") else word for word in re.findall("[a-z0-9]+", text.lower())
    )
    return f" {' '.join(singular)} "
