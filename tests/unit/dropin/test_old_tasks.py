"""Tasks and configurations of scripts that were written for the old module, as they are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.extras import NEEDS_TORCH

from dfz_ray.domains import registry
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.configuration import read_configuration
from dfz_ray.dropin.foreground import execute_here
from dfz_ray.dropin.intents import CHOICE_NAMED, NAMED, find_intents
from dfz_ray.dropin.old_tasks import OldTask, read_old_tasks
from dfz_ray.dropin.submitted_task import SubmittedTask
from dfz_ray.dropin.task_generation import draw_tasks
from dfz_ray.errors import InvalidInput
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import decode, encode
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.task import derive_seed

MAZE = {"size_x": 6, "size_y": 6}


def read_one(task: Any) -> OldTask:
    (read,) = read_old_tasks([task], Settings()).tasks
    return read


def test_numpy_scalars_are_values() -> None:
    """Parameters may be NumPy scalars, texts among them; they become plain values."""
    parameters = {"algorithm": np.random.choice(["ghz"]), "num_qubits": np.int64(4), "noise_level": np.float32(0.5)}
    read = read_one({"id": np.str_("q"), "domain": np.str_("quantum"), "parameters": parameters})
    assert read.checked is not None
    assert (read.label, read.checked.domain) == ("q", "quantum")
    known = decode(read.checked.parameters)
    assert {name: known[name] for name in parameters} == {"algorithm": "ghz", "num_qubits": 4, "noise_level": 0.5}


def test_a_seed_among_the_parameters_is_the_tasks() -> None:
    """A seed among the parameters is the task's seed; else it derives from the id as it was given."""
    seeded = read_one({"id": "m", "domain": "maze", "parameters": {**MAZE, "seed": np.int64(3)}})
    derived = read_old_tasks([{"id": "m", "domain": "maze", "parameters": MAZE}] * 2, Settings()).tasks
    assert seeded.checked is not None
    assert seeded.checked.seed == 3
    assert [one.label for one in derived] == ["m", "m#2"]
    assert [one.checked.seed for one in derived if one.checked] == [derive_seed(0, "m")] * 2


def test_ids_that_are_made_are_unique() -> None:
    """Tasks without an id get one each, which no other task has."""
    read = read_old_tasks([{"domain": "maze", "parameters": MAZE}, {"id": "", "domain": "maze"}] * 50, Settings())
    assert len({one.label for one in read.tasks}) == 100
    assert len({one.checked.seed for one in read.tasks if one.checked}) == 100


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"domain": "mase"}, "did you mean 'maze'?"),
        ({"parameters": {}}, "domain: found nothing"),
        ({"domain": "quantum", "parameters": {"algorithm": "ghz", "num_qubits": 999}}, "num_qubits: found 999"),
        ({"domain": "maze", "parameters": [5, 5]}, "parameters: found"),
        ({"domain": "maze", "parameters": MAZE, "seed": "x"}, "seed: found"),
        ({"domain": "maze", "parameters": MAZE, "policy": {"max_attempts": 0}}, "policy.max_attempts: found 0"),
        ("maze", "expected a mapping with `domain` and `parameters`"),
        (None, "expected a mapping with `domain` and `parameters`"),
    ],
)
def test_what_cannot_be_is_told_of_that_task_alone(task: Any, told: str) -> None:
    """A task that can't be has a text that names the field, what was found and expected; the others are read."""
    good = {"id": "good", "domain": "maze", "parameters": MAZE}
    bad, other = read_old_tasks([task, good], Settings()).tasks
    assert bad.checked is None
    assert told in bad.problem
    assert other.checked is not None


def test_a_task_may_have_resources_and_a_policy() -> None:
    """Resources and policy are read as in batch files; other keys are the script's own."""
    task = {
        "id": "m",
        "domain": "maze",
        "parameters": MAZE,
        "resources": {"cpus": 2},
        "policy": {"priority": 5},
        "owner": object(),
    }
    read = read_one(task)
    assert read.checked is not None
    assert (read.checked.resources.cpus, read.checked.policy.priority) == (2, 5)


