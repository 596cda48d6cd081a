"""The versions of a run's domains, as notes in the table meta; schema.sql explains them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dfz_ray.errors import RunFolderRefused
from dfz_ray.journal.commit_sums import Row
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader
from dfz_ray.protocol.submission import ShippedDomain

FIRST = 1
"""The version of a domain without a note."""


class _Note(NamedTuple):
    epoch: int
    domain: str
    version: int
    volatile: frozenset[str]


def make_note(epoch: int, domain: str, version: int, volatile: str) -> Row:
    """The row of `meta` that says under which version of a domain tasks are executed; `volatile` is a JSON list."""
    return f"version/{epoch}/{domain}", json.dumps({"version": version, "volatile": json.loads(volatile)})


def find_versions(meta: Mapping[str, str]) -> dict[str, int]:
    """By domain the latest version under which tasks were executed; a domain that is left out has the FIRST one."""
    return {note.domain: note.version for note in _read_notes(meta)}


def find_volatile(meta: Mapping[str, str], domains: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """By domain the keys that digests leave out, of all its versions; `domains` are rows of the table."""
    volatile = {name: frozenset(json.loads(keys)) for name, keys in domains}
    for note in _read_notes(meta):
        volatile[note.domain] = volatile.get(note.domain, frozenset()) | note.volatile
    return volatile


def find_latest_volatile(meta: Mapping[str, str], domains: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By domain the keys (a JSON list) that the digests of its latest version leave out."""
    return {**dict(domains), **{note.domain: json.dumps(sorted(note.volatile)) for note in _read_notes(meta)}}


def refuse_other_volatile(
    domains: Iterable[ShippedDomain], volatile: Mapping[str, str], versions: Mapping[str, int]
) -> None:
    """Refuse to go on if a domain of the same version now leaves other keys of its results out of their digests.

    `volatile` and `versions` are those of the run, by domain.

    Raises:
        RunFolderRefused: naming the keys.
    """
    for domain in domains:
        before = volatile.get(domain.name, domain.volatile)
        if before != domain.volatile and domain.version == versions.get(domain.name, FIRST):
            raise RunFolderRefused(
                f"domain {domain.name!r} calls {domain.volatile} volatile, and called {before} so when the run was "
                "begun: results could not be compared; undo that, or begin a new run"
            )


def refuse_other_versions(folder: Path, find_version: Callable[[str], int | None]) -> None:
    """Refuse to go on with a run whose tasks were executed under another version of a domain.

    `find_version` returns the version of a domain here; None if it is not known.

    Raises:
        RunFolderRefused: naming both versions.
    """
    if not RunFolder(folder).holds_run():
        return
    with JournalReader(folder) as journal:
        begun = find_versions(journal.meta)
        names = journal.domains()
    differing = [
        f"{name!r} is version {here} here, and was version {before} then"
        for name in names
        if (here := find_version(name)) is not None and here != (before := begun.get(name, FIRST))
    ]
    if differing:
        raise RunFolderRefused(
            f"the run in {folder} was begun under another version of a domain, whose results differ: "
            f"{'; '.join(differing)}. Begin a new run, or run the tasks that are left under the version that is here: "
            f"dfz resume {folder} --accept-domain-versions"
        )


def _read_notes(meta: Mapping[str, str]) -> Iterator[_Note]:
    """All notes, in the order of epochs."""
    notes = []
    for key, value in meta.items():
        word, _, rest = key.partition("/")
        if word == "version":
            epoch, _, domain = rest.partition("/")
            content = json.loads(value)
            notes.append(_Note(int(epoch), domain, content["version"], frozenset(content["volatile"])))
    return iter(sorted(notes, key=lambda note: note.epoch))
