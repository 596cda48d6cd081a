"""Reads YAML and JSON files strictly: no tags, anchors, merge keys, repeated keys or infinities."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.encoding import DEPTH_LIMIT
from dfz_ray.specs.input_file import read_regular
from dfz_ray.specs.problems import show, show_name

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_data(path: Path) -> Any:
    """Read a YAML or (by its suffix) JSON file.

    YAML is read without tags, anchors, aliases and merge keys, and no mapping may have a key twice.

    Raises InvalidInput, with the line if it is known.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(path, f"byte {error.object[error.start]:#04x} at {error.start}", "a UTF-8 text") from None
    except ValueError as error:
        raise _invalid(path, "no readable file", str(error)) from None
    if not text.strip():
        raise _invalid(path, "an empty file", "a mapping or a list")
    data = _read_json(path, text) if path.suffix.lower() == ".json" else _read_yaml(path, text)
    _check_values(path, data)
    return data


def _invalid(path: Path, found: str, expected: str, hint: str = "") -> InvalidInput:
    return InvalidInput([Problem(show_name(path.name or str(path)), found, expected, hint)], show_name(str(path)))


def _read_json(path: Path, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                raise _invalid(path, f"the key {show(key)} twice in one object", "each key once")
            mapping[key] = value
        return mapping

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _invalid(path, f"no JSON at line {error.lineno}: {error.msg}", "a JSON text") from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:
        found = f"a value that can't be read ({error})"
        raise _invalid(path, found, "plain numbers, texts, lists and objects") from None


def _read_yaml(path: Path, text: str) -> Any:
    try:
        _check_events(path, text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise _invalid(path, "nothing but comments", "a mapping or a list")
            _check_keys(path, node)
            return loader.construct_document(node)
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


def _check_events(path: Path, text: str) -> None:
    """Refuse anchors, tags and deep nesting before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if anchor := getattr(event, "anchor", None):
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            found = f"the anchor {sign}{anchor} at line {line}"
            raise _invalid(path, found, "no anchors and aliases", "write the value out, or use `defaults`")
        if tag := getattr(event, "tag", None):
            raise _invalid(path, f"the tag {show(tag)} at line {line}", "no tags")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise _too_deep(path, f" at line {line}")


def _too_deep(path: Path, where: str = "") -> InvalidInput:
    return _invalid(path, f"nesting deeper than {DEPTH_LIMIT} levels{where}", "a few levels")


def _check_keys(path: Path, root: yaml.Node) -> None:
    for node in _mappings(root):
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _invalid(path, f"a key at line {line} that is no text", "text keys")
            if key.tag == "tag:yaml.org,2002:merge":
                raise _invalid(path, f"a merge key << at line {line}", "no merge keys", "use `defaults`")
            if key.value in seen:
                raise _invalid(path, f"the key {show(key.value)} a second time at line {line}", "each key once")
            seen.add(key.value)


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _check_values(path: Path, data: Any) -> None:
    """Refuse deep nesting, and numbers that are not finite, such as .inf or 1e999."""
    waiting = [(data, "", 0)]
    while waiting:
        value, place, depth = waiting.pop()
        if depth > DEPTH_LIMIT:
            raise _too_deep(path)
        if isinstance(value, float) and not math.isfinite(value):
            raise _invalid(path, f"{value} at {place or 'the top'}", "a finite number")
        if isinstance(value, dict):
            waiting.extend((item, f"{place}.{show_name(key)}".lstrip("."), depth + 1) for key, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value))
