"""Files that the parameters of a batch name: where they are looked for, and how they are kept."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.batch_inputs import MAP, MAZE, accept, block, refusal, task, write_json, write_yaml

from dfz_ray.specs import input_file
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.input_file import FileShelf, InputFile


def test_files_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are stored once by their hash; paths are relative to the batch file, else to the working directory."""
    folder = tmp_path / "batches"
    (folder / "maps").mkdir(parents=True)
    (folder / "maps/a.map").write_text(MAP)
    (folder / "maps/b.map").write_text(MAP)
    ends = {"start": [0, 0], "goal": [2, 0]}
    tasks = [MAZE | {"parameters": {"map_file": f"maps/{name}.map"} | ends} for name in "aab"]
    absolute = MAZE | {"parameters": {"map_file": str(folder / "maps/a.map")} | ends}
    as_path = MAZE | {"parameters": {"map_file": Path("maps/a.map")} | ends}
    sha256 = hashlib.sha256(MAP.encode()).hexdigest()

    from_file = accept(write_json(folder, [*tasks, absolute]))
    monkeypatch.chdir(folder)
    from_python = accept([*tasks, absolute])
    of_paths = accept([as_path])

    assert from_file.files == from_python.files == {sha256: MAP.encode()}
    assert from_file.tasks == from_python.tasks
    assert of_paths.tasks == from_python.tasks[:1]
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


def test_a_file_that_is_a_view_of_shared_memory() -> None:
    """Domains keep what they make of a file by the file, and may send it to another process: also a large one."""
    view = memoryview(np.frombuffer(b"content", np.uint8))
    of_view, of_bytes = InputFile("a", "0" * 64, view), InputFile("a", "0" * 64, b"content")

    assert (hash(of_view), of_view) == (hash(of_bytes), of_bytes)
    assert copy.deepcopy(of_view).buffer == b"content"
    assert (of_view.content, of_view.text) == (b"content", "content")
    assert of_view.buffer is view


def test_only_a_large_file_stays_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are taken as bytes, once, since what domains keep of them outlives the memory that a run shares."""
    monkeypatch.setattr(input_file, "TEXT_LIMIT_BYTES", 10)
    small, large = (memoryview(np.zeros(size, np.uint8)) for size in (10, 11))
    shelf = FileShelf(contents={"small": small, "large": large})

    assert type(shelf.take("small")) is bytes
    assert shelf.take("small") is shelf.take("small")
    assert shelf.take("large") is large
    with pytest.raises(ValueError, match="expected a text of at most 10 bytes; a has 11"):
        _ = InputFile("a", "0" * 64, large).text
