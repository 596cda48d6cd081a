"""Batches are checked before anything runs: the problems that are reported, and their words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.batch_inputs import (
    COUNTS,
    FORMS,
    MAPPING,
    MAZE,
    NAMES,
    TIMEOUTS,
    Case,
    Unprintable,
    accept,
    assert_readable,
    assert_told,
    block,
    case,
    cases_in_all_forms,
    containing_itself,
    nested,
    quantum,
    refusal,
    task,
)

from dfz_ray.errors import InvalidInput
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.encoding import DEPTH_LIMIT, decode

BATCH_KEYS = "one of defaults, generate, name, seed, tasks"
TASK_KEYS = "one of description, domain, id, parameters, policy, resources, seed"
SHAPE_KEYS = "one of cpus, custom, gpus, memory"
MAZE_KEYS = "one of algorithm, complexity, goal, map_file, moves, size_x, size_y, start, visual_patterns"
SEEDS = "a whole number from 0 to 9223372036854775807"
IDS = "a text of 1 to 1000 printable characters"
TASKS = "a mapping with `domain` and `parameters`"
BATCHES = "a mapping with `tasks` or `generate`, or a list of tasks"

CASES = [
    # what is no batch
    case("number", 4, "batch", "4", BATCHES),
    case("nothing", None, "batch", "None", BATCHES),
    case("true", True, "batch", "True", BATCHES),
    case("bytes", b"tasks", "batch", "b'tasks'", BATCHES),
    case("no tasks", [], "batch", "no tasks", "at least one under `tasks` or `generate`"),
    case("empty batch", {}, "batch", "no tasks", "at least one under `tasks` or `generate`"),
    case("null tasks", {"tasks": None}, "batch", "no tasks", "at least one under `tasks` or `generate`"),
    case("tasks a mapping", {"tasks": {"a": MAZE}}, "tasks", "{'a': {'domain': 'maze'}}", "a list"),
    case("tasks a text", {"tasks": "maze"}, "tasks", "'maze'", "a list"),
    case("generate a mapping", {"generate": MAZE}, "generate", "{'domain': 'maze'}", "a list"),
    case("task a number", [4], "tasks[0]", "4", TASKS),
    case("task a text", [MAZE, "maze"], "tasks[1]", "'maze'", TASKS),
    case("task null", [None], "tasks[0]", "None", TASKS),
    case("task a list", [[MAZE]], "tasks[0]", "[{'domain': 'maze'}]", TASKS),
    case("block a number", {"generate": [4]}, "generate[0]", "4", "a mapping with `domain` and `count`"),
    case("block null", {"generate": [None]}, "generate[0]", "None", "a mapping with `domain` and `count`"),
    # domains
    case("unknown domain", [{"domain": "quantm"}], "tasks[0].domain", "'quantm'", f"{NAMES} did you mean 'quantum'?"),
    case("no domain", [{}], "tasks[0].domain", "nothing", NAMES),
    case("domain null", [{"domain": None}], "tasks[0].domain", "nothing", NAMES),
    case("domain empty", [{"domain": ""}], "tasks[0].domain", "''", NAMES),
    case("domain a number", [{"domain": 3}], "tasks[0].domain", "3", NAMES),
    case("domain a list", [{"domain": ["maze"]}], "tasks[0].domain", "['maze']", NAMES),
    case("domain half a letter", [{"domain": "\ud800"}], "tasks[0].domain", r"'\ud800'", NAMES),
    case("domain of a block", block(domain="maz"), "generate[0].domain", "'maz'", f"{NAMES} did you mean 'maze'?"),
    case("block without a domain", {"generate": [{"count": 1}]}, "generate[0].domain", "nothing", NAMES),
    # keys that are misspelt, at every level
    case("key of a batch", {"task": [MAZE]}, "task", "an unknown key", f"{BATCH_KEYS} did you mean 'tasks'?"),
    case("key a number", {3: 4, "tasks": [MAZE]}, "3", "an unknown key", BATCH_KEYS),
    case("key of a task", task(paramters={}), "tasks[0].paramters", "an unknown key", "did you mean 'parameters'?"),
    case("key of defaults", {"defaults": {"resource": {}}, "tasks": [MAZE]}, "defaults.resource", "an unknown key",
         "one of policy, resources did you mean 'resources'?"),
    case("key of default resources", {"defaults": {"resources": {"cpu": 1}}, "tasks": [MAZE, MAZE]},
         "defaults.resources.cpu", "an unknown key", f"{SHAPE_KEYS} did you mean 'cpus'?"),
    case("key of resources", task(resources={"mem": 1}), "tasks[0].resources.mem", "an unknown key",
         f"{SHAPE_KEYS} did you mean 'memory'?"),
    case("key of a block", block(seeds=1), "generate[0].seeds", "an unknown key",
         "one of count, description, domain, parameters, policy, resources"),
    case("key of a block's resources", block(resources={"gpu": 1}), "generate[0].resources.gpu", "an unknown key",
         f"{SHAPE_KEYS} did you mean 'gpus'?"),
    case("key of a block's parameters", block(parameters={"algoritm": "bfs"}), "generate[0].parameters.algoritm",
         "an unknown key", f"{MAZE_KEYS} did you mean 'algorithm'?"),
    case("key of parameters", task(parameters={"sizex": 9}), "tasks[0].parameters.sizex", "an unknown key",
         f"{MAZE_KEYS} did you mean 'size_x'?"),
    case("key with a line break", task(**{"a\nb": 1}), r"tasks[0].a\nb", "an unknown key", TASK_KEYS),
    case("key with colour", task(parameters={"\x1b[31mred": 1}), r"tasks[0].parameters.\x1b[31mred", "an unknown key",
         MAZE_KEYS),
    case("key half a letter", {"\ud800": 1, "tasks": [MAZE]}, r"\ud800", "an unknown key", BATCH_KEYS),
    case("key of parameters half a letter", task(parameters={"\ud800": 1}), "tasks[0].parameters",
         r"the key '\ud800'", "keys that are texts"),
    case("key of parameters a number", task(parameters={1: 2}), "tasks[0].parameters", "the key 1",
         "keys that are texts put it in quotes"),
    case("key without end", task(**{"k" * 10_000: 1}), f"tasks[0].{'k' * 200}...{'k' * 200}", "an unknown key",
         TASK_KEYS),
    # parameters
    case("parameters a list", [{"domain": "quantum", "parameters": [1]}], "tasks[0].parameters", "[1]", MAPPING),
    case("0 qubits", quantum(num_qubits=0), "tasks[0].parameters.num_qubits", "0", "1 to 512"),
    case("600 qubits", quantum(num_qubits=600), "tasks[0].parameters.num_qubits", "600", "1 to 512"),
    case("noise beyond all", quantum(noise_level=2), "tasks[0].parameters.noise_level", "2", "0 to 0.5"),
    case("noise a text", quantum(noise_level="1e-3"), "tasks[0].parameters.noise_level", "'1e-3'",
         "a valid number without quotes; in YAML a number with an exponent needs a point, as in 1.0e-3"),
    case("misspelt algorithm", quantum(algorithm="gover"), "tasks[0].parameters.algorithm", "'gover'",
         "did you mean 'grover'?"),
    case("qubits a text", quantum(num_qubits="4"), "tasks[0].parameters.num_qubits", "'4'", "a valid integer"),
    case("qubits true", quantum(num_qubits=True), "tasks[0].parameters.num_qubits", "True", "a valid integer"),
    case("qubits a share", quantum(num_qubits=4.5), "tasks[0].parameters.num_qubits", "4.5", "a valid integer"),
    case("qubits without end", quantum(num_qubits=2**20_000), "tasks[0].parameters.num_qubits",
         "an integer of 20001 bits", "1 to 512"),
    case("maze of one cell", task(parameters={"size_x": 1}), "tasks[0].parameters.size_x", "1", "2 to 512"),
    case("class that isn't there", [{"domain": "image_classification", "parameters": {"target_classes": ["1", "x"]}}],
         "tasks[0].parameters.target_classes", "['1', 'x']", "'x' is none of them"),
    case("neither algorithm nor file", task(domain="quantum", parameters={"shots": 9}), "tasks[0].parameters",
         "{'shots': 9}", "either an algorithm (vqe, grover, qft, ghz, bernstein_vazirani) or a qasm_file"),
    case("cell of three", task(parameters={"start": [0, 0, 0]}), "tasks[0].parameters.start", "(0, 0, 0)",
         "at most 2 values, not 3"),
    case("cell a text", task(parameters={"start": "0,0"}), "tasks[0].parameters.start", "'0,0'", "a valid list"),
    case("picture a word", task(parameters={"visual_patterns": "yes"}), "tasks[0].parameters.visual_patterns", "'yes'",
         "a valid boolean true or false, without quotes"),
    case("class a number", task(domain="image_classification", parameters={"target_classes": [3, "8"]}),
         "tasks[0].parameters.target_classes[0]", "3", "a valid string put it in quotes"),
    case("class alone", task(domain="image_classification", parameters={"target_classes": ["3"]}),
         "tasks[0].parameters.target_classes", "['3']", "at least 2 values, not 1"),
    case("file that isn't there", quantum(algorithm=None, qasm_file="no.qasm"), "tasks[0].parameters.qasm_file",
         "'no.qasm'", "no.qasm: No such file or directory"),
    case("file a folder", quantum(algorithm=None, qasm_file="/"), "tasks[0].parameters.qasm_file", "'/'",
         "a regular file; / is none"),
    case("file a device", quantum(algorithm=None, qasm_file="/dev/zero"), "tasks[0].parameters.qasm_file",
         "'/dev/zero'", "a regular file"),
    case("file a number", quantum(algorithm=None, qasm_file=3), "tasks[0].parameters.qasm_file", "3", "path of a file"),
    case("file with NUL", quantum(algorithm=None, qasm_file="a\0"), "tasks[0].parameters.qasm_file", r"'a\x00'",
         "the path of a file"),
    case("file half a letter", quantum(algorithm=None, qasm_file="\ud800"), "tasks[0].parameters.qasm_file",
         r"'\ud800'", "the path of a file"),
    case("file of nobody", quantum(algorithm=None, qasm_file="~nobody_/a"), "tasks[0].parameters.qasm_file",
         "'~nobody_/a'", "the path of a file"),
    case("file with a line break", quantum(algorithm=None, qasm_file="a\nb"), "tasks[0].parameters.qasm_file",
         r"'a\nb'", r"a\nb: No such file or directory"),
    case("parameters of a block", block(parameters={"size_x": 0}), "generate[0].parameters.size_x", "0", "2 to 512"),
    case("parameters of a block a list", {"generate": [{"domain": "quantum", "count": 2, "parameters": [1]}]},
         "generate[0].parameters", "[1]", MAPPING),
    case("loop in parameters", task(parameters=containing_itself()), "tasks[0].parameters", "{'again': {...}}",
         f"deeper than {DEPTH_LIMIT} levels"),
    case("abyss in parameters", task(parameters={"start": nested(100_000)}), "tasks[0].parameters",
         "a value of type 'dict' whose repr raises RecursionError", f"deeper than {DEPTH_LIMIT} levels"),
    case("unprintable", task(parameters={"size_x": Unprintable()}), "tasks[0].parameters.size_x",
         "a value of type 'Unprintable' whose repr raises RuntimeError", "a valid integer"),
    # ids, names and descriptions
    case("id given twice", [MAZE | {"id": "a"}, MAZE, MAZE | {"id": "a"}], "tasks[2].id", "'a'",
         "an id of its own; tasks[0] has this one"),
    case("id of another position", [MAZE | {"id": "task-1"}, MAZE], "tasks[1].id", "'task-1'",
         "an id of its own; tasks[0] has this one"),
    case("id of a generated task", {"tasks": [MAZE | {"id": "gen-0-1"}], **block()}, "generate[0].id", "'gen-0-1'",
         "an id of its own; tasks[0] has this one"),
    case("id empty", task(id=""), "tasks[0].id", "''", IDS),
    case("id of 10 kB", task(id="x" * 10_000), "tasks[0].id", f"'{'x' * 79}... (10002 characters)", IDS),
    case("id with a line break", task(id="a\nb"), "tasks[0].id", r"'a\nb'", IDS),
    case("id with NUL", task(id="a\0b"), "tasks[0].id", r"'a\x00b'", IDS),
    case("id with colour", task(id="\x1b[31mred"), "tasks[0].id", r"'\x1b[31mred'", IDS),
    case("id half a letter", task(id="a\ud800"), "tasks[0].id", r"'a\ud800'", IDS),
    case("id turned around", task(id="a\u202eb"), "tasks[0].id", r"'a\u202eb'", IDS),
    case("id a number", task(id=3), "tasks[0].id", "3", f"{IDS} put it in quotes"),
    case("id a list", task(id=["a"]), "tasks[0].id", "['a']", IDS),
    case("id without a bottom", task(id=[containing_itself()]), "tasks[0].id", "[{'again': {...}}]", IDS),
    case("description a number", task(description=3), "tasks[0].description", "3", "a text put it in quotes"),
    case("description half a letter", task(description="a\ud800"), "tasks[0].description", r"'a\ud800'", "a text"),
    case("description of a block", block(description=["a"]), "generate[0].description", "['a']", "a text"),
    case("name a number", {"name": 3, "tasks": [MAZE]}, "name", "3", "printable characters put it in quotes"),
    case("name with a line break", {"name": "a\nb", "tasks": [MAZE]}, "name", r"'a\nb'", "printable characters"),
    case("name half a letter", {"name": "\ud800", "tasks": [MAZE]}, "name", r"'\ud800'", "printable characters"),
    case("name without end", {"name": "n" * 1001, "tasks": [MAZE]}, "name", f"'{'n' * 79}... (1003 characters)",
         "at most 1000"),
    # seeds and counts
    *(case(f"seed {given}", task(seed=given), "tasks[0].seed", found, SEEDS)
      for given, found in [(-1, "-1"), (2**63, str(2**63)), (2**64, str(2**64)), ("x", "'x'"), (True, "True"),
                           (1.0, "1.0"), ([1], "[1]")]),
    *(case(f"seed of the batch {given}", {"seed": given, "tasks": [MAZE]}, "seed", found, SEEDS)
      for given, found in [(-1, "-1"), (2**63, str(2**63)), (2**64, str(2**64)), ("x", "'x'"), (True, "True"),
                           ([1], "[1]")]),
    *(case(f"count {given}", block(count=given), "generate[0].count", found, COUNTS)
      for given, found in [(0, "0"), (-1, "-1"), ("x", "'x'"), (True, "True"), (1.5, "1.5"), (None, "nothing"),
                           (10**7 + 1, "10000001")]),
    # resources
    case("CPUs below none", task(resources={"cpus": -1}), "tasks[0].resources.cpus", "-1", "0 to 100000"),
    case("CPUs true", task(resources={"cpus": True}), "tasks[0].resources.cpus", "True", "a valid number"),
    case("CPUs a text", task(resources={"cpus": "2"}), "tasks[0].resources.cpus", "'2'", "without quotes"),
    case("CPUs null", task(resources={"cpus": None}), "tasks[0].resources.cpus", "None", "a valid number"),
    case("CPUs NaN", task(resources={"cpus": float("nan")}), "tasks[0].resources.cpus", "nan", "a finite number"),
    case("CPUs unprintable", task(resources={"cpus": Unprintable()}), "tasks[0].resources.cpus",
         "a value of type 'Unprintable' whose repr raises RuntimeError", "a valid number"),
    case("CPUs less than Ray counts", task(resources={"cpus": 0.00001}), "tasks[0].resources.cpus", "1e-05",
         "0, or at least 0.0001"),
    case("GPUs one and a half", task(resources={"gpus": 1.5}), "tasks[0].resources.gpus", "1.5", "or a whole number"),
    *(case(f"memory {given!r:.20}", task(resources={"memory": given}), "tasks[0].resources.memory", found, expected)
      for given, found, expected in [
          ("2GX", "'2GX'", "bytes, or a text such as 512MiB or 2GiB"),
          ("\u0663GiB", "'\u0663GiB'", "bytes, or a text such as 512MiB or 2GiB"),
          ("9" * 400, f"'{'9' * 79}... (402 characters)", "bytes, or a text such as 512MiB or 2GiB"),
          ("2000000TiB", "2199023255552000000", "less than or equal to 1152921504606846976"),
          (0, "0", "greater than or equal to 1"),
          ("0.4B", "0", "greater than or equal to 1"),
          (-1, "-1", "greater than or equal to 1"),
          (1.5, "1.5", "a valid integer"),
      ]),
    case("resources a list", task(resources=[1]), "tasks[0].resources", "[1]", MAPPING),
    case("custom a list", task(resources={"custom": [1]}), "tasks[0].resources.custom", "[1]", MAPPING),
    case("custom of none", task(resources={"custom": {"disk": 0}}), "tasks[0].resources.custom.disk", "0", "0.0001"),
    case("custom that is Ray's own", task(resources={"custom": {"CPU": 1}}), "tasks[0].resources.custom.CPU", "'CPU'",
         "a printable name that is none of CPU, GPU"),
    case("custom without a name", task(resources={"custom": {"": 1}}), "tasks[0].resources.custom.", "''",
         "a printable name"),
    case("defaults a list", {"defaults": [1], "tasks": [MAZE]}, "defaults", "[1]", MAPPING),
    case("default resources a list", {"defaults": {"resources": [1]}, "tasks": [MAZE]}, "defaults.resources", "[1]",
         MAPPING),
    case("default CPUs below none", {"defaults": {"resources": {"cpus": -1}}, "tasks": [MAZE, MAZE], **block()},
         "defaults.resources.cpus", "-1", "0 to 100000"),
    Case("block that is all wrong", {"generate": [
        {"domain": "x", "count": 0, "resources": {"cpus": -1}, "policy": {"priority": 0.5}}
    ]}, [
        ("generate[0].count", "0", COUNTS),
        ("generate[0].domain", "'x'", NAMES),
        ("generate[0].resources.cpus", "-1", "0 to 100000"),
        ("generate[0].policy.priority", "0.5", "a valid integer"),
    ]),
    # all at once, in order
    Case("everything", {
        "sed": 1,
        "seed": -1,
        "defaults": {"resources": {"cpus": -1}, "x": 1, "policy": {"max_attempts": 0}},
        "tasks": [
            {"domain": "mze", "resources": {"cpus": -3}, "policy": {"timeout_s": -1}},
            MAZE | {"id": "", "seed": -1, "resources": {"cpus": -2, "gpu": 1}, "parameters": {"size_x": 1, "size": 2}},
            4,
            MAZE,
        ],
        "generate": [{"domain": "maze", "count": 0, "parameters": {"moves": 5}, "resources": {"gpus": -1}}],
    }, [
        ("sed", "an unknown key", "did you mean 'seed'?"),
        ("seed", "-1", SEEDS),
        ("defaults.x", "an unknown key", "one of policy, resources"),
        ("defaults.resources.cpus", "-1", "0 to 100000"),
        ("defaults.policy.max_attempts", "0", "1 to 1000"),
        ("tasks[0].domain", "'mze'", "did you mean 'maze'?"),
        ("tasks[0].resources.cpus", "-3", "0 to 100000"),
        ("tasks[0].policy.timeout_s", "-1", TIMEOUTS),
        ("tasks[1].id", "''", IDS),
        ("tasks[1].seed", "-1", SEEDS),
        ("tasks[1].resources.cpus", "-2", "0 to 100000"),
        ("tasks[1].resources.gpu", "an unknown key", SHAPE_KEYS),
        ("tasks[1].parameters.size_x", "1", "2 to 512"),
        ("tasks[1].parameters.size", "an unknown key", MAZE_KEYS),
        ("tasks[2]", "4", TASKS),
        ("generate[0].count", "0", COUNTS),
        ("generate[0].resources.gpus", "-1", "0 to 100000"),
        ("generate[0].parameters.moves", "5", "4 or 8"),
    ]),
]  # fmt: skip


@cases_in_all_forms(CASES)
def test_refused(data: Any, problems: list[tuple[str, str, str]], form: str, tmp_path: Path) -> None:
    """Each problem has its path, the value found and the values expected: the same in Python, YAML and JSON."""
    assert_told(refusal(FORMS[form](tmp_path, data)), problems)


def test_many_problems_are_shown_in_part() -> None:
    """Every problem is kept, the first 20 are shown, and the rest is counted."""
    error = refusal([{"domain": "maze", "seed": -1}] * 50)

    assert len(error.problems) == 50
    assert str(error).splitlines()[0] == "batch: 50 problems"
    assert str(error).splitlines()[-1] == "  ... and 30 more"
    assert_readable(error)


def test_an_unknown_domain_is_one_problem() -> None:
    """However many tasks name an unknown domain, it is one problem, with their number, and how to make it known."""
    tasks = [{"domain": "coin"}] * 1000 + [{"domain": "maze", "seed": -1}] + [{"domain": "coin", "policy": {}}] * 1000

    unknown, other = refusal(tasks).problems

    assert (unknown.where, unknown.found) == ("tasks[0].domain", "'coin', in 2,000 tasks")
    assert "--import" in unknown.hint
    assert other.where == "tasks[1000].seed"


def test_an_error_travels() -> None:
    """The error can be sent from one process to another."""
    error = refusal([{"domain": "mze"}, 4])

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - we wrote it

    assert (str(copy), copy.problems, copy.source) == (str(error), error.problems, error.source)


WORDS = st.sampled_from([
    "tasks", "generate", "defaults", "seed", "name", "id", "domain", "description", "parameters", "resources", "count",
    "policy", "max_attempts", "backoff", "first_s", "retry_on", "timeout", "timeout_s", "priority", "preemptible",
    "cpus", "gpus", "memory", "custom", "maze", "quantum", "image_classification", "size_x", "start", "goal", "moves",
    "algorithm", "num_qubits", "noise_level", "qasm_file", "map_file", "target_classes", "data_source", "imagefolder:.",
    "torchvision:x:y", "2GiB", "", "\n", "\ud800", "~a", "\0",
])  # fmt: skip
LEAVES = WORDS | st.integers(-2, 3) | st.floats() | st.booleans() | st.none() | st.binary(max_size=2)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(0, 1), inner, max_size=4)
)


@st.composite
def broken_batches(draw: st.DrawFn) -> Any:
    """Batches that look like one, and of which anything may be wrong."""
    domain = st.sampled_from(["maze", "quantum", "image_classification"])
    parameters = st.dictionaries(WORDS, TREES, max_size=4)
    fields = {
        "domain": domain | TREES,
        "parameters": parameters | TREES,
        "count": st.integers(-1, 3) | TREES,
        "resources": st.dictionaries(WORDS, TREES, max_size=3),
        "policy": st.dictionaries(WORDS, TREES, max_size=3),
        "seed": TREES,
        "id": TREES,
    }
    blocks = {"domain": domain, "count": st.integers(1, 3)}
    more = {key: fields[key] for key in ("parameters", "resources", "policy")}
    return {
        "tasks": draw(st.lists(st.fixed_dictionaries({}, optional=fields) | TREES, max_size=3)),
        "generate": draw(st.lists(st.fixed_dictionaries(blocks, optional=more) | TREES, max_size=2)),
        **draw(st.dictionaries(WORDS, TREES, max_size=2)),
    }


@given(broken_batches() | TREES.filter(lambda tree: not isinstance(tree, str)))
@settings(max_examples=amount(400), deadline=None)
def test_anything_is_accepted_or_told(data: Any) -> None:
    """Whatever is given, it becomes a batch whose tasks can be run, or problems that can be read; nothing else."""
    batch: Batch | InvalidInput
    try:
        batch = accept(data)
    except InvalidInput as error:
        batch = error

    if isinstance(batch, InvalidInput):
        assert batch.problems
        assert_readable(batch)
    else:
        assert len({one.id for one in batch.tasks}) == len(batch.tasks) > 0
        for one in batch.tasks:
            assert 0 <= one.seed < 2**63
            assert decode(one.parameters).keys()
            assert f"{batch.name}{one.id}{one.kind}{one.description}".encode()
