"""The large inputs in a run folder: writing them, and what the audit says of them."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from support.sample_run import both_say_ok, build, create, told

from dfz_ray.driver.input_store import SharedArrays, store_large
from dfz_ray.errors import JournalDamaged, RunFolderRefused
from dfz_ray.execution.shared import get_shared, sharing
from dfz_ray.journal.inputs import LARGE_BYTES, RunInputs, find_calls, refuse_other_shared, store_call, store_input
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.run_audit import audit_run
from dfz_ray.journal.writer import Group
from dfz_ray.specs.input_file import FileShelf

ARRAY = np.arange(6.0).reshape(2, 3)


def add_array(folder: Path) -> str:
    """Make a run that shares an array; returns the SHA-256 of its file."""
    writer = create(folder)
    notes = SharedArrays({"x": ARRAY}).store(folder, durable=False)
    group = Group()
    group.meta.extend(notes.items())
    writer.commit(group)
    writer.close()
    return notes["shared/x"]


def put(text: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(text)


def test_an_input_is_named_by_its_hash(tmp_path: Path) -> None:
    """It is written once, for its owner alone, and nothing is left of the writing."""
    (tmp_path / "inputs").mkdir()
    sha256, size = store_input(tmp_path, put(b"content"), durable=True)
    path = tmp_path / "inputs" / sha256
    before = path.stat()

    again = store_input(tmp_path, put(b"content"), durable=True)

    assert (sha256, size) == again == (hashlib.sha256(b"content").hexdigest(), 7)
    assert path.read_bytes() == b"content"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert before.st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "inputs") == [sha256]


def test_an_input_that_was_cut_is_written_again(tmp_path: Path) -> None:
    """A file of another length, as a crash may leave, is replaced."""
    sha256, _ = store_input(tmp_path, put(b"content"), durable=False)
    (tmp_path / "inputs" / sha256).write_bytes(b"con")

    store_input(tmp_path, put(b"content"), durable=False)

    assert (tmp_path / "inputs" / sha256).read_bytes() == b"content"


def test_an_input_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    """A program that brings the right content again mends a file of the same length that has changed."""
    sha256, _ = store_input(tmp_path, put(b"content"), durable=False)
    (tmp_path / "inputs" / sha256).write_bytes(b"contend")

    store_input(tmp_path, put(b"content"), durable=False)

    assert (tmp_path / "inputs" / sha256).read_bytes() == b"content"


def test_a_writer_that_is_killed_leaves_nothing_for_good(tmp_path: Path) -> None:
    """What it had not finished is removed when the run is opened; the arguments of calls are found."""
    store_call(tmp_path, 3, memoryview(b"arguments"))
    (tmp_path / "inputs" / f"{'0' * 32}.part").write_bytes(b"half")
    (tmp_path / "inputs" / "call-4.part").write_bytes(b"half")

    assert find_calls(tmp_path / "inputs") == {3}
    assert os.listdir(tmp_path / "inputs") == ["call-3"]
    assert find_calls(tmp_path / "nowhere") == set()


def test_arguments_that_can_not_be_written(tmp_path: Path) -> None:
    """A disk that is full leaves no half of a file, and the error names the folder."""
    store_call(tmp_path, 3, memoryview(b"arguments"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RunFolderRefused, match="inputs can't hold the arguments of a call: File too large"):
            store_call(tmp_path, 4, memoryview(bytes(2000)))
        with pytest.raises(RunFolderRefused, match="inputs can't hold an input: File too large"):
            store_input(tmp_path, put(bytes(2000)), durable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert os.listdir(tmp_path / "inputs") == ["call-3"]


def test_a_size_that_is_no_number(tmp_path: Path) -> None:
    """A journal that was tampered with is told as damaged."""
    with pytest.raises(JournalDamaged, match="notes no size of an input"):
        RunInputs(tmp_path, {f"input/{'a' * 64}": "abc"}, {})


def test_an_input_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """An array that a program changes meanwhile is refused, instead of being sent in a torn state."""
    texts = iter([b"before", b"after"])

    with pytest.raises(RunFolderRefused, match="changed while it was read"):
        store_input(tmp_path, lambda file: file.write(next(texts)), durable=False)

    assert os.listdir(tmp_path / "inputs") == []


@pytest.mark.parametrize("of_folder", [True, False])
def test_a_link_is_never_followed(tmp_path: Path, of_folder: bool) -> None:
    """A link in place of the folder or of an input does not lead a write elsewhere."""
    run, victim = tmp_path / "run", tmp_path / "victim"
    run.mkdir()
    victim.mkdir()
    sha256 = hashlib.sha256(b"content").hexdigest()
    (victim / sha256).write_bytes(b"mine")
    if of_folder:
        (run / "inputs").symlink_to(victim)
        with pytest.raises(RunFolderRefused, match="a symbolic link"):
            store_input(run, put(b"content"), durable=False)
    else:
        (run / "inputs").mkdir()
        (run / "inputs" / sha256).symlink_to(victim / sha256)
        store_input(run, put(b"content"), durable=False)
        assert (run / "inputs" / sha256).read_bytes() == b"content"

    assert (victim / sha256).read_bytes() == b"mine"


def test_a_folder_that_can_not_hold_it(tmp_path: Path) -> None:
    """One line says which folder, and why."""
    (tmp_path / "inputs").write_text("in the way")

    with pytest.raises(RunFolderRefused, match=r"inputs.*(File exists|folder)"):
        store_input(tmp_path, put(b"content"), durable=False)
    with pytest.raises(RunFolderRefused, match=r"inputs.*(File exists|folder)"):
        store_call(tmp_path, 3, memoryview(b"content"))


def test_only_large_files_are_inputs(tmp_path: Path) -> None:
    """A batch's small files are in the journal, the large ones beside it."""
    large = bytes(LARGE_BYTES + 1)

    small, notes = store_large(tmp_path, {"a" * 64: b"small", hashlib.sha256(large).hexdigest(): large}, durable=False)

    assert small == {"a" * 64: b"small"}
    assert notes == {f"input/{hashlib.sha256(large).hexdigest()}": str(len(large))}


