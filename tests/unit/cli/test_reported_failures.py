"""The line in which `dfz run` tells of tasks that did not complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.small_run import cancelled, completed, failed, make_run

from dfz_ray.cli import EXIT_SOME_FAILED
from dfz_ray.cli.run import report_failures
from dfz_ray.journal.reader import JournalReader
from dfz_ray.results import read_results


def read_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all statements that are read from now on."""
    read: list[str] = []
    query = JournalReader.query

    def watch(self: JournalReader, statement: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        read.append(statement)
        return query(self, statement, values)

    monkeypatch.setattr(JournalReader, "query", watch)
    return read


def test_all_that_did_not_complete_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the reasons, the first failure and where the others are; no result is read for it."""
    ended = cancelled(0), failed(2, "exception", "no luck\nat all"), failed(3, "timeout", "late"), completed(1, "heads")
    make_run(tmp_path, ["a", "b", "c", "d"], *ended).close()
    results = read_results(tmp_path)
    read = read_statements(monkeypatch)

    code = report_failures(results)

    told = capsys.readouterr().err
    assert code == EXIT_SOME_FAILED
    assert "3 tasks did not complete: 1 exception, 1 timeout, 1 cancelled; first c: no luck" in told
    assert f"(all of them: dfz failures {tmp_path})" in told
    assert not {"read_chunks_of", "read_chunk_results", "read_results", "read_completion"} & set(read)


def test_where_all_tasks_complete_nothing_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million results cost nothing then, and nothing is told."""
    make_run(tmp_path, ["a", "b"], completed(0, "heads"), completed(1, "tails")).close()
    results = read_results(tmp_path)
    read = read_statements(monkeypatch)

    assert (report_failures(results), capsys.readouterr().err, read) == (0, "", [])
