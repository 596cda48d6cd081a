"""The settings: one file that explains them all, and no setting that can be misunderstood."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from dfz_ray.errors import InvalidInput
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.settings import FaultSettings, Settings, read_settings, render_settings

DEFAULT = Path(__file__).parents[3] / "configs/default.yaml"
SECTIONS = "one of address, chunking, faults, journal, max_workers, policy, pool, resources, study"


def refusal(source: Any) -> InvalidInput:
    """What is said against settings."""
    with pytest.raises(InvalidInput) as caught:
        read_settings(source)
    return caught.value


def keys_of(section: type[BaseModel]) -> Iterator[str]:
    """All keys of the settings, in order, those of the sections too."""
    for name, field in section.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation)


def test_the_file_is_up_to_date() -> None:
    """configs/default.yaml is what the settings render of themselves."""
    assert DEFAULT.read_text() == render_settings()


def test_the_file_says_how_it_is_made() -> None:
    """The command that the file names writes it anew."""
    command = "python -m dfz_ray.specs.settings"
    assert f"Written by: {command}" in render_settings()

    made = subprocess.run([sys.executable, *command.split()[1:]], capture_output=True, text=True, check=True)

    assert made.stdout == render_settings()
    assert made.stderr == ""


def test_the_file_holds_the_defaults() -> None:
    """The default file changes nothing: it reads back as the settings that hold without any file."""
    assert (
        read_settings(DEFAULT) == read_settings(str(DEFAULT)) == read_settings({}) == read_settings(None) == Settings()
    )


def test_every_key_is_explained() -> None:
    """Each key of the file stands below a comment of its own, a full sentence."""
    lines = render_settings().splitlines()
    keys = [number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]

    assert [lines[number].partition(":")[0].strip() for number in keys] == list(keys_of(Settings))
    for number in keys:
        comment = lines[number - 1].strip()
        assert comment.startswith("# ")
        assert comment.endswith(".")
    assert all(len(line) <= 120 for line in lines)


def test_a_part_will_do() -> None:
    """A file may say only what differs from the defaults."""
    settings = read_settings({"chunking": {"lease_s": 5}, "resources": {"memory": "2GiB"}, "max_workers": np.int64(3)})

    assert settings.chunking.lease_s == 5
    assert settings.chunking.target_s == Settings().chunking.target_s
    assert settings.resources.memory == 2 * 2**30
    assert settings.resources.model_fields_set == {"memory"}, "what a file does not say must not win over a domain"
    assert settings.max_workers == 3


def test_a_part_of_a_policy() -> None:
    """A file may say one key of the policy or of its backoff; a null there says nothing."""
    given = {"timeout_s": 60, "priority": None, "backoff": {"first_s": np.int64(2), "factor": None}, "retry_on": []}

    settings = read_settings({"policy": given, "faults": {"preempt_after_s": None}, "journal": {"durable": False}})

    assert settings.policy == Policy(timeout_s=60, backoff=Backoff(first_s=2), retry_on=())
    assert settings.faults == FaultSettings(preempt_after_s=None)
    assert settings.faults.grace_s == 1
    assert settings.journal.durable is False


def test_a_policy_is_rendered_as_it_is_read() -> None:
    """The file shows the policy's reasons as a list and its backoff as a section."""
    text = render_settings()

    assert "\n  retry_on: [out_of_memory, worker_crashed, node_lost]\n" in text
    assert "\n  backoff:\n    # " in text
    assert "\n    first_s: 0.1\n" in text


