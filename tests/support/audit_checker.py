"""A second opinion on a run folder: `python tests/support/audit_checker.py RUN` prints JSON, and exits with 0, 1 or 4.

It is written from the comments of dfz_ray/journal/schema.sql alone, and shares no code with dfz_ray: it reads all
tables of a run that no process works on into memory, and looks at them there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgpack

KEYS = {
    "meta": ["key"],
    "epochs": ["epoch"],
    "batches": ["batch"],
    "domains": ["domain"],
    "kinds": ["kind"],
    "files": ["sha256"],
    "blocks": ["first"],
    "leases": ["epoch", "lease"],
    "chunks": ["chunk"],
    "completions": ["chunk"],
    "attempts": ["task", "chunk"],
    "cancels": ["cancel"],
    "pool_changes": ["change"],
    "outcomes": ["task"],
    "reopened": ["task", "outcome_commit"],
}
"""The tables in the order in which a sum takes them, and their primary keys."""
OUTCOME = ("task", "state", "chunk", "reason", "message", "traceback", "commit")
COMPLETED, FAILED, CANCELLED = 2, 3, 4
STATES = {"pending", "running", "completed", "failed", "cancelled"}
ERROR, LOST, SUPERSEDED = 1, 2, 3

Rows = list[dict[str, Any]]


def check(folder: Path) -> list[str]:
    """The violations of a run; a sound one has none."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return [*check_file(folder), *check_journal(folder, Path(scratch))]
    except Exception as error:  # damage shows in any way
        return [f"it can't be read: {type(error).__name__}: {error}"]


def check_file(folder: Path) -> list[str]:
    """The seal."""
    database, seal = folder / "run.sqlite", folder / "seal"
    if not seal.exists():
        return []
    if seal.read_bytes().decode().strip() != hashlib.sha256(database.read_bytes()).hexdigest():
        return ["the seal is broken"]
    if any((folder / f"run.sqlite{end}").exists() for end in ("-wal", "-journal")):
        return ["there is a log beside a sealed journal"]
    return []


def check_journal(folder: Path, scratch: Path) -> list[str]:
    """Check everything else, in a copy, so that SQLite may roll back a commit that a crash cut off."""
    status = read_status(folder)
    told = status.get("commits")
    has_log = any((folder / f"run.sqlite{end}").exists() for end in ("-wal", "-journal"))
    for file in folder.glob("run.sqlite*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, scratch)
    with contextlib.closing(sqlite3.connect(scratch / "run.sqlite")) as connection:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        size = pages * connection.execute("PRAGMA page_size").fetchone()[0]
        if not has_log and size != (folder / "run.sqlite").stat().st_size:
            found.append("the file has another size")
        connection.row_factory = sqlite3.Row
        tables = {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]  # noqa: S608 - the names above
            for name in (*KEYS, "commits")
        }
        definition = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'outcomes'").fetchone()[0]
        listed = re.search(r"^ *state .*-- (.*)", definition, re.MULTILINE)
        states = {int(number) for number in re.findall(r"(\d+) \w+", listed[1] if listed else "")}
    if isinstance(told, int) and told > len(tables["commits"]):
        found.append(f"{told} commits were told of")
    if {row["key"]: row["value"] for row in tables["meta"]}.get("schema_version") != "4":
        found.append("it is of another schema")
    return [
        *found,
        *check_commits(tables),
        *check_blocks(tables),
        *check_references(tables),
        *check_completions(tables),
        *check_outcomes(tables, states),
        *check_attempts(tables),
        *check_results(tables, folder / "results"),
        *check_inputs(tables, folder / "inputs"),
        *check_status(tables, status, is_sealed=(folder / "seal").exists()),
        *check_notes(tables),
    ]


