"""How a run is run: one value, checked once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dfz_ray import ConcurrentTaskManager, DFZExecutor, InvalidInput, run, submit
from dfz_ray.cli import group
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import WORKERS_LIMIT, Settings

EXPECTED = f"expected a whole number from 1 to {WORKERS_LIMIT}, or auto"


def test_an_argument_wins_over_the_configuration() -> None:
    """The number of workers and the address come from the configuration unless they are given."""
    config = {"max_workers": 3, "address": "local", "chunking": {"lease_s": 5}}
    from_file = RunConfig.of(config)
    assert (from_file.max_workers, from_file.address, from_file.settings.chunking.lease_s) == (3, "local", 5)
    given = RunConfig.of(config, max_workers=np.int64(4), address="auto", run_dir="runs/mine", use_threads=True)
    assert (given.max_workers, given.address, given.run_dir, given.use_threads) == (4, "auto", Path("runs/mine"), True)
    assert type(given.max_workers) is int
    assert RunConfig.of(config, max_workers="auto").max_workers == "auto"
    assert RunConfig.of() == RunConfig.of(Settings()) == RunConfig()


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"run_dir": ""}, "run_dir: found ''; expected the path of a folder"),
        ({"run_dir": "a\0b"}, "run_dir: found 'a"),
        ({"run_dir": "\ud800"}, "run_dir: found '"),
        ({"run_dir": b"x"}, "run_dir: found b'x'"),
        ({"run_dir": 5}, "run_dir: found 5"),
        ({"address": 123}, "address: found 123; expected a text: host:port, auto or local"),
    ],
)
def test_a_folder_or_an_address_that_can_not_be_one_is_refused(argument: dict[str, Any], told: str) -> None:
    """What is no path or no address is told before anything starts; "" would make the working folder a run."""
    for make in (RunConfig.of, lambda **given: run([], **given), lambda **given: DFZExecutor(1, **given)):
        with pytest.raises(InvalidInput) as caught:
            make(**argument)
        assert told in str(caught.value)


def test_it_does_not_change() -> None:
    """A configuration that was checked stays as it is."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().max_workers = 3  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [-1, 0, WORKERS_LIMIT + 1, True, 1.5, "many", [1]])
def test_every_interface_refuses_the_same_numbers_of_workers(wrong: Any) -> None:
    """A file, the library, the executor and the drop-in have one limit and one message."""
    makers = [
        lambda: RunConfig.of({"max_workers": wrong}),
        lambda: run([], max_workers=wrong),
        lambda: submit([], max_workers=wrong),
        lambda: ConcurrentTaskManager(max_workers=wrong),
    ]
    if not isinstance(wrong, int) or wrong > 0:  # else the executor raises the error of concurrent.futures
        makers.append(lambda: DFZExecutor(wrong))
    for make in makers:
        with pytest.raises(InvalidInput) as caught:
            make()
        assert EXPECTED in str(caught.value)


@pytest.mark.parametrize("wrong", ["-1", "0", str(WORKERS_LIMIT + 1), "1.5", "many", ""])
def test_the_command_line_refuses_them_as_well(wrong: str) -> None:
    """`--max-workers` has the same limit and the same message."""
    result = CliRunner().invoke(group, ["run", "batch.yaml", "--max-workers", wrong])
    assert isinstance(result.exception, InvalidInput)
    assert EXPECTED in str(result.exception)
