"""Batches are checked before anything runs: what is refused, in which words, and what an accepted one means."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dfz_ray.domains.domain import Domain, Parameters
from dfz_ray.domains.registry import REGISTRY, Registry
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.checking import read_batch
from dfz_ray.specs.encoding import DEPTH_LIMIT, decode
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.task import derive_seed

NAMES = "one of image_classification, maze, quantum, sorting"
BATCH_KEYS = "one of defaults, generate, name, seed, tasks"
TASK_KEYS = "one of description, domain, id, parameters, policy, resources, seed"
SHAPE_KEYS = "one of cpus, custom, gpus, memory"
POLICY_KEYS = f"one of {', '.join(sorted(Policy.model_fields))}"
BACKOFF_KEYS = "one of factor, first_s, jitter, most_s"
MAZE_KEYS = "one of algorithm, complexity, goal, map_file, moves, size_x, size_y, start, visual_patterns"
REASONS = "exception, timeout, out_of_memory, worker_crashed, node_lost, unserializable"
TIMEOUTS = "a number greater than 0, up to 2592000, or null"
PRIORITIES = "-1000000 to 1000000"
UNQUOTED = "without quotes; in YAML a number with an exponent needs a point"
SEEDS = "a whole number from 0 to 9223372036854775807"
COUNTS = "a whole number from 1 to 10000000"
IDS = "a text of 1 to 1000 printable characters"
TASKS = "a mapping with `domain` and `parameters`"
MAPPING = "a mapping of names to values"
BATCHES = "a mapping with `tasks` or `generate`, or a list of tasks"
MAP = "type octile\nheight 1\nwidth 3\nmap\n...\n"
MAZE = {"domain": "maze"}


class Anything(Parameters):
    x: Any = None


class Unprintable:
    """What a user's object may do to those who look at it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class Case(NamedTuple):
    """An input and all that is wrong with it: the path, what is found there, and a part of what is expected."""

    name: str
    data: Any
    problems: list[tuple[str, str, str]]


def case(name: str, data: Any, where: str, found: str, expected: str) -> Case:
    """An input of which one thing is wrong."""
    return Case(name, data, [(where, found, expected)])


def task(**fields: Any) -> list[Any]:
    """A batch of one task: a maze, unless it says otherwise."""
    return [MAZE | fields]


def quantum(**parameters: Any) -> list[Any]:
    """A batch of one quantum circuit."""
    return [{"domain": "quantum", "parameters": {"algorithm": "ghz"} | parameters}]


def policy(**fields: Any) -> list[Any]:
    """A batch of one task that is to be treated so."""
    return task(policy=fields)


def block(**fields: Any) -> dict[str, Any]:
    """A batch of one block of generated mazes."""
    return {"generate": [{"domain": "maze", "count": 3} | fields]}


