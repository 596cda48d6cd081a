"""Checks the simple fields of an input: names, ids, texts, numbers, mappings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from dfz_ray.errors import Problem, Unserializable
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.problems import describe_names, nearest, show, show_name

ID_LIMIT = 1000


class FieldChecks:
    """Checks fields and collects their problems.

    Every check returns the value as plain data; for a wrong value, something of the right type or None.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.ids: dict[str, str | int] = {}
        """The ids in use, and their places: a path, or the position under `tasks`."""

    def name(self, given: Any, missing: str) -> str:
        """Check the name of a batch."""
        name = missing if given is None else _plain_scalar(given)
        if isinstance(name, str) and len(name) <= ID_LIMIT and is_clean(name):
            return name or missing
        self.refuse("name", show(given), f"a text of at most {ID_LIMIT} printable characters", _in_quotes(given))
        return missing

    def id(self, given: Any, missing: str, place: str | int) -> str:
        """Check the id of a task, which must be unique."""
        where = path_of(place)
        task_id = missing if given is None else _plain_scalar(given)
        if not isinstance(task_id, str) or not task_id or len(task_id) > ID_LIMIT or not is_clean(task_id):
            expected = f"a text of 1 to {ID_LIMIT} printable characters"
            self.refuse(f"{where}.id", show(task_id), expected, _in_quotes(task_id))
            return missing
        if task_id in self.ids:
            self.refuse(f"{where}.id", show(task_id), f"an id of its own; {path_of(self.ids[task_id])} has this one")
        self.ids.setdefault(task_id, place)
        return task_id

    def check_keys(self, data: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        """Check that all keys are known."""
        for key in data:
            if key not in known:
                place = f"{where}.{show_name(key)}".lstrip(".")
                self.refuse(place, "an unknown key", describe_names(known), nearest(key, known))

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        """Check a mapping of names to plain data."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.refuse(where, show(value), "a mapping of names to values")
            return {}
        for key in value:
            if not isinstance(key, str) or not _encodes(key):
                self.refuse(where, f"the key {show(key)}", "keys that are texts", _in_quotes(key))
                return {}
        try:
            mapping: dict[str, Any] = plain(value)
        except Unserializable as error:
            self.refuse(where, show(value), f"plain data; {error}")
            return {}
        return mapping

    def list_of(self, value: Any, where: str) -> list[Any]:
        """Check a list."""
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            self.refuse(where, show(value), "a list")
            return []
        return list(value)

    def text(self, value: Any, where: str) -> str | None:
        """Check a text."""
        if value is None or (isinstance(value, str) and _encodes(value)):
            return value
        self.refuse(where, show(value), "a text", _in_quotes(value))
        return None

    def integer(self, value: Any, where: str, low: int, high: int) -> int | None:
        """Check a whole number within bounds."""
        number = _plain_scalar(value)
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return number
        self.refuse(where, "nothing" if value is None else show(value), f"a whole number from {low} to {high}")
        return None

    def refuse(self, where: str, found: str, expected: str, hint: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(where, found, expected, hint))


def path_of(place: str | int) -> str:
    """The path of a place, which is a path already, or a position under `tasks`."""
    return place if isinstance(place, str) else f"tasks[{place}]"


def _plain_scalar(value: Any) -> Any:
    try:
        return plain(value)
    except Unserializable:
        return value  # not a scalar


def _in_quotes(value: Any) -> str:
    """The hint for a text that YAML read as a number, a truth value or a date."""
    return "put it in quotes" if isinstance(value, (int, float, date)) else ""


def is_clean(text: str) -> bool:
    """True if a text is printable and can be stored."""
    return (text.isascii() and text.isprintable()) or (text.isprintable() and _encodes(text))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
