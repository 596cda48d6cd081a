"""The digest of a run: two runs with the same results have the same digest."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgpack
from support.journal_rows import completion
from support.small_run import failed, make_run

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.writer import Group

VOLATILE = frozenset({"seconds"})


def digest_by_the_book(values: dict[str, Any], volatile: frozenset[str]) -> str:
    """The digest of a run as schema.sql describes it, written anew from there."""
    whole = b""
    for name, value in sorted((task_id.encode("utf-8"), value) for task_id, value in values.items()):
        kept = {key: value[key] for key in sorted(value) if key not in volatile}
        whole += len(name).to_bytes(8, "little") + name + hashlib.sha256(msgpack.packb(kept)).digest()
    return hashlib.sha256(whole).hexdigest()


def test_the_digest_is_the_one_that_the_schema_describes(tmp_path: Path) -> None:
    """The digest is made from ids and results as schema.sql says, so that anyone can compute it."""
    values = {
        task_id: {"score": number / 7, "seconds": number, "name": "ü" * number, "bits": [0, 1, None, True]}
        for number, task_id in enumerate(["b", "a", "aa", "Ü", "ü", "€", "😀", "", "task-10", "task-9"])
    }
    writer = make_run(tmp_path, [*values, "failed", "open"], failed(len(values), "exception", "no"))
    results = list(enumerate(values.values()))
    for chunk, rows in enumerate((results[5:], results[:5])):
        writer.commit(Group(completions=[completion(chunk, dict(rows), volatile=VOLATILE)]))

    with JournalReader(tmp_path) as journal:
        assert journal.digest() == digest_by_the_book(values, VOLATILE)


def test_the_digest_does_not_depend_on_order_or_on_times(tmp_path: Path) -> None:
    """Two runs of the same tasks with the same results have one digest, whatever the order and the volatile keys."""
    digests = []
    for run, numbers in enumerate([(0, 1, 2), (2, 0, 1)]):
        folder = tmp_path / str(run)
        writer = make_run(folder, [f"task-{number}" for number in numbers])
        for position, number in enumerate(numbers):
            result = {"b": number, "a": 1.5, "seconds": run}
            writer.commit(Group(completions=[completion(position, {position: result}, volatile=VOLATILE)]))
        with JournalReader(folder) as journal:
            digests.append(journal.digest())

    assert digests[0] == digests[1]
    assert re.fullmatch("[0-9a-f]{64}", digests[0])