def nested(levels: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def containing_itself() -> dict[str, Any]:
    """A mapping without a bottom."""
    value: dict[str, Any] = {}
    value["again"] = value
    return value


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
    case("0 qubits", quantum(num_qubits=0), "tasks[0].parameters.num_qubits", "0", "1 to 32"),
    case("60 qubits", quantum(num_qubits=60), "tasks[0].parameters.num_qubits", "60", "1 to 32"),
    case("noise beyond all", quantum(noise_level=2), "tasks[0].parameters.noise_level", "2", "0 to 0.5"),
    case("noise a text", quantum(noise_level="1e-3"), "tasks[0].parameters.noise_level", "'1e-3'",
         "a valid number without quotes; in YAML a number with an exponent needs a point, as in 1.0e-3"),
    case("misspelt algorithm", quantum(algorithm="gover"), "tasks[0].parameters.algorithm", "'gover'",
         "did you mean 'grover'?"),
    case("qubits a text", quantum(num_qubits="4"), "tasks[0].parameters.num_qubits", "'4'", "a valid integer"),
    case("qubits true", quantum(num_qubits=True), "tasks[0].parameters.num_qubits", "True", "a valid integer"),
    case("qubits a share", quantum(num_qubits=4.5), "tasks[0].parameters.num_qubits", "4.5", "a valid integer"),
    case("qubits without end", quantum(num_qubits=2**20_000), "tasks[0].parameters.num_qubits",
         "an integer of 20001 bits", "1 to 32"),
    case("maze of one cell", task(parameters={"size_x": 1}), "tasks[0].parameters.size_x", "1", "2 to 512"),
    case("class that isn't there", [{"domain": "image_classification", "parameters": {"target_classes": ["1", "x"]}}],
         "tasks[0].parameters.target_classes", "['1', 'x']", "'x' is none of them"),
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
    # policies
    *(case(f"timeout {given!r:.20}", policy(timeout_s=given), "tasks[0].policy.timeout_s", found, expected)
      for given, found, expected in [
          (0, "0", TIMEOUTS),
          (0.0, "0.0", TIMEOUTS),
          (-1, "-1", TIMEOUTS),
          (-0.5, "-0.5", TIMEOUTS),
          (30 * 86_400 + 1, "2592001", TIMEOUTS),
          (10**400, "an integer of 1329 bits", TIMEOUTS),
          (float("nan"), "nan", "a finite number"),
          ("60", "'60'", f"a valid number {UNQUOTED}"),
          ("1e999", "'1e999'", f"a valid number {UNQUOTED}"),
          ("never", "'never'", "a valid number"),
          (True, "True", "a valid number"),
          ([60], "[60]", "a valid number"),
      ]),
    *(case(f"attempts {given!r:.20}", policy(max_attempts=given), "tasks[0].policy.max_attempts", found, expected)
      for given, found, expected in [
          (-1, "-1", "1 to 1000"),
          (0, "0", "1 to 1000"),
          (1001, "1001", "1 to 1000"),
          (1.5, "1.5", "a valid integer"),
          (3.0, "3.0", "a valid integer"),
          (True, "True", "a valid integer"),
          ("3", "'3'", "a valid integer without quotes"),
      ]),
    *(case(f"priority {given!r:.20}", policy(priority=given), "tasks[0].policy.priority", found, expected)
      for given, found, expected in [
          ("high", "'high'", "a valid integer"),
          ("5", "'5'", "a valid integer without quotes"),
          ("1e999", "'1e999'", "a valid integer"),
          (1.5, "1.5", "a valid integer"),
          (False, "False", "a valid integer"),
          (10**6 + 1, "1000001", PRIORITIES),
          (-(10**6) - 1, "-1000001", PRIORITIES),
          (10**400, "an integer of 1329 bits", PRIORITIES),
          (float("nan"), "nan", "a valid integer"),
      ]),
    *(case(f"preemptible {given!r}", policy(preemptible=given), "tasks[0].policy.preemptible", found, "a valid boolean")
      for given, found in [("yes", "'yes'"), (1, "1"), (0.0, "0.0")]),
    case("reason misspelt", policy(retry_on=["timeout", "timout"]), "tasks[0].policy.retry_on[1]", "'timout'",
         "'node_lost' or 'unserializable' did you mean 'timeout'?"),
    case("reason that lasts", policy(retry_on=["invalid"]), "tasks[0].policy.retry_on[0]", "'invalid'", "'exception'"),
    case("reason a number", policy(retry_on=[1]), "tasks[0].policy.retry_on[0]", "1", "'exception'"),
    case("reason null", policy(retry_on=[None]), "tasks[0].policy.retry_on[0]", "None", "'exception'"),
    case("reason a list", policy(retry_on=[["timeout"]]), "tasks[0].policy.retry_on[0]", "['timeout']", "'exception'"),
    case("reason half a letter", policy(retry_on=["\ud800"]), "tasks[0].policy.retry_on[0]", r"'\ud800'",
         "a text that UTF-8 can hold"),
    case("reasons a word", policy(retry_on="timeout"), "tasks[0].policy.retry_on", "'timeout'",
         f"a list, such as [timeout], of any of {REASONS}"),
    case("reasons a mapping", policy(retry_on={"timeout": 3}), "tasks[0].policy.retry_on", "{'timeout': 3}", REASONS),
    case("reasons true", policy(retry_on=True), "tasks[0].policy.retry_on", "True", REASONS),
    case("backoff a number", policy(backoff=3), "tasks[0].policy.backoff", "3", MAPPING),
    case("backoff a list", policy(backoff=[0.1]), "tasks[0].policy.backoff", "[0.1]", MAPPING),
    case("backoff a text", policy(backoff="exponential"), "tasks[0].policy.backoff", "'exponential'", MAPPING),
    case("key of a backoff", policy(backoff={"first": 1}), "tasks[0].policy.backoff.first", "an unknown key",
         f"{BACKOFF_KEYS} did you mean 'first_s'?"),
    case("key of a backoff a number", policy(backoff={1: 2}), "tasks[0].policy.backoff", "the key 1",
         "keys that are texts"),
    case("key of a backoff half a letter", policy(backoff={"\ud800": 1}), "tasks[0].policy.backoff", r"'\ud800'",
         "a text that UTF-8 can hold"),
    *(case(f"backoff {name} {given}", policy(backoff={name: given}), f"tasks[0].policy.backoff.{name}", found, expected)
      for name, given, found, expected in [
          ("first_s", -1, "-1", "0 to 86400"),
          ("factor", 0.5, "0.5", "1 to 100"),
          ("factor", float("nan"), "nan", "a finite number"),
          ("most_s", 86_401, "86401", "0 to 86400"),
          ("jitter", 1.5, "1.5", "0 to 1"),
          ("jitter", True, "True", "a valid number"),
          ("jitter", "0.5", "'0.5'", f"a valid number {UNQUOTED}"),
      ]),
    case("policy a list", task(policy=[1]), "tasks[0].policy", "[1]", MAPPING),
    case("policy a number", task(policy=5), "tasks[0].policy", "5", MAPPING),
    case("policy a text", task(policy="retry"), "tasks[0].policy", "'retry'", MAPPING),
    case("policy false", task(policy=False), "tasks[0].policy", "False", MAPPING),
    case("policy without a bottom", task(policy=containing_itself()), "tasks[0].policy", "{'again': {...}}",
         f"deeper than {DEPTH_LIMIT} levels"),
    case("policy unprintable", policy(priority=Unprintable()), "tasks[0].policy.priority",
         "a value of type 'Unprintable' whose repr raises RuntimeError", "a valid integer"),
    case("key of a policy", policy(timeout=60), "tasks[0].policy.timeout", "an unknown key",
         f"{POLICY_KEYS} did you mean 'timeout_s'?"),
    case("key of a policy null", policy(attempts=None), "tasks[0].policy.attempts", "an unknown key",
         f"{POLICY_KEYS} did you mean 'max_attempts'?"),
    case("key of a policy a number", task(policy={3: 1}), "tasks[0].policy", "the key 3",
         "keys that are texts put it in quotes"),
    case("key of a policy half a letter", task(policy={"\ud800": 1}), "tasks[0].policy", r"the key '\ud800'",
         "keys that are texts"),
    case("key of a policy with colour", policy(**{"\x1b[31mred": 1}), r"tasks[0].policy.\x1b[31mred",
         "an unknown key", POLICY_KEYS),
    case("policy of an unknown domain", [{"domain": "maz", "policy": {}}], "tasks[0].domain", "'maz'", NAMES),
    case("policy of a block", block(policy={"timeout_s": 0}), "generate[0].policy.timeout_s", "0", TIMEOUTS),
    case("policy of a block a list", block(policy=[1]), "generate[0].policy", "[1]", MAPPING),
    case("default policy a list", {"defaults": {"policy": [1]}, "tasks": [MAZE, MAZE]}, "defaults.policy", "[1]",
         MAPPING),
    case("default timeout 0", {"defaults": {"policy": {"timeout_s": 0}}, "tasks": [MAZE | {"policy": {"priority": 1}},
         MAZE], **block(policy={"backoff": {"jitter": 0}})}, "defaults.policy.timeout_s", "0", TIMEOUTS),
    case("default backoff a number", {"defaults": {"policy": {"backoff": 3}}, "tasks": [MAZE, MAZE], **block()},
         "defaults.policy.backoff", "3", MAPPING),
    Case("policy that is all wrong", policy(
        max_attempts=0, retry_on=["oom"], timeout_s="60", priority="high", preemptible=2, backof={}, backoff={"x": 1}
    ), [
        ("tasks[0].policy.max_attempts", "0", "1 to 1000"),
        ("tasks[0].policy.backoff.x", "an unknown key", BACKOFF_KEYS),
        ("tasks[0].policy.retry_on[0]", "'oom'", "'out_of_memory'"),
        ("tasks[0].policy.timeout_s", "'60'", "a valid number"),
        ("tasks[0].policy.priority", "'high'", "a valid integer"),
        ("tasks[0].policy.preemptible", "2", "a valid boolean"),
        ("tasks[0].policy.backof", "an unknown key", "did you mean 'backoff'?"),
    ]),
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


class PlainDumper(yaml.SafeDumper):
    """Writes YAML as people do: without anchors and tags."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


PlainDumper.add_representer(bytes, yaml.SafeDumper.represent_undefined)


def as_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=PlainDumper)


def as_json(data: Any) -> str:
    return json.dumps(data, allow_nan=False)


def write_yaml(folder: Path, data: Any) -> Path:
    """The data as a YAML file."""
    path = folder / "batch.yaml"
    path.write_text(as_yaml(data))
    return path


def write_json(folder: Path, data: Any) -> Path:
    """The data as a JSON file."""
    path = folder / "batch.json"
    path.write_text(as_json(data))
    return path


FORMS: dict[str, Callable[[Path, Any], Any]] = {
    "python": lambda folder, data: data,
    "list": lambda folder, data: data["tasks"] if isinstance(data, dict) else {"tasks": data},
    "yaml": write_yaml,
    "json": write_json,
}


def can_be_written(write: Callable[[Any], str], data: Any) -> bool:
    """Whether a format can hold the data: not every Python value has a form in it."""
    try:
        return bool(yaml.load(write(data), Loader=yaml.CSafeLoader) == data)  # JSON is YAML
    except (TypeError, ValueError, RecursionError, yaml.YAMLError):
        return False


def forms_of(data: Any) -> Iterator[str]:
    """The forms in which the same batch can be given."""
    yield "python"
    if isinstance(data, list) or (
        isinstance(data, dict) and data.keys() == {"tasks"} and isinstance(data["tasks"], list)
    ):
        yield "list"
    if can_be_written(as_yaml, data):
        yield "yaml"
    if can_be_written(as_json, data):
        yield "json"


def refusal(source: Any, **options: Any) -> InvalidInput:
    """What is said against a batch."""
    with pytest.raises(InvalidInput) as caught:
        read_batch(source, Registry(), **options)
    return caught.value


def accept(source: Any, domains: Registry | None = None, **options: Any) -> Batch:
    """The batch that is made of an input."""
    return read_batch(source, domains or Registry(), **options)


def assert_readable(error: InvalidInput) -> None:
    """Whatever was given, each problem is one printable line of bearable length."""
    lines = str(error).split("\n")
    told = min(len(error.problems), InvalidInput.SHOWN)
    more = len(error.problems) > InvalidInput.SHOWN
    assert len(lines) == (1 if len(error.problems) == 1 else 1 + told + more)
    assert all(line.isprintable() and len(line) < 2_000 for line in lines)


def assert_told(error: InvalidInput, problems: list[tuple[str, str, str]]) -> None:
    """Exactly these problems are told, in this order, each in one readable line."""
    assert [problem.where for problem in error.problems] == [where for where, _, _ in problems]
    for problem, (_, found, expected) in zip(error.problems, problems, strict=True):
        assert problem.found == found
        assert expected in f"{problem.expected} {problem.hint}"
    assert_readable(error)


@pytest.mark.parametrize(
    ("data", "problems", "form"),
    [
        pytest.param(one.data, one.problems, form, id=f"{one.name}-{form}")
        for one in CASES
        for form in forms_of(one.data)
    ],
)
def test_refused(data: Any, problems: list[tuple[str, str, str]], form: str, tmp_path: Path) -> None:
    """What is wrong is told with its path, what was found and what was expected: the same in Python, YAML and JSON."""
    assert_told(refusal(FORMS[form](tmp_path, data)), problems)


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
    """What in a file can't be meant, or could surprise, is refused with the name of the file and the line."""
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


def test_many_problems_are_shown_in_part() -> None:
    """Every problem is kept, the first 20 are shown, and the rest is counted."""
    error = refusal([{"domain": "mze"}] * 50)

    assert len(error.problems) == 50
    assert str(error).splitlines()[0] == "batch: 50 problems"
    assert str(error).splitlines()[-1] == "  ... and 30 more"
    assert_readable(error)


def test_an_error_travels() -> None:
    """What is wrong with a batch can be sent from one process to another."""
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
@settings(max_examples=400, deadline=None)
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


# What an accepted batch means


def test_what_is_missing_has_a_default() -> None:
    """A task needs nothing but its domain: id, seed, parameters and resources have defaults."""
    batch = accept(
        [MAZE, {"domain": "maze", "id": None, "seed": None, "parameters": None, "resources": None, "policy": None}]
    )

    first, second = batch.tasks
    assert (batch.name, batch.seed, batch.files) == ("batch", 0, {})
    assert (first.id, first.seed, first.description) == ("task-0", derive_seed(0, "task-0"), "")
    assert first.resources == Resources()
    assert first.policy == Policy()
    assert second == first._replace(id="task-1", seed=derive_seed(0, "task-1"))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_same(form: str, tmp_path: Path) -> None:
    """A dict, a list, a YAML file and a JSON file with the same content are the same batch."""
    tasks = [MAZE | {"id": "a", "parameters": {"size_x": 5}}, MAZE]

    batch = accept(FORMS[form](tmp_path, {"tasks": tasks}))

    assert batch.tasks == accept({"tasks": tasks}).tasks


def test_tasks_may_be_any_iterable() -> None:
    """In Python the tasks may come from a tuple or a generator."""
    assert accept(MAZE for _ in range(3)).tasks == accept((MAZE,) * 3).tasks == accept({"tasks": (MAZE,) * 3}).tasks


def test_seeds_do_not_depend_on_position() -> None:
    """A task's seed comes from the batch's seed and its id, so that tasks may be added, removed and reordered."""
    tasks = [MAZE | {"id": name} for name in "abcdef"]
    shuffled = random.Random(1).sample(tasks, 4)  # noqa: S311 - an order, not a secret

    seeds = {one.id: one.seed for one in accept({"seed": 7, "tasks": tasks}).tasks}

    assert {one.id: one.seed for one in accept({"seed": 7, "tasks": shuffled}).tasks}.items() <= seeds.items()
    assert len(set(seeds.values())) == len(tasks)
    assert not set(seeds.values()) & {one.seed for one in accept({"seed": 8, "tasks": tasks}).tasks}


@pytest.mark.parametrize("seed", [0, 5, 2**63 - 1, np.int64(5), np.uint64(2**63 - 1)])
def test_a_given_seed_wins(seed: Any) -> None:
    """A seed that a task is given is its seed, whatever the batch's is."""
    for batch_seed in (0, np.int32(9)):
        (one,) = accept({"seed": batch_seed, "tasks": [MAZE | {"seed": seed}]}).tasks

        assert one.seed == int(seed)
        assert type(one.seed) is int


SOURCES = {"task": 16.0, "defaults": 8.0, "domain": 4.0, "configuration": 2.0, "nothing": 1.0}


@pytest.mark.parametrize(
    "said", [chosen for size in range(5) for chosen in itertools.combinations(list(SOURCES)[:4], size)]
)
def test_what_wins(said: tuple[str, ...]) -> None:
    """For each resource the task wins over `defaults`, those over the domain, and the configuration comes last."""
    given = {name: {"cpus": SOURCES[name]} if name in said else {"gpus": 1} for name in SOURCES}
    domains = Registry()
    shape = Resources.model_validate(given["domain"])
    domains.add(Domain("own", Anything, lambda *_: {}, lambda _: "own", resources=shape))

    batch = accept(
        {
            "defaults": {"resources": given["defaults"]},
            "tasks": [{"domain": "own", "resources": given["task"]}],
            "generate": [{"domain": "own", "count": 1, "resources": given["task"]}],
        },
        domains,
        default_resources=Resources.model_validate(given["configuration"]),
    )

    strongest = next((name for name in SOURCES if name in said), "nothing")
    for one in batch.tasks:
        assert one.resources.cpus == SOURCES[strongest]
        assert one.resources.gpus == (0 if len(said) == 4 else 1)


def test_which_policy_wins() -> None:
    """For each key of a policy and of its backoff the task wins over `defaults`, those over the configuration."""
    configured = Policy(max_attempts=9, priority=9, preemptible=False, backoff=Backoff(first_s=9, factor=9, most_s=9))
    own = {"max_attempts": 1, "backoff": {"first_s": 1}}
    batch = accept(
        {
            "defaults": {"policy": {"max_attempts": 2, "priority": 2, "backoff": {"first_s": 2, "factor": 2}}},
            "tasks": [MAZE, MAZE | {"policy": own}],
            "generate": [MAZE | {"count": 1, "policy": own}],
        },
        default_policy=configured,
    )

    shared = Policy(max_attempts=2, priority=2, preemptible=False, backoff=Backoff(first_s=2, factor=2, most_s=9))
    backoff = shared.backoff.model_copy(update={"first_s": 1.0})
    stronger = shared.model_copy(update={"max_attempts": 1, "backoff": backoff})
    assert [one.policy for one in batch.tasks] == [shared, stronger, stronger]


def test_a_null_in_a_policy() -> None:
    """A null says nothing, so that the next source is asked; that of a timeout says that there is none."""
    nothing = {"priority": None, "backoff": None, "max_attempts": None, "retry_on": None, "preemptible": None}
    shared = {"priority": 5, "timeout_s": 60, "backoff": {"first_s": 3}, "retry_on": []}

    batch = accept(
        {
            "defaults": {"policy": shared},
            "tasks": [MAZE | {"policy": own} for own in (nothing, {"backoff": {"first_s": None}}, {"timeout_s": None})],
        }
    )

    expected = Policy(priority=5, timeout_s=60, backoff=Backoff(first_s=3), retry_on=())
    *same, endless = (one.policy for one in batch.tasks)
    assert same == [expected, expected]
    assert endless == expected.model_copy(update={"timeout_s": None})


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"retry_on": ["node_lost", "out_of_memory", "worker_crashed", "node_lost"], "priority": None},
        {"max_attempts": 3, "timeout_s": None, "backoff": {"factor": 2, "most_s": 60.0}},
        {"priority": np.int64(0), "preemptible": np.bool_(True), "backoff": {"jitter": np.float32(0.5)}},
    ],
)
def test_equal_policies_are_one(said: dict[str, Any]) -> None:
    """Tasks that are treated alike share one policy, in whichever words it is given."""
    batch = accept({"tasks": [MAZE, MAZE | {"policy": said}, MAZE | {"policy": said}], **block(policy=said)})

    assert len({id(one.policy) for one in batch.tasks}) == 1