def test_unknown_parameters_are_left_out_with_one_warning() -> None:
    """Parameters that a domain does not know are left out; one warning names them, and the line that gave them."""
    tasks = [
        {"domain": "maze", "parameters": {**MAZE, "colour": "red", "seed": 1}},
        {"domain": "maze", "parameters": {**MAZE, "height": 3}},
        {"domain": "quantum", "parameters": {"algorithm": "ghz", "num_qubits": 3, "backend": "x"}},
    ]
    read = read_old_tasks(tasks, Settings())
    assert all(one.checked for one in read.tasks)
    with pytest.warns(UserWarning, match="left out") as told:
        read.warn()
    assert [str(one.message) for one in told] == [
        "left out parameters that their domain does not know: maze: colour, height; quantum: backend"
    ]
    assert told[0].filename == __file__


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    """Tasks of which everything is known give no warning."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read_old_tasks([{"domain": "maze", "parameters": {**MAZE, "seed": 1}}], Settings()).warn()
    assert told == []


@pytest.mark.parametrize("given", [None, {}, {"config_path": None}, {"config_path": "configs/default.yaml"}])
def test_a_configuration_may_be_left_out(given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, or the path of the old examples where there is no such file, means the defaults."""
    monkeypatch.chdir(tmp_path)
    assert read_configuration(given) == Settings()


@pytest.mark.parametrize(
    "given", ["nowhere.yaml", {"config_path": "nowhere.yaml"}, {"max_wrkers": 2}, {"config_path": "x", "address": "y"}]
)
def test_a_wrong_configuration_is_refused(given: Any) -> None:
    """A file that is missing, a setting that is misspelt, or a path beside settings is refused."""
    with pytest.raises(InvalidInput):
        read_configuration(given)


def test_a_configuration_of_the_old_system_is_read(tmp_path: Path) -> None:
    """Keys of the old system's own configuration are left out with one warning; a misspelt setting is refused."""
    path = tmp_path / "old.yaml"
    path.write_text("quantum_backend: {shots: 5}\nmax_workers: 3\n")
    with pytest.warns(UserWarning, match="left out keys that are not settings: quantum_backend") as told:
        assert read_configuration(path).max_workers == 3
    assert [one.filename for one in told] == [__file__]
    path.write_text("max_wrkers: 3\n")
    with pytest.raises(InvalidInput, match="max_workers"):
        read_configuration(str(path))


def test_the_foreground_runs_a_task_without_ray() -> None:
    """A task in the foreground has its result, or why it failed, and its times."""
    good = execute_here(read_one({"id": "m", "domain": "maze", "parameters": MAZE}))
    bad = execute_here(read_one({"id": "b", "domain": "mase"}))
    assert set(good) == {"task_id", "status", "result", "start_time", "end_time", "duration"}
    assert (good["task_id"], good["status"], good["result"]["main_score"]) == ("m", "success", 1.0)
    assert good["result"]["completion_time"] == good["result"]["completion_time_s"] > 0
    assert good["duration"] == pytest.approx(good["end_time"] - good["start_time"])
    assert (bad["status"], set(bad) - set(good)) == ("error", {"error"})


@pytest.mark.parametrize(
    "domain", ["quantum", "maze", pytest.param("image_classification", marks=NEEDS_TORCH), "sorting"]
)
def test_generated_tasks_are_valid(domain: str) -> None:
    """Generated tasks have ids of their own and valid parameters; equal seeds draw equal ones."""
    tasks, _ = draw_tasks(domain, 5, None, 7, Settings())
    again, _ = draw_tasks(domain, np.int64(5), {}, 7, Settings())
    assert len({task["id"] for task in tasks} | {task["id"] for task in again}) == 10
    assert [task["parameters"] for task in tasks] == [task["parameters"] for task in again]
    assert all(one.checked for one in read_old_tasks(tasks, Settings()).tasks)
    assert set(tasks[0]) == {"id", "domain", "description", "parameters"}


def test_given_parameters_are_kept_when_tasks_are_generated() -> None:
    """Given parameters are fixed; the others are drawn, and differ from task to task."""
    tasks, _ = draw_tasks("maze", 5, {"size_x": np.int64(7)}, None, Settings())
    assert {task["parameters"]["size_x"] for task in tasks} == {7}
    assert len({task["parameters"]["seed"] for task in tasks}) == 5


@pytest.mark.parametrize(
    ("domain", "count", "parameters"),
    [("mase", 1, {}), ("maze", -1, {}), ("maze", "x", {}), ("maze", 1, {"size_x": 0})],
)
def test_tasks_that_cannot_be_are_not_generated(domain: str, count: Any, parameters: dict[str, Any]) -> None:
    """An unknown domain, a count that is none, or a value out of range is refused."""
    with pytest.raises(InvalidInput):
        draw_tasks(domain, count, parameters, None, Settings())


