"""Describes problems of an input, also those that pydantic found, for the person who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dfz_ray.errors import Problem

SHOWN_CHARACTERS = 80
SHOWN_NAME_CHARACTERS = 400
SHOWN_BITS = 256
_BOUNDS = ("ge", "gt", "le", "lt")
_EXPECTED = {
    "model_type": "a mapping of names to values",
    "dict_type": "a mapping of names to values",
    "string_unicode": "a text that UTF-8 can hold",
    "tuple_type": "a valid list",  # a batch file has no tuples
}
"""By pydantic's name of an error what is expected, where its message would not say it to the writer of a batch."""
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def show(value: Any) -> str:
    """A value as a short, printable, single-line text."""
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = ascii(value) if not isinstance(value, str) else _printable(value)
    except Exception as error:  # a user's __repr__ may do anything
        text = f"a value of type {type(value).__name__!r} whose repr raises {type(error).__name__}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def show_name(name: Any) -> str:
    """A key or the path of a file, unchanged if it is short and printable."""
    text = name if isinstance(name, str) else show(name)
    if not text.isprintable():
        text = ascii(text)[1:-1]
    if len(text) <= SHOWN_NAME_CHARACTERS:
        return text
    return f"{text[: SHOWN_NAME_CHARACTERS // 2]}...{text[-SHOWN_NAME_CHARACTERS // 2 :]}"


def _printable(text: str) -> str:
    shown = repr(text)
    return shown if shown.isprintable() else ascii(text)


def nearest(word: Any, names: Iterable[str]) -> str:
    """The hint that names the most similar of the known names; empty if none is similar."""
    if not isinstance(word, str):
        return ""
    found = difflib.get_close_matches(word[:SHOWN_CHARACTERS], list(names), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}?" if found else ""


def describe_names(names: Iterable[str]) -> str:
    """The known names as a list for an error message."""
    return "one of " + ", ".join(sorted(names))


def find_problems(error: ValidationError, model: type[BaseModel], where: str) -> list[Problem]:
    """Make a problem of each error that pydantic found in the value at a path."""
    return [_problem(item, model, where) for item in error.errors(include_url=False)]


def _problem(item: Any, model: type[BaseModel], where: str) -> Problem:
    location: tuple[Any, ...] = item["loc"]
    owner, field = _find_field(model, location)
    parts = location[:-1] if location[-1:] == ("[key]",) else location  # pydantic marks errors of a key so
    kind = item["type"]
    if kind == "invalid_key":
        return Problem(_path(where, parts[:-1]), f"the key {show(item['input'])}", "keys that are texts")
    path = _path(where, parts)
    if kind == "extra_forbidden":
        names = list(owner.model_fields)
        expected = describe_names(names) if names else "no keys"
        return Problem(path, "an unknown key", expected, nearest(location[-1], names))
    if kind == "missing":
        return Problem(path, "nothing", (field.description if field else None) or "a value")
    return Problem(path, show(item["input"]), _expected(item, field), _hint(item))


def _path(where: str, parts: tuple[Any, ...]) -> str:
    return where + "".join(f"[{part}]" if isinstance(part, int) else f".{show_name(part)}" for part in parts)


def _find_field(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The model that the end of a path belongs to, and the field there, if it is one."""
    field = None
    for depth, part in enumerate(location):
        field = model.model_fields.get(str(part))
        last = depth == len(location) - 1
        if field is None or last:
            return model, field if last else None
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    return model, field


def _expected(item: Any, field: FieldInfo | None) -> str:
    kind, given = item["type"], item["input"]
    too_large = kind == "float_type" and isinstance(given, int) and not isinstance(given, bool)
    if field and (too_large or kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal")):
        bounds = {name: getattr(entry, name) for entry in field.metadata for name in _BOUNDS if hasattr(entry, name)}
        if bounds.keys() == {"ge", "le"}:
            return f"{bounds['ge']} to {bounds['le']}"
        if bounds.keys() == {"gt", "le"}:
            null = ", or null" if type(None) in get_args(field.annotation) else ""  # 0 may have been meant as "none"
            return f"a number greater than {bounds['gt']}, up to {bounds['le']}{null}"
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    message: str = item["msg"]
    if kind in ("too_short", "too_long"):
        bound, limit = ("least", "min_length") if kind == "too_short" else ("most", "max_length")
        message = f"at {bound} {item['ctx'][limit]} values, not {item['ctx']['actual_length']}"
    for start in ("Value error, ", "Assertion failed, ", "Input should be ", "expected "):
        message = message.removeprefix(start)
    return message


def _hint(item: Any) -> str:
    if item["type"] == "float_type" and isinstance(item["input"], str) and _NUMBER.fullmatch(item["input"]):
        return "without quotes; in YAML a number with an exponent needs a point, as in 1.0e-3"
    if item["type"] == "int_type" and isinstance(item["input"], str) and _INTEGER.fullmatch(item["input"]):
        return "without quotes"
    if item["type"] == "string_type" and isinstance(item["input"], (int, float, date)):
        return "put it in quotes"
    if item["type"] == "bool_type":
        return "true or false, without quotes"
    if item["type"] != "literal_error":
        return ""
    expected = item["ctx"]["expected"].replace(" or ", ",").split(",")
    return nearest(item["input"], [name.strip("' ") for name in expected])