def test_the_policies_of_many_tasks() -> None:
    """Tasks of a few policies share a few objects, however they are mixed."""
    mixed = [MAZE | {"policy": {"priority": number % 3, "retry_on": ["timeout"]}} for number in range(30)]

    batch = accept(mixed)

    assert [one.policy.priority for one in batch.tasks] == [0, 1, 2] * 10
    assert len({id(one.policy) for one in batch.tasks}) == 3


def test_numpy_in_a_policy() -> None:
    """NumPy's scalars and arrays are as good in a policy as Python's own, and become them."""
    given = {
        "priority": np.int64(5),
        "timeout_s": np.float32(1.5),
        "max_attempts": np.uint8(7),
        "preemptible": np.bool_(False),
        "retry_on": np.array(["timeout", "exception"]),
        "backoff": {"first_s": np.int32(2)},
    }

    tasks = accept({"tasks": policy(**given), **block(count=1, policy=given)}).tasks

    for one in tasks:
        assert one.policy == Policy(
            priority=5,
            timeout_s=1.5,
            max_attempts=7,
            preemptible=False,
            retry_on=("exception", "timeout"),
            backoff=Backoff(first_s=2),
        )
        assert [type(value) for _, value in one.policy] == [int, Backoff, tuple, float, int, bool]


