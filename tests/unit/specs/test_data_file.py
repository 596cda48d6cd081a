"""Batch files that can't be read, or hold something that could surprise, are refused with the line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.batch_inputs import assert_readable, refusal

from dfz_ray.errors import Problem
from dfz_ray.specs.encoding import DEPTH_LIMIT

DEEP = f"nesting deeper than {DEPTH_LIMIT} levels"
FILES = [
    ("b.yaml", "", "an empty file", "a mapping or a list"),
    ("b.yaml", " \n\t\n", "an empty file", "a mapping or a list"),
    ("b.yaml", "# tasks: []\n", "nothing but comments", "a mapping or a list"),
    ("b.json", "", "an empty file", "a mapping or a list"),
    ("b.yaml", "tasks: &all\n- {domain: maze}\ngenerate: *all\n", "the anchor &all at line 1", "no anchors"),
    ("b.yaml", "tasks:\n- &one {domain: maze}\n", "the anchor &one at line 2", "write the value out"),
    ("b.yaml", "tasks: *all\n", "the anchor *all at line 1", "no anchors and aliases"),
    ("b.yaml", "tasks:\n- <<: {id: a}\n  domain: maze\n", "a merge key << at line 2", "use `defaults`"),
    ("b.yaml", "tasks:\n- domain: maze\n  domain: quantum\n", "the key 'domain' a second time at line 3", "each key"),
    ("b.json", '[{"domain": "maze", "domain": "quantum"}]', "the key 'domain' twice in one object", "each key once"),
    ("b.json", '[{"a\\n": 1, "a\\n": 1}]', r"the key 'a\n' twice in one object", "each key once"),
    ("b.yaml", "tasks: [!!python/object/apply:os.getcwd []]", "the tag", "no tags"),
    ("b.yaml", "tasks: [{domain: !!python/object:os.x maze}]", "the tag", "no tags"),
    ("b.yaml", "tasks: !!set {a, b}", "the tag 'tag:yaml.org,2002:set' at line 1", "no tags"),
    ("b.yaml", "tasks: [{domain: !mine maze}]", "the tag '!mine' at line 1", "no tags"),
    ("b.yaml", "[" * 100_000, f"{DEEP} at line 1", "a few levels"),
    ("b.yaml", "{a: " * 100_000, f"{DEEP} at line 1", "a few levels"),
    ("b.yaml", "- " * 100_000, f"{DEEP} at line 1", "a few levels"),
    ("b.yaml", "[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1), f"{DEEP} at line 1", "a few levels"),
    ("b.json", "[" * 100_000, DEEP, "a few levels"),
    ("b.json", '{"a":' * 100_000, DEEP, "a few levels"),
    ("b.json", "[" * (DEPTH_LIMIT + 1) + "1" + "]" * (DEPTH_LIMIT + 1), DEEP, "a few levels"),
    ("b.json", "[" * 700 + "]" * 700, DEEP, "a few levels"),
    ("b.json", '[{"domain": "maze", "seed": 1e999}]', "inf at [0].seed", "a finite number"),
    ("b.json", '[{"domain": "maze", "policy": {"timeout_s": 1e999}}]', "inf at [0].policy.timeout_s",
     "a finite number"),
    ("b.json", '[{"domain": "maze", "policy": {"priority": -1e999}}]', "-inf at [0].policy.priority",
     "a finite number"),
    ("b.json", '[{"domain": "quantum", "parameters": {"noise_level": 1e999}}]', "inf at [0].parameters.noise_level",
     "a finite number"),
    ("b.yaml", "tasks: [{domain: maze, policy: {timeout_s: .inf}}]", "inf at tasks[0].policy.timeout_s",
     "a finite number"),
    ("b.yaml", "defaults: {policy: {timeout_s: 1.0e+999}}", "inf at defaults.policy.timeout_s", "a finite number"),
    ("b.json", '{"seed": NaN}', "nan at seed", "a finite number"),
    ("b.json", '{"tasks": [-Infinity]}', "-inf at tasks[0]", "a finite number"),
    ("b.yaml", "tasks: [{domain: maze, parameters: {complexity: 1.0e+999}}]", "inf at tasks[0].parameters.complexity",
     "a finite number"),
    ("b.yaml", "seed: .inf", "inf at seed", "a finite number"),
    ("b.yaml", "seed: .nan", "nan at seed", "a finite number"),
    ("b.yaml", "-.inf", "-inf at the top", "a finite number"),
    ("b.yaml", "a: b: c", "no YAML at line 1: mapping values are not allowed", "a YAML text"),
    ("b.yaml", "tasks:\n\t- a", "no YAML at line 2: found character", "a YAML text"),
    ("b.yaml", "--- 1\n--- 2\n", "no YAML at line 2: but found another document", "a YAML text"),
    ("b.yaml", "a\0b", "no YAML: unacceptable character", "a YAML text"),
    ("b.yaml", '"\\ud800"', "no YAML at line 1: found invalid Unicode character", "a YAML text"),
    ("b.yaml", "? [a, b]\n: 1", "a key at line 1 that is no text", "text keys"),
    ("b.yaml", "tasks: [{id: 2020-99-01}]", "a value that can't be read (month must be", "plain numbers"),
    ("b.yaml", "seed: " + "9" * 5_000, "a value that can't be read (Exceeds the limit", "plain numbers"),
    ("b.json", "[" + "9" * 5_000 + "]", "a value that can't be read (Exceeds the limit", "plain numbers"),
    ("b.json", "{'tasks': []}", "no JSON at line 1: Expecting property name", "a JSON text"),
    ("b.json", "[1] 2", "no JSON at line 1: Extra data", "a JSON text"),
    ("b.yaml", b"tasks: \xe9", "byte 0xe9 at 7", "a UTF-8 text"),
    ("b.json", b"\xff\xfe[\0]\0", "byte 0xff at 0", "a UTF-8 text"),
    ("a\nb.yaml", "a: b: c", "no YAML at line 1", "a YAML text"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "found", "expected"),
    [pytest.param(*one, id=f"{one[0].strip()}-{one[1][:20]!r}-{number}") for number, one in enumerate(FILES)],
)
def test_refused_file(name: str, content: str | bytes, found: str, expected: str, tmp_path: Path) -> None:
    """A file with anything surprising in it is refused with its name and the line."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    error = refusal(path)

    (problem,) = error.problems
    assert problem.where == name.replace("\n", r"\n")
    assert problem.found.startswith(found)
    assert expected in f"{problem.expected} {problem.hint}"
    assert_readable(error)