def read_status(folder: Path) -> dict[str, Any]:
    """The status file; empty if it is none."""
    try:
        status = json.loads((folder / "status.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def check_status(tables: dict[str, Rows], status: dict[str, Any], is_sealed: bool) -> list[str]:
    """The counts of the status file are the journal's, or lag behind them."""
    counts = status.get("counts")
    if not isinstance(counts, dict) or counts.keys() != STATES or {type(count) for count in counts.values()} != {int}:
        return []
    ended = Counter(row["state"] for row in tables["outcomes"])
    known = {"completed": ended[COMPLETED], "failed": ended[FAILED], "cancelled": ended[CANCELLED]}
    if is_sealed and status.get("working") is False and status.get("commits") == len(tables["commits"]):
        known["pending"] = sum(row["tasks"] for row in tables["blocks"]) - sum(known.values())
        counts = {**counts, "pending": counts["pending"] + counts["running"]}
        return [f"the status counts {name} wrongly" for name, count in known.items() if counts[name] != count]
    known["failed"] += len(tables["reopened"])
    return [f"the status has too many {name} tasks" for name, count in known.items() if counts[name] > count]


def check_notes(tables: dict[str, Rows]) -> list[str]:
    """No batch has more tasks than were meant, and each note on an opening is of an epoch."""
    found = [
        f"batch {batch} has too many tasks" for batch, (sent, meant) in count_meant(tables).items() if sent > meant
    ]
    epochs = {f"opening/{row['epoch']}" for row in tables["epochs"]}
    openings = {row["key"] for row in tables["meta"] if row["key"].startswith("opening/")}
    return found + [f"{key} is a note on an epoch that is not there" for key in sorted(openings - epochs)]


def count_meant(tables: dict[str, Rows]) -> dict[int, tuple[int, int]]:
    """For each batch with a note: how many tasks it has, and how many it was last meant to have."""
    notes = [(*row["key"].split("/"), row["value"]) for row in tables["meta"] if row["key"].startswith("meant/")]
    meant = {}
    for _, batch, _, text in sorted(notes, key=lambda note: int(note[2])):
        meant[int(batch)] = json.loads(text)["tasks"]
    sent = Counter[int]()
    for row in tables["blocks"]:
        sent[row["batch"]] += row["tasks"]
    return {batch: (sent[batch], tasks) for batch, tasks in meant.items()}


def find_incomplete(folder: Path) -> list[tuple[int, int]]:
    """For each batch that lacks tasks: how many were sent, and how many were meant. No process works on the run."""
    with contextlib.closing(sqlite3.connect(f"{(folder / 'run.sqlite').absolute().as_uri()}?mode=ro", uri=True)) as run:
        run.row_factory = sqlite3.Row
        tables = {name: [dict(row) for row in run.execute(f"SELECT * FROM {name}")] for name in ("meta", "blocks")}  # noqa: S608
    return [(sent, meant) for sent, meant in count_meant(tables).values() if sent < meant]


def check_commits(tables: dict[str, Rows]) -> list[str]:
    """Every commit has the rows that it added, as they were."""
    written: dict[tuple[int, str], list[tuple[tuple[Any, ...], list[Any]]]] = {}
    for name, key in KEYS.items():
        rows = [list(row.items()) for row in tables[name]]
        if name == "outcomes":
            rows = [items for items in rows if dict(items)["state"] != COMPLETED]
            moved = [{**row, "chunk": None, "commit": row["outcome_commit"]} for row in tables["reopened"]]
            rows += [[(column, row[column]) for column in OUTCOME] for row in moved]
        for items in rows:
            row = dict(items)
            place = tuple(row[column] for column in key)
            written.setdefault((row["commit"], name), []).append((place, [value for _, value in items]))
    found = []
    before = b""
    for number, commit in enumerate(sorted(tables["commits"], key=lambda row: row["commit"])):
        whole = hashlib.sha256(before)
        whole.update(msgpack.packb([commit[column] for column in ("commit", "epoch", "committed_at", "rows")]))
        count = 0
        for name in KEYS:
            rows_of_commit = sorted(written.pop((commit["commit"], name), []), key=lambda item: item[0])
            if rows_of_commit:
                packed = b"".join(msgpack.packb(row) for _, row in rows_of_commit)
                whole.update(name.encode() + hashlib.sha256(packed).digest())
                count += len(rows_of_commit)
        if (commit["commit"], commit["rows"], commit["sha256"]) != (number, count, whole.digest()):
            found.append(f"commit {commit['commit']} is not what was written")
        before = commit["sha256"]
    if written or not tables["commits"]:
        found.append("a commit is missing")
    return found


def unpack_tasks(tables: dict[str, Rows]) -> Rows:
    """Every task, in the order of submission."""
    columns = "ids", "kinds", "works", "descriptions"
    return [
        dict(zip(columns, values, strict=True))
        for row in sorted(tables["blocks"], key=lambda row: row["first"])
        for values in zip(*(msgpack.unpackb(row[column]) for column in columns), strict=True)
    ]


def unpack_completions(tables: dict[str, Rows]) -> Rows:
    """Every task of every completion."""
    found = []
    for row in tables["completions"]:
        tasks, results = msgpack.unpackb(row["tasks"]), msgpack.unpackb(row["results"])
        digests, times = row["digests"], row["times"]
        if not len(tasks) == len(results) == len(digests) / 32 == len(times) / 24:
            raise ValueError(f"the columns of chunk {row['chunk']} are not of one length")
        for at, (task, result) in enumerate(zip(tasks, results, strict=True)):
            own = digests[32 * at : 32 * (at + 1)]
            place = {"chunk": row["chunk"], "commit": row["commit"]}
            found.append({"task": task, "result": result, "digest": own, **place})
    return found


def check_blocks(tables: dict[str, Rows]) -> list[str]:
    """Blocks follow each other, and each has all columns of its tasks."""
    found = []
    after = 0
    for row in sorted(tables["blocks"], key=lambda row: row["first"]):
        lengths = {len(msgpack.unpackb(row[column])) for column in ("ids", "kinds", "works", "descriptions")}
        if row["first"] != after or lengths != {row["tasks"]}:
            found.append(f"tasks are missing at {after}")
        after += row["tasks"]
    tasks = unpack_tasks(tables)
    if len({task["ids"] for task in tasks}) != len(tasks):
        found.append("two tasks have one id")
    kinds = {row["kind"] for row in tables["kinds"]}
    for task in tasks:
        seed, parameters = task["works"]
        types = [type(value) for value in (task["ids"], task["kinds"], seed, parameters, task["descriptions"])]
        if types != [str, int, int, bytes, str] or task["kinds"] not in kinds:
            found.append(f"task {task['ids']} is of a kind that is not there, or has something of another type")
    return found


def check_references(tables: dict[str, Rows]) -> list[str]:
    """Everything that rows refer to exists."""
    found = []
    there = {
        "task": set(range(sum(row["tasks"] for row in tables["blocks"]))),
        **{
            column: {row[column] for row in tables[name]}
            for name, column in (
                ("batches", "batch"),
                ("domains", "domain"),
                ("epochs", "epoch"),
                ("chunks", "chunk"),
            )
        },
    }
    for name, columns in (
        ("blocks", ("batch",)),
        ("kinds", ("domain",)),
        ("leases", ("epoch",)),
        ("chunks", ("epoch",)),
        ("completions", ("chunk",)),
        ("attempts", ("task", "chunk")),
        ("cancels", ("epoch",)),
        ("pool_changes", ("epoch",)),
        ("outcomes", ("task",)),
        ("reopened", ("task", "reopening_epoch")),
        ("commits", ("epoch",)),
    ):
        for row in tables[name]:
            for column in columns:
                is_creation = name == "commits" and row["commit"] == row["epoch"] == 0
                if row[column] not in there[column.removeprefix("reopening_")] and not is_creation:
                    found.append(f"a row of {name} refers to a {column} that is not there: {row[column]!r}")
    for row in tables["pool_changes"]:
        if row["slots"] < 1 or not row["reason"]:
            found.append(f"pool change {row['change']} is none")
    for row in tables["chunks"]:
        if not there["task"].issuperset(msgpack.unpackb(row["tasks"])):
            found.append(f"chunk {row['chunk']} has a task that is not there")
    return found


def check_completions(tables: dict[str, Rows]) -> list[str]:
    """Exactly the completed tasks have outcomes that say so."""
    said = [
        (row["task"], row["chunk"], row["commit"], row["reason"], row["message"], row["traceback"])
        for row in tables["outcomes"]
        if row["state"] == COMPLETED
    ]
    follows = [(row["task"], row["chunk"], row["commit"], None, None, None) for row in unpack_completions(tables)]
    found = [] if Counter(said) == Counter(follows) else ["the outcomes are not those that follow from the completions"]
    commits = {row["task"]: row["commit"] for row in unpack_completions(tables)}
    for row in tables["reopened"]:
        if commits.get(row["task"], row["commit"] + 1) <= row["commit"]:
            found.append(f"task {row['task']} completed before it was reopened")
    return found


def check_outcomes(tables: dict[str, Rows], states: set[int]) -> list[str]:
    """Each outcome has exactly the columns of its state, which is one of those that the journal's schema lists."""
    found = []
    for row in tables["outcomes"]:
        is_error = bool(row["reason"]) and row["message"] is not None and row["chunk"] is None
        fits = is_error and (row["reason"] == "cancelled") == (row["state"] == CANCELLED)
        if row["state"] not in states or not (fits or row["state"] == COMPLETED):  # completed ones: elsewhere
            found.append(f"the outcome of task {row['task']} does not fit its state")
    for row in tables["reopened"]:
        if row["state"] != FAILED or not row["reason"]:
            found.append(f"task {row['task']} was reopened, and had not failed")
    cancelled = Counter(row["state"] for row in tables["outcomes"])[CANCELLED]
    if cancelled > sum(row["tasks"] for row in tables["cancels"]):
        found.append("more tasks are cancelled than was asked for")
    return found


def check_attempts(tables: dict[str, Rows]) -> list[str]:
    """Each task's attempts explain each other, and its state."""
    found = []
    members = {row["chunk"]: msgpack.unpackb(row["tasks"]) for row in tables["chunks"]}
    policies = {row["kind"]: json.loads(row["policy"]) for row in tables["kinds"]}
    states = {row["task"]: row["state"] for row in tables["outcomes"]}
    reopened: dict[int, int] = {}
    for row in tables["reopened"]:
        reopened[row["task"]] = max(row["commit"], reopened.get(row["task"], -1))
    attempts: dict[int, Rows] = {}
    for row in sorted(tables["attempts"], key=lambda row: row["chunk"]):
        attempts.setdefault(row["task"], []).append(row)
        if row["task"] not in members.get(row["chunk"], ()):
            found.append(f"task {row['task']} has an attempt in a chunk that it was not in")
    for row in unpack_completions(tables):
        if row["task"] not in members.get(row["chunk"], ()):
            found.append(f"task {row['task']} completed in a chunk that it was not in")
        if any(other["chunk"] == row["chunk"] for other in attempts.get(row["task"], [])):
            found.append(f"task {row['task']} has two attempts in one chunk")
    for number, task in enumerate(unpack_tasks(tables)):
        state, policy = states.get(number), policies[task["kinds"]]
        own = attempts.get(number, [])
        current = [row for row in own if row["commit"] > reopened.get(number, -1)]
        if sum(row["charged"] for row in current) > policy["max_attempts"]:
            found.append(f"task {number} was tried too often")
        may_be_last = [row for row in current if row["outcome"] != SUPERSEDED] if state == FAILED else []
        for row in own:
            if not is_possible(row):
                found.append(f"task {number} has an impossible attempt")
        for row in current:
            if row not in may_be_last[-1:] and not is_explained(row, policy["retry_on"]):
                found.append(f"task {number} has an attempt too many")
    return found


def is_possible(attempt: dict[str, Any]) -> bool:
    """Whether an attempt may look so."""
    outcome, charged, reason = attempt["outcome"], attempt["charged"], attempt["reason"]
    fits: dict[int, bool] = {
        ERROR: charged in (0, 1) and bool(reason),
        LOST: charged in (0, 1) and bool(reason),
        SUPERSEDED: charged == 0,
    }
    return fits.get(outcome, False)


def is_explained(attempt: dict[str, Any], retry_on: list[str]) -> bool:
    """Whether another attempt may follow."""
    if attempt["charged"]:
        return attempt["outcome"] in (ERROR, LOST) and attempt["reason"] in retry_on
    return attempt["outcome"] in (LOST, SUPERSEDED)


def check_results(tables: dict[str, Rows], results: Path) -> list[str]:
    """Large results are in their files, and each digest is that of its result."""
    found = []
    domains = {row["kind"]: row["domain"] for row in tables["kinds"]}
    volatile = {row["domain"]: json.loads(row["volatile"]) for row in tables["domains"]}
    for row in tables["meta"]:
        if row["key"].startswith("version/"):
            volatile[row["key"].split("/", 2)[2]] += json.loads(row["value"])["volatile"]
    tasks = unpack_tasks(tables)
    for row in unpack_completions(tables):
        content = row["result"]
        if isinstance(content, str):
            name, content = content, (results / content).read_bytes()
            if hashlib.sha256(content).hexdigest() != name:
                found.append(f"the file of the result of task {row['task']} has changed")
        left_out = volatile[domains[tasks[row["task"]]["kinds"]]]
        if hashlib.sha256(repack(content, left_out)).digest() != row["digest"]:
            found.append(f"the digest of task {row['task']} is another one")
    return found


def check_inputs(tables: dict[str, Rows], inputs: Path) -> list[str]:
    """Each input is there, as it was written, and shared arrays are inputs."""
    notes = {row["key"]: row["value"] for row in tables["meta"]}
    found = []
    for key, size in notes.items():
        kind, _, name = key.partition("/")
        if kind == "input":
            path = inputs / name
            if not path.is_file() or path.is_symlink():
                found.append(f"the input {name} is missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != name or path.stat().st_size != int(size):
                found.append(f"the input {name} has changed")
        if kind == "shared" and f"input/{size}" not in notes:
            found.append(f"the shared array {name} is no input")
    return found


def repack(content: bytes, volatile: list[str]) -> bytes:
    """A result as its digest takes it."""
    value = msgpack.unpackb(
        content,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=lambda code, data: int.from_bytes(data, "little", signed=True) if code == 1 else (code, data),
        object_pairs_hook=lambda pairs: {as_key(key): item for key, item in pairs},
    )
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in volatile}
    packed: bytes = msgpack.packb(in_order(value), default=big_integer, unicode_errors="surrogatepass")
    return packed


def as_key(key: Any) -> Any:
    """A key that is an array stands for a tuple."""
    return tuple(map(as_key, key)) if isinstance(key, list) else key


def in_order(value: Any) -> Any:
    """With all mappings in the order of their keys."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value, key=repr)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def big_integer(value: Any) -> msgpack.ExtType:
    """An integer beyond 64 bits."""
    return msgpack.ExtType(1, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


if __name__ == "__main__":
    violations = check(Path(sys.argv[1]))
    incomplete = [] if violations else find_incomplete(Path(sys.argv[1]))
    print(json.dumps({"violations": violations, "incomplete": incomplete}))
    sys.exit(4 if violations else 1 if incomplete else 0)