@pytest.mark.parametrize(
    "given", [{"timeout_s": float("inf")}, {"backoff": {"most_s": float("-inf")}}, {"backoff": {"factor": np.inf}}]
)
def test_nothing_in_a_policy_is_infinite(given: dict[str, Any]) -> None:
    """An infinity from Python is refused as one from a file is: null says that there is no timeout."""
    (problem,) = refusal(policy(**given)).problems

    assert (problem.found.strip("-"), problem.expected) == ("inf", "a finite number")


def test_numpy_truths_are_no_numbers() -> None:
    """A truth value is no number, also where it is NumPy's."""
    problems = refusal(policy(priority=np.bool_(True), timeout_s=np.bool_(True))).problems

    assert [problem.where.rpartition(".")[2] for problem in problems] == ["timeout_s", "priority"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/", "..", "a/../b", "<script>alert(1)</script>", "%s{0}$HOME`id`", "';--", "🦖", "x" * 1000],
)
def test_an_id_is_only_a_name(name: str, form: str, tmp_path: Path) -> None:
    """Any printable text is an id, also one that looks like a path, a script or a command."""
    batch = accept(FORMS[form](tmp_path, {"tasks": [MAZE | {"id": name, "description": f"{name}\n"}]}))

    (one,) = batch.tasks
    assert (one.id, one.description) == (name, f"{name}\n")