CASES = [
    ({"chunkin": {}}, "chunkin", "an unknown key", f"{SECTIONS} did you mean 'chunking'?"),
    ({"chunking": {"target": 1}}, "chunking.target", "an unknown key", "did you mean 'target_s'?"),
    ({"resources": {"cpu": 1}}, "resources.cpu", "an unknown key", "did you mean 'cpus'?"),
    ({"a\nb": 1}, r"a\nb", "an unknown key", SECTIONS),
    ({"max_workers": 0}, "max_workers", "0", "a whole number from 1 to 1000000, or auto"),
    ({"max_workers": True}, "max_workers", "True", "a whole number from 1 to 1000000, or auto"),
    ({"max_workers": "automatic"}, "max_workers", "'automatic'", "a whole number from 1 to 1000000, or auto"),
    ({"max_workers": 10**7}, "max_workers", "10000000", "a whole number from 1 to 1000000, or auto"),
    ({"address": 3}, "address", "3", "a valid string"),
    ({"chunking": None}, "chunking", "None", "a mapping of names to values"),
    ({"chunking": [1]}, "chunking", "[1]", "a mapping of names to values"),
    ({"chunking": {"target_s": 0}}, "chunking.target_s", "0", "greater than 0"),
    ({"chunking": {"lease_s": float("nan")}}, "chunking.lease_s", "nan", "3600"),
    ({"chunking": {"lease_s": "1e-3"}}, "chunking.lease_s", "'1e-3'", "without quotes"),
    ({"journal": {"runs_folder": 3}}, "journal.runs_folder", "3", "a valid string"),
    ({"journal": {"inline_result_bytes": -1}}, "journal.inline_result_bytes", "-1", "0 to 1073741824"),
    ({"study": {"repeats": 1.5}}, "study.repeats", "1.5", "a valid integer"),
    ({"study": {"repeats": 0}}, "study.repeats", "0", "1 to 1000"),
    ({"study": {"seed": 2**63}}, "study.seed", str(2**63), "less than 9223372036854775808"),
    ({"policy": None}, "policy", "None", "a mapping of names to values"),
    ({"policy": {"timeout": 1}}, "policy.timeout", "an unknown key", "did you mean 'timeout_s'?"),
    ({"policy": {"timeout_s": 0}}, "policy.timeout_s", "0", "a number greater than 0, up to 2592000, or null"),
    ({"policy": {"max_attempts": True}}, "policy.max_attempts", "True", "a valid integer"),
    ({"policy": {"backoff": {"factor": 0}}}, "policy.backoff.factor", "0", "1 to 100"),
    ({"policy": {"retry_on": ["crash"]}}, "policy.retry_on[0]", "'crash'", "did you mean 'worker_crashed'?"),
    ({"faults": {"grace_s": 0}}, "faults.grace_s", "0", "a number greater than 0, up to 3600"),
    ({"faults": {"grace_s": None}}, "faults.grace_s", "None", "a valid number"),
    ({"faults": {"preempt_after_s": -1}}, "faults.preempt_after_s", "-1", "0 to 86400"),
    ({"faults": {"preempt_after_s": "5"}}, "faults.preempt_after_s", "'5'", "a valid number without quotes"),
    ({"faults": {"free_losses": 1001}}, "faults.free_losses", "1001", "0 to 1000"),
    ({"faults": {"free_losses": 0.5}}, "faults.free_losses", "0.5", "a valid integer"),
    ({"faults": {"node_wait_s": float("nan")}}, "faults.node_wait_s", "nan", "a finite number"),
    ({"faults": {"node_wait": 1}}, "faults.node_wait", "an unknown key", "did you mean 'node_wait_s'?"),
    ({"journal": {"durable": 1}}, "journal.durable", "1", "a valid boolean"),
    ({"resources": {"memory": "2GX"}}, "resources.memory", "'2GX'", "512MiB or 2GiB"),
]


@pytest.mark.parametrize(
    ("data", "where", "found", "expected", "form"),
    [(*one, form) for one in CASES for form in ("python", "yaml") if (one[2], form) != ("nan", "yaml")],
)
def test_refused(data: Any, where: str, found: str, expected: str, form: str, tmp_path: Path) -> None:
    """A setting that can't be meant is refused with its path, what was found and what was expected."""
    if form == "yaml":
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(data))

    error = refusal(data if form == "python" else tmp_path / "s.yaml")

    (problem,) = error.problems
    assert (problem.where, problem.found) == (f"settings.{where}", found)
    assert expected in f"{problem.expected} {problem.hint}"
    assert str(error).isprintable()


def test_all_problems_at_once() -> None:
    """Everything that is wrong with the settings is told in one go."""
    error = refusal({"max_workers": 0, "study": {"repeats": 0, "sed": 1}, "resources": {"cpus": -1}})

    assert [problem.where for problem in error.problems] == [
        "settings.max_workers",
        "settings.resources.cpus",
        "settings.study.repeats",
        "settings.study.sed",
    ]


@pytest.mark.parametrize(
    ("content", "found", "expected"),
    [
        ("", "an empty file", "a mapping"),
        ("# max_workers: 4\n", "nothing but comments", "a mapping"),
        ("- max_workers: 4\n", "[{'max_workers': 4}]", "a mapping"),
        ("4", "4", "a mapping"),
        ("max_workers: 1\nmax_workers: 2\n", "the key 'max_workers' a second time at line 2", "each key once"),
        ("1: 2\n", "the key 1", "keys that are texts"),
    ],
)
def test_a_file_that_holds_no_settings(content: str, found: str, expected: str, tmp_path: Path) -> None:
    """A file that is no mapping of settings is refused by its name."""
    path = tmp_path / "s.yaml"
    path.write_text(content)

    error = refusal(path)

    assert error.source == str(path)
    assert [problem.found for problem in error.problems] == [found]
    assert expected in error.problems[0].expected


@pytest.mark.parametrize("source", [4, [1], b"s.yaml", object])
def test_what_can_hold_no_settings(source: Any) -> None:
    """What is neither a mapping nor a path is refused like any other wrong input."""
    assert refusal(source).problems[0].expected == "a mapping, or the path of a file"


def test_a_missing_file() -> None:
    """Settings that are asked for and not there are an error: defaults never stand in for them."""
    assert refusal("no/such.yaml").problems[0].found == "no readable file"


def test_settings_are_frozen() -> None:
    """Nobody changes settings on the way."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().max_workers = 3  # type: ignore[misc]
