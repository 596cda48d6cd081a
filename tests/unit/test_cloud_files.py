"""The `ray up` files in cluster/cloud."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cloud import check_cluster_file
from support.misspellings import misspell_each_field

FILES = sorted((Path(__file__).parents[2] / "cluster/cloud").glob("*.yaml"))
NAMES_OF_ONE_S_OWN = {"file_mounts"}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def start_commands(path: Path) -> list[str]:
    """The commands that start Ray, of the head and of a worker."""
    config = read(path)
    return [config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]


@each_file
def test_ray_accepts_the_file_and_each_misspelt_field_is_refused(path: Path) -> None:
    """Ray's own validation accepts the file; with any one of its fields misspelt it is refused."""
    from jsonschema import ValidationError

    check_cluster_file(read(path))

    for name, misspelt in misspell_each_field(read(path), NAMES_OF_ONE_S_OWN):
        if name == "available_node_types.worker":  # a name of one's own
            continue
        with pytest.raises((ValueError, KeyError, AssertionError, NotImplementedError, ValidationError)):
            print(name, check_cluster_file(misspelt))


@each_file
def test_workers_are_spot_instances_and_the_head_is_not(path: Path) -> None:
    """Workers are spot instances; the head, which holds the run, is none, and no task runs there."""
    nodes = read(path)["available_node_types"]
    texts = {name: yaml.safe_dump(node["node_config"]).lower() for name, node in nodes.items()}
    assert {name: "spot" in text for name, text in texts.items()} == {"head": False, "worker": True}
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert nodes["worker"]["resources"]["CPU"] > 0


@each_file
def test_the_cluster_asks_for_a_token_and_its_dashboard_is_not_open(path: Path) -> None:
    """Every node starts with token authentication and fixed ports; the dashboard listens on loopback alone."""
    from ray.scripts.scripts import start

    options = {name for parameter in start.params for name in parameter.opts}
    config = read(path)
    for command in start_commands(path):
        assert command.startswith("RAY_AUTH_MODE=token ")
        words = [word.split("=")[0] for word in shlex.split(command) if word.startswith("--")]
        assert set(words) <= options
        assert {"--node-manager-port", "--object-manager-port", "--min-worker-port", "--max-worker-port"} <= set(words)
    assert "--dashboard-host=127.0.0.1" in start_commands(path)[0]
    assert [name for name in config["file_mounts"] if name.endswith("auth_token")] == ["~/.ray/auth_token"]
    assert not re.search(r"auth_token: *['\"]?[0-9a-f]{16}", path.read_text())