@pytest.mark.parametrize(
    ("given", "size"),
    [(1, 1), ("1", 1), ("512MiB", 512 * 2**20), (" 1.5 gib ", 3 * 2**29), ("2GB", 2 * 10**9), ("1TiB", 2**40),
     ("9007199254740993", 9007199254740993), ("0.1 KB", 100), (None, None), (2**60, 2**60)],
)  # fmt: skip
def test_sizes(given: Any, size: int | None) -> None:
    """Memory is given in bytes, or as a text with a unit of either kind, and is exact."""
    (one,) = accept(task(resources={"memory": given})).tasks

    assert one.resources.memory == size


def test_shapes_of_equal_tasks_are_equal() -> None:
    """Tasks that ask for the same in other words have the same shape."""
    shapes = [
        {"cpus": 1, "custom": {"a": 1, "b": 2}},
        {"cpus": 1.0, "custom": {"b": 2.0, "a": 1}},
        {"cpus": np.float64(1), "gpus": 0, "memory": None, "custom": {"b": 2, "a": np.int64(1)}},
    ]

    batch = accept([MAZE | {"resources": shape} for shape in shapes])

    assert len({one.resources.key() for one in batch.tasks}) == 1


def test_generated_tasks_are_drawn_from_the_seed() -> None:
    """A larger count only adds tasks; another seed draws others; what is given is fixed."""

    def drawn(count: int, seed: int) -> tuple[Any, ...]:
        blocks = [{"domain": name, "count": count} for name in ("maze", "quantum", "image_classification")]
        blocks.append({"domain": "maze", "count": count, "parameters": {"size_x": 7}, "description": "small"})
        return accept({"seed": seed, "generate": blocks}).tasks

    few, many, others = drawn(5, 1), drawn(12, 1), drawn(5, 2)

    assert [one for one in many if int(one.id.rpartition("-")[2]) < 5] == list(few)
    assert [one.id for one in few[:2]] == ["gen-0-0", "gen-0-1"]
    assert {one.parameters for one in few} != {one.parameters for one in others}
    assert {decode(one.parameters)["size_x"] for one in many if one.description == "small"} == {7}
    assert len({one.seed for one in many + others}) == len(many + others)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"size_x": np.int64(5)}, {"size_x": 5}),
        ({"complexity": np.float32(0.5)}, {"complexity": 0.5}),
        ({"visual_patterns": np.bool_(True)}, {"visual_patterns": True}),
        ({"start": np.array([1, 2])}, {"start": [1, 2]}),
        ({"start": (np.int8(1), 2)}, {"start": [1, 2]}),
        ({"algorithm": np.str_("bfs")}, {"algorithm": "bfs"}),
    ],
)
def test_numpy_is_accepted(given: dict[str, Any], stored: dict[str, Any]) -> None:
    """NumPy's scalars and arrays are as good as parameters as Python's own, also in a block and as its count."""
    batch = accept(
        {
            "tasks": task(parameters=given),
            "generate": [{"domain": "maze", "count": np.int64(1), "parameters": given}],
        }
    )

    for one in batch.tasks:
        assert decode(one.parameters).items() >= stored.items()