def test_another_array_of_the_same_name() -> None:
    """A run that goes on keeps its arrays: another one under the same name is refused, a new name is not."""
    with pytest.raises(RunFolderRefused, match="the run shares another array as 'x'"):
        refuse_other_shared({"shared/x": "a"}, {"shared/x": "b"})

    refuse_other_shared({"shared/x": "a"}, {"shared/x": "a", "shared/y": "b"})


def test_arrays_that_are_refused_are_not_written(tmp_path: Path) -> None:
    """A run that shares another array of the name keeps no file of what was refused, nor of the arrays beside it."""
    sha256 = add_array(tmp_path)

    with pytest.raises(RunFolderRefused, match="the run shares another array as 'x'"):
        SharedArrays({"y": ARRAY * 2, "x": ARRAY + 1}).store(tmp_path, durable=False)

    assert os.listdir(tmp_path / "inputs") == [sha256]


def test_the_audit_knows_inputs(tmp_path: Path) -> None:
    """A run with a shared array is sound, and the audit says how many inputs it has looked at."""
    sha256 = add_array(tmp_path)
    store_call(tmp_path, 3, memoryview(b"arguments"))

    (inputs,) = (check for check in audit_run(tmp_path).checks if check.name == "inputs")

    assert both_say_ok(tmp_path)
    assert inputs.looked_at == {"large inputs": 1}
    assert inputs.notices == ()
    (tmp_path / "inputs" / "stray").touch()
    (inputs,) = (check for check in audit_run(tmp_path).checks if check.name == "inputs")
    assert both_say_ok(tmp_path)
    assert "1 files in" in inputs.notices[0]
    assert sha256 not in inputs.notices[0]


@pytest.mark.parametrize("damage", ["remove", "flip", "empty"])
def test_the_audit_finds_a_damaged_input(tmp_path: Path, damage: str) -> None:
    """An input that is gone, or is another one, is a violation, and no task is given it."""
    path = tmp_path / "inputs" / add_array(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else b"")

    assert not both_say_ok(tmp_path)
    assert set(told(audit_run(tmp_path))) == {"inputs"}
    with JournalReader(tmp_path) as journal:
        inputs = RunInputs(tmp_path, journal.meta, journal.files())
    with sharing(FileShelf(contents=inputs)), pytest.raises(RunFolderRefused, match=r"has changed|can't be read"):
        get_shared("x")


def test_a_run_without_inputs_has_no_folder_for_them(tmp_path: Path) -> None:
    """What most runs do not have leaves no trace."""
    build(tmp_path)

    assert not (tmp_path / "inputs").exists()


def test_a_run_at_rest_gives_its_arrays(tmp_path: Path) -> None:
    """`dfz replay` finds them in the run folder; a name that is not shared is told with those that are."""
    add_array(tmp_path)
    with JournalReader(tmp_path) as journal:
        inputs = RunInputs(tmp_path, journal.meta, journal.files())

    with sharing(FileShelf(contents=inputs)):
        assert get_shared("x").tolist() == ARRAY.tolist()
        assert get_shared("x") is get_shared("x")
        with pytest.raises(Exception, match=r"get_shared\('y'\): the run shares no such array; it shares: 'x'"):
            get_shared("y")
    with pytest.raises(Exception, match=r"get_shared\('x'\): arrays are shared with the tasks of a run"):
        get_shared("x")


@pytest.mark.parametrize("name", ["../../etc/passwd", "call-1", "A" * 64, "", "a" * 63])
def test_a_name_never_leads_elsewhere(tmp_path: Path, name: str) -> None:
    """A journal that notes a path as an input opens no file for it."""
    writer = create(tmp_path)
    group = Group()
    group.meta.append((f"input/{name}", "7"))
    writer.commit(group)
    writer.close()
    (tmp_path / "inputs").mkdir()

    with JournalReader(tmp_path) as journal:
        inputs: Any = RunInputs(tmp_path, journal.meta, journal.files())

    assert name not in inputs
    assert set(told(audit_run(tmp_path))) == {"inputs"}