def make_nothing(path: Path) -> None:
    """No file at all."""


def make_huge(path: Path) -> None:
    """A file without content that takes no room, and yet has 10 GB."""
    path.touch()
    os.truncate(path, 10**10)


def make_device(path: Path) -> None:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")


def make_loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", ["b.yaml", "b.json"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (make_nothing, "a file that can be read; {path}: No such file or directory"),
        (Path.mkdir, "a regular file; {path} is none"),
        (os.mkfifo, "a regular file; {path} is none"),
        (make_device, "a regular file; {path} is none"),
        (make_loop, "a file that can be read; {path}: Too many levels of symbolic links"),
        (make_huge, "a file of at most 67108864 bytes; {path} has 10000000000"),
    ],
)
def test_no_file(name: str, make: Callable[[Path], Any], expected: str, tmp_path: Path) -> None:
    """A batch file that is missing, no regular file or huge is refused at once: nothing waits for a FIFO."""
    path = tmp_path / name
    make(path)

    error = refusal(str(path))

    assert error.problems == (Problem(name, "no readable file", expected.format(path=path)),)
    assert_readable(error)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5_000, "no/such/folder/b.yaml", "", "/dev/zero", "/"])
def test_no_path(path: str) -> None:
    """A text that can't be the path of a batch file is refused like any other file that isn't there."""
    error = refusal(path)

    assert [problem.found for problem in error.problems] == ["no readable file"]
    assert_readable(error)