def test_parameters_travel_with_their_defaults() -> None:
    """A task's parameters are complete: another version's defaults change nothing about a batch."""
    (one,) = accept(quantum(num_qubits=3)).tasks

    assert decode(one.parameters)["shots"] == 1024
    assert one.kind.startswith("ghz")


def test_plain_data_of_any_kind_is_a_parameter() -> None:
    """NaN, infinities, huge integers, bytes and tuples as keys reach the task that is given them."""
    domains = Registry()
    domains.add(Domain("own", Anything, lambda *_: {}, lambda _: "own"))
    value = {"inf": float("inf"), "huge": 10**100, "bytes": b"\0", (1, 2): "pair", "half": "\ud800"}

    (one,) = accept([{"domain": "own", "parameters": {"x": value}}], domains).tasks

    assert decode(one.parameters) == {"x": value}


def test_what_cant_travel_is_refused() -> None:
    """A parameter that can't be stored is refused where it stands, before anything runs."""
    domains = Registry()
    domains.add(Domain("own", Anything, lambda *_: {}, lambda _: "own"))

    with pytest.raises(InvalidInput) as caught:
        accept([{"domain": "own", "parameters": {"x": [Anything]}}, {"domain": "own"}], domains)

    assert [problem.where for problem in caught.value.problems] == ["tasks[0].parameters.x"]
    assert "a value of type 'ModelMetaclass' can't be stored" in str(caught.value)