def test_a_seed_that_is_none_is_refused() -> None:
    """A list, say, seeds nothing: the error names what was given."""
    with pytest.raises(InvalidInput, match=r"seed: found \[1\]; expected a whole number, or None"):
        draw_tasks("maze", 1, None, [1], Settings())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("solve a maze", {"maze": NAMED}),
        ({"content": "Mazes and image classification"}, {"maze": NAMED, "image_classification": NAMED}),
        ("run VQE on five qubits", {"quantum": CHOICE_NAMED}),
        ("a quantum grover search", {"quantum": NAMED}),
        ("amazement", {}),
        ("", {}),
        ({"id": 3}, {}),
        (None, {}),
    ],
)
def test_intents_are_domains_that_a_message_names(message: Any, names: dict[str, float]) -> None:
    """A domain that is named is certain; one of which only an algorithm is named is half so; the likeliest is first."""
    found = find_intents(message)
    assert {one["name"]: one["confidence"] for one in found} == names
    assert [one["confidence"] for one in found] == sorted(names.values(), reverse=True)


@pytest.mark.parametrize(
    ("given", "bounded"),
    [
        ({"image_size": 64}, True),
        ({"num_categories": 4, "augmentation": np.bool_(True)}, True),
        ({"model_type": "resnet"}, True),
        ({"difficulty": "hard"}, False),
        ({"model_type": "resnet", "epochs": 100}, False),
        ({"model_type": "resnet", "bounded": False}, False),
    ],
)
@NEEDS_TORCH
def test_images_are_bounded_for_scripts_alone(given: dict[str, Any], bounded: bool) -> None:
    """What the old module ignored is bounded in a script, unless it says how long to train; nowhere else."""
    read = read_one({"id": "i", "domain": "image_classification", "parameters": given})
    assert read.checked is not None, read.problem
    assert decode(read.checked.parameters)["bounded"] is bounded
    batch = [{"domain": "image_classification", "parameters": given}]
    (task,) = read_batch(batch, REGISTRY, Settings().resources, Settings().policy).tasks
    assert decode(task.parameters)["bounded"] is False


@pytest.mark.parametrize(
    ("domain", "parameters", "old", "ours"),
    [("maze", MAZE, "completion_time", "completion_time_s"), ("sorting", {"list_length": 50}, "time", "time_s")],
)
def test_results_keep_their_old_keys(domain: str, parameters: dict[str, Any], old: str, ours: str) -> None:
    """Scripts find the keys of the old module beside ours, which have a unit."""
    task = {"id": "t", "domain": domain, "parameters": parameters}
    result = execute_here(read_one(task))["result"]
    assert result[old] == result[ours] > 0
    stored = encode({ours: 2.5, "main_score": 1.0})
    submitted = SubmittedTask("t", "t", task, lambda _: None)
    submitted.complete(stored, 1.0, 2.0)
    assert submitted.future.result()["result"] == {ours: 2.5, old: 2.5, "main_score": 1.0}


@pytest.fixture
def broken_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An installed domain whose module can't be imported."""
    broken = {"broken": EntryPoint("broken", "no_such_module:DOMAIN", registry.ENTRY_POINTS)}
    monkeypatch.setattr(registry, "_find_installed", lambda: broken)
    yield "broken"
    registry._load_installed.cache_clear()


def test_a_domain_that_can_not_be_imported_fails_its_own_tasks_alone(broken_domain: str) -> None:
    """An installed domain that is broken fails its tasks with the reason; the others run, and intents are found."""
    tasks = [{"id": "b", "domain": broken_domain, "parameters": {"x": 1}}, {"id": "m", "domain": "maze"}]
    broken, sound = read_old_tasks(tasks, Settings()).tasks
    assert broken.checked is None
    assert "task b: domain 'broken' can't be loaded from no_such_module:DOMAIN: ModuleNotFoundError" in broken.problem
    assert sound.checked is not None
    assert [one["name"] for one in find_intents("solve a maze")] == ["maze"]


def test_why_tasks_can_not_be_drawn_is_said_as_of_a_batch() -> None:
    """A wrong domain or parameter is named with what was found and expected, not within the text of another error."""
    with pytest.raises(InvalidInput) as unknown:
        draw_tasks("maz", 2, None, 1, Settings())
    with pytest.raises(InvalidInput) as wrong:
        draw_tasks("maze", 2, {"size_x": -1}, 1, Settings())

    assert str(unknown.value).startswith("generate_tasks: domain: found 'maz'; expected the name of a domain, one of ")
    assert "(did you mean 'maze'? import the module that defines it" in str(unknown.value)
    assert str(wrong.value).startswith("generate_tasks: parameters.size_x: found -1; expected ")
