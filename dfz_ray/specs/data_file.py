"""Reads YAML and JSON files strictly: no tags, anchors, merge keys, repeated keys or infinities."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.encoding import DEPTH_LIMIT
from dfz_ray.specs.input_file import TEXT_LIMIT_BYTES, read_regular
from dfz_ray.specs.problems import show, show_name

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_data(path: Path) -> Any:
    """Read a YAML or (by its suffix) JSON file.

    YAML is read without tags, anchors, aliases and merge keys, and no mapping may have a key twice.

    Raises InvalidInput, with the line if it is known.
    """
    try:
        text = read_regular(path, TEXT_LIMIT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(path, f"byte {error.object[error.start]:#04x} at {error.start}", "a UTF-8 text") from None
    except ValueError as error:
        raise _invalid(path, "no readable file", str(error)) from None
    if not text.strip():
        raise _invalid(path, "an empty file", "a mapping or a list")
    data = _read_json(path, text) if path.suffix.lower() == ".json" else _read_yaml(path, text)
    _check_depth(path, data)
    return data


def _invalid(path: Path, found: str, expected: str, hint: str = "") -> InvalidInput:
    return InvalidInput([Problem(show_name(path.name or str(path)), found, expected, hint)], show_name(str(path)))


def _read_json(path: Path, text: str) -> Any:
    has_infinite = False

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise _invalid(path, f"the key {show(twice)} twice in one object", "each key once")
        return mapping

    def number(digits: str) -> float:
        nonlocal has_infinite
        value = float(digits)
        has_infinite = has_infinite or not math.isfinite(value)
        return value

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_float=number, parse_constant=number)
    except json.JSONDecodeError as error:
        raise _invalid(path, f"no JSON at line {error.lineno}: {error.msg}", "a JSON text") from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:
        found = f"a value that can't be read ({error})"
        raise _invalid(path, found, "plain numbers, texts, lists and objects") from None
    if has_infinite:
        _refuse_infinite(path, data)
    return data


def _read_yaml(path: Path, text: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            data, has_infinite = _YamlReader(path, loader).read()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        if "nesting depth" in what:  # some versions of libyaml read ahead, and have a lower limit
            raise _too_deep(path, where) from None
        raise _invalid(path, f"no YAML{where}: {what}", "a YAML text") from None
    except ValueError as error:
        found = f"a value that can't be read ({error})"
        raise _invalid(path, found, "plain numbers, texts, lists and mappings") from None
    if has_infinite:
        _refuse_infinite(path, data)
    return data


class _YamlReader:
    """Makes data of libyaml's events, in one pass.

    PyYAML's own way makes a node of each event, in Python, and then a value of each node; anchors have to be refused
    before that. PyYAML decides what a plain scalar means, once for each text.
    """

    def __init__(self, path: Path, loader: Any) -> None:
        self._path, self._loader = path, loader
        self._values: dict[str, Any] = {}
        """Of plain scalars, by their texts."""
        self._has_infinite = False

    def read(self) -> tuple[Any, bool]:
        """The data of the only document, and True if a number in it is not finite.

        Raises:
            InvalidInput: an anchor, a tag, a merge key, a key that is no text or comes twice, or deep nesting.
            yaml.YAMLError: it is no YAML, or more than one document.
            ValueError: a value can't be read, such as a date that does not exist.
        """
        get = self._loader.get_event
        get()  # the stream's start
        if type(get()) is not yaml.DocumentStartEvent:
            raise _invalid(self._path, "nothing but comments", "a mapping or a list")
        data = self._read_value(get())
        get()  # the document's end
        if type(another := get()) is not yaml.StreamEndEvent:
            mark = another.start_mark
            raise yaml.MarkedYAMLError(problem="but found another document", problem_mark=mark)
        return data, self._has_infinite

    def _read_value(self, event: Any) -> Any:
        """The value that begins with this event. It keeps a list of the open collections, and calls itself never."""
        get, read_scalar = self._loader.get_event, self._read_scalar
        outer: list[tuple[Any, str | None]] = []
        """The collections around the current one, each with the key whose value is next."""
        holder: Any = None
        key: Any = None
        while True:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                value = read_scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._refuse_marked(event)
                outer.append((holder, key))
                if len(outer) > DEPTH_LIMIT:
                    raise _too_deep(self._path, f" at line {_line_of(event)}")
                holder, key = ({} if kind is yaml.MappingStartEvent else []), None
                value = None
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                value = holder
                holder, key = outer.pop()
            else:
                self._refuse_marked(event)
                raise AssertionError(f"libyaml gave the event {event}")
            if holder is None:
                return value
            if kind not in _STARTS:
                if type(holder) is list:
                    holder.append(value)
                else:
                    holder[key] = value
            event = get()
            if type(holder) is dict and type(event) is not yaml.MappingEndEvent:
                key = self._read_key(event, holder)
                event = get()

    def _read_key(self, event: Any, holder: dict[Any, Any]) -> Any:
        if type(event) is not yaml.ScalarEvent:
            self._refuse_marked(event)
            raise _invalid(self._path, f"a key at line {_line_of(event)} that is no text", "text keys")
        if event.value == "<<" and event.implicit[0] and event.tag is None:
            self._refuse_marked(event)
            raise _invalid(self._path, f"a merge key << at line {_line_of(event)}", "no merge keys", "use `defaults`")
        key = self._read_scalar(event)
        if key in holder:
            line = _line_of(event)
            found = f"the key {show(event.value)} a second time at line {line}"
            raise _invalid(self._path, found, "each key once")
        return key

    def _read_scalar(self, event: Any) -> Any:
        if event.anchor or event.tag:
            self._refuse_marked(event)
        text: str = event.value
        if not event.implicit[0]:
            return text  # it is quoted
        try:
            return self._values[text]
        except KeyError:
            pass
        loader = self._loader
        tag = loader.resolve(yaml.ScalarNode, text, event.implicit)
        value = loader.construct_object(yaml.ScalarNode(tag, text, event.start_mark, event.end_mark))
        if isinstance(value, float) and not math.isfinite(value):
            self._has_infinite = True
        if len(self._values) < _KNOWN_SCALARS:
            self._values[text] = value
        return value

    def _refuse_marked(self, event: Any) -> None:
        """Refuse an anchor, an alias and a tag."""
        if anchor := event.anchor:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            found = f"the anchor {sign}{anchor} at line {_line_of(event)}"
            raise _invalid(self._path, found, "no anchors and aliases", "write the value out, or use `defaults`")
        if tag := getattr(event, "tag", None):
            raise _invalid(self._path, f"the tag {show(tag)} at line {_line_of(event)}", "no tags")


_STARTS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_KNOWN_SCALARS = 10_000
"""Values of further texts are found anew each time."""


def _line_of(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _too_deep(path: Path, where: str = "") -> InvalidInput:
    return _invalid(path, f"nesting deeper than {DEPTH_LIMIT} levels{where}", "a few levels")


def _check_depth(path: Path, data: Any) -> None:
    level = [data] if isinstance(data, (dict, list)) else []
    for _ in range(DEPTH_LIMIT + 1):
        if not level:
            return
        items = chain.from_iterable([each.values() if type(each) is dict else each for each in level])
        level = [item for item in items if type(item) is dict or type(item) is list]
    raise _too_deep(path)


def _refuse_infinite(path: Path, data: Any) -> None:
    """Refuse a number that is not finite, such as .inf or 1e999, with its place."""
    waiting = [(data, "")]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise _invalid(path, f"{value} at {place or 'the top'}", "a finite number")
        if isinstance(value, dict):
            waiting.extend((item, f"{place}.{show_name(key)}".lstrip(".")) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, f"{place}[{index}]") for index, item in enumerate(value))