def refuse_key(parameters: Any) -> str:
    raise KeyError("no\nsuch")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (lambda _: "a\n\ud800", r"a\n\ud800"),
        (lambda _: "k" * 10_000, "k" * 200 + "..." + "k" * 200),
        (lambda _: 3, "3"),
        (refuse_key, None),
    ],
)
def test_kinds_are_clean(kind: Callable[[Any], Any], expected: str | None) -> None:
    """A kind is a printable text, whatever a domain's function makes of the parameters, or the task is refused."""
    domains = Registry()
    domains.add(Domain("own", Anything, lambda *_: {}, kind))
    source = [{"domain": "own"}]

    if expected is None:
        with pytest.raises(InvalidInput, match=r"tasks\[0\]\.parameters: .* raises KeyError\('no\\nsuch'\)"):
            accept(source, domains)
    else:
        assert accept(source, domains).tasks[0].kind == expected


# Files


def test_files_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are stored once by their hash; paths are relative to the batch file, else to the working directory."""
    folder = tmp_path / "batches"
    (folder / "maps").mkdir(parents=True)
    (folder / "maps/a.map").write_text(MAP)
    (folder / "maps/b.map").write_text(MAP)
    ends = {"start": [0, 0], "goal": [2, 0]}
    tasks = [MAZE | {"parameters": {"map_file": f"maps/{name}.map"} | ends} for name in "aab"]
    absolute = MAZE | {"parameters": {"map_file": str(folder / "maps/a.map")} | ends}
    sha256 = hashlib.sha256(MAP.encode()).hexdigest()

    from_file = accept(write_json(folder, [*tasks, absolute]))
    monkeypatch.chdir(folder)
    from_python = accept([*tasks, absolute])

    assert from_file.files == from_python.files == {sha256: MAP.encode()}
    assert from_file.tasks == from_python.tasks
    files = [decode(one.parameters)["map_file"] for one in from_file.tasks]
    assert files == [{"name": f"{name}.map", "sha256": sha256} for name in "aaba"]


def test_a_file_is_looked_for_beside_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in a batch file is not looked for in the working directory."""
    (tmp_path / "a.map").write_text(MAP)
    (tmp_path / "batches").mkdir()
    monkeypatch.chdir(tmp_path)

    error = refusal(write_yaml(tmp_path / "batches", task(parameters={"map_file": "a.map", "start": [0, 0]})))

    assert error.problems[0].where == "tasks[0].parameters.map_file"
    assert f"{tmp_path}/batches/a.map: No such file" in error.problems[0].expected


def test_generated_tasks_on_a_file(tmp_path: Path) -> None:
    """Tasks are generated for a map that lies beside the batch file: their ends are drawn on it."""
    (tmp_path / "a.map").write_text(MAP)

    batch = accept(write_yaml(tmp_path, block(count=5, parameters={"map_file": "a.map"})))

    drawn = [decode(one.parameters) for one in batch.tasks]
    assert len(batch.files) == 1
    assert all(one["start"][0] in range(3) and one["goal"][1] == 0 for one in drawn)
    assert batch.tasks[0].kind.startswith("map a.map")


@pytest.mark.parametrize(("name", "shown"), [("demo.yaml", "demo"), ("a b.json", "a b"), ("a\nb.json", r"a\nb")])
def test_a_batch_is_named_after_its_file(name: str, shown: str, tmp_path: Path) -> None:
    """A batch without a name has that of its file, in printable letters."""
    path = tmp_path / name
    path.write_text(json.dumps([MAZE]))

    assert accept(path).name == shown
    assert accept({"name": "", "tasks": [MAZE]}).name == "batch"


def test_a_file_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Names of files that are no UTF-8 become printable where a batch or a kind is named after them."""
    path = os.fsencode(tmp_path) + b"/\xff"
    for suffix, content in ((b".map", MAP), (b".json", json.dumps(task(parameters={
        "map_file": os.fsdecode(path + b".map"), "start": [0, 0], "goal": [2, 0]
    })))):  # fmt: skip
        Path(os.fsdecode(path + suffix)).write_text(content)

    batch = accept(os.fsdecode(path + b".json"))

    assert batch.name == r"\udcff"
    assert batch.tasks[0].kind.startswith(r"map \udcff.map")


def test_a_mapping_that_is_no_dict() -> None:
    """Any mapping will do for a batch and its parts."""

    class Frozen(Mapping[str, Any]):
        def __init__(self, **values: Any) -> None:
            self._values = values

        def __getitem__(self, key: str) -> Any:
            return self._values[key]

        def __iter__(self) -> Iterator[str]:
            return iter(self._values)

        def __len__(self) -> int:
            return len(self._values)

    batch = accept(Frozen(tasks=[Frozen(domain="maze", parameters=Frozen(size_x=5), resources=Frozen(cpus=2))]))

    assert batch.tasks == accept(task(parameters={"size_x": 5}, resources={"cpus": 2})).tasks


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"domain": st.sampled_from(["maze", "quantum", "nothing"])},
            optional={
                "id": st.one_of(st.none(), st.sampled_from(["a", "b", "", "x\n", 7])),
                "seed": st.one_of(st.none(), st.sampled_from([0, 5, -1, True, 2**63, "1"])),
                "description": st.sampled_from(["", "a text", None, 3, "\ud800"]),
                "parameters": st.one_of(
                    st.none(),
                    st.sampled_from([0, "", [], {}]),
                    st.fixed_dictionaries({}, optional={"size_x": st.integers(0, 30), "num_qubits": st.just(3)}),
                ),
                "resources": st.sampled_from([None, {}, {"cpus": 2}]),
            },
        ),
        max_size=4,
    )
)
def test_the_quick_way_checks_as_the_other_one(tasks: list[Any]) -> None:
    """Simple tasks are checked in a quick way, with the very tasks and problems of the way that all can go."""

    def read(quick: bool) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr("dfz_ray.specs.checking.SIMPLE_KEYS", frozenset())
            try:
                return read_batch(tasks, REGISTRY)
            except InvalidInput as error:
                return str(error)

    assert read(quick=True) == read(quick=False)
