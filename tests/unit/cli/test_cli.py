"""The command line: what it teaches, what it refuses, and that a refusal starts nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from support.journal_rows import open_tasks, together
from support.small_run import cancelled, completed, failed, make_run

from dfz_ray.cli import COMMANDS, EXIT_BAD_INPUT, call, group, main
from dfz_ray.cli.run_folder import find_run, remember_run
from dfz_ray.cli.scale import scale
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.journal.lock import is_held
from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.recovery import open_for_work
from dfz_ray.journal.requests import read_requests, resolve
from dfz_ray.journal.status import Status, write_status
from dfz_ray.journal.writer import Group
from dfz_ray.specs.settings import read_settings

MAZES = "tasks: [{domain: maze}]\n"
MODULES = {
    "coins.py": 'from dfz_ray import domain\n\n@domain("coin")\ndef coin(flips: int = 10): "Toss a coin."\n',
    "raising.py": 'raise RuntimeError("no\\nluck")\n',
    "exiting.py": "raise SystemExit(0)\n",
    "broken.py": "def\n",
    "modules/calendar.py": "",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a working directory, and domains, of its own, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(REGISTRY, "_defined", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mazes.yaml").write_text(MAZES)
    (tmp_path / "elsewhere.yaml").write_text("journal: {runs_folder: else/where}\n")
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)


def dfz(*arguments: str, command: click.Command = group) -> int:
    """The exit code of a command, run in this process."""
    return call(command, list(arguments))


def command_of(name: str) -> click.Command:
    """A subcommand."""
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def examples_in(text: str) -> list[list[str]]:
    """The example commands of a help text, as their words."""
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("dfz ")]


def entries(folder: Path) -> set[str]:
    """All that lies in a folder, but for what Python leaves beside a module."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def children_of_session(session: int) -> list[psutil.Process]:
    """The processes that are left of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command says what it does, explains every option, and shows examples that would be accepted."""
    assert dfz(name, "--help") == dfz(name, "-h") == 0

    command, told = command_of(name), capsys.readouterr().out
    assert f"Usage: dfz {name}" in told
    assert "Examples:" in told
    examples = examples_in(command.help or "")
    assert len(examples) >= 3
    for program, subcommand, *words in examples:
        assert (program, subcommand) == ("dfz", name)
        command.make_context(name, words)  # an option that is not there would be refused
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help
            assert max(option.opts, key=len) in told


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz --help` lists every command in a sentence, shows examples, and tells the exit codes."""
    assert dfz("--help") == 0

    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {summary}" in told for name, (_, summary) in COMMANDS.items())
    assert "Exit codes: 0 all completed; 1 some failed; 2 bad usage or input, nothing started;" in told
    assert "4 audit violation; 130 interrupted." in told
    assert [words[1] for words in examples_in(group.help or "")] == ["run", "status", "results", "scale"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz --version` says which one it is."""
    assert dfz("--version") == 0
    assert "0." in capsys.readouterr().out


REFUSALS = [
    (["run", "mazes.yaml", "--max-workers", "0"], "--max-workers: found 0; expected a whole number from 1 to"),
    (["run", "mazes.yaml", "--max-workers", "x"], "--max-workers: found 'x'; expected a whole number from 1"),
    (["run", "mazes.yaml", "--max-worker", "1"], "No such option '--max-worker'. Did you mean '--max-workers'?"),
    (["run"], "Missing argument 'BATCH'"),
    (["run", "no.yaml"], "no.yaml: found no readable file; expected a file that can be read; no.yaml: No such file"),
    (["run", "."], "found no readable file; expected a regular file; . is none"),
    (["run", "mazes.yaml", "--config", "no.yaml"], "no.yaml: found no readable file"),
    (["run", "mazes.yaml", "--config", "mazes.yaml"], "settings.tasks: found an unknown key"),
    (["run", "mazes.yaml", "--import", "raising.py"], "'raising.py', which raises RuntimeError: no luck; expected"),
    (["run", "mazes.yaml", "--import", "exiting.py"], "'exiting.py', which raises SystemExit: 0; expected a module"),
    (["run", "mazes.yaml", "--import", "broken.py"], "'broken.py', which raises SyntaxError: invalid syntax"),
    (["run", "mazes.yaml", "--import", "no.py"], "'no.py', which raises FileNotFoundError: there is no such file"),
    (
        ["run", "mazes.yaml", "--import", "modules/calendar.py"],
        "another module is called 'calendar'; give the file a name of its own",
    ),
    (["run", "mazes.yaml", "--import", "no_such_module"], "ModuleNotFoundError: No module named 'no_such_module'"),
    (["run", "mazes.yaml", "--import", ".relative"], "'.relative', which raises TypeError"),
    (["scale", "--scaling-test", "--max-workers", "1,x"], "--max-workers: found 'x'; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", "1,0"], "--max-workers: found '0'; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", "1,-2"], "--max-workers: found '-2'; expected whole numbers"),
    (["scale", "--scaling-test", "--max-workers", "1,"], "--max-workers: found ''; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", ""], "--max-workers: found ''; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", "1,1"], "--max-workers: found '1,1'; expected each number once"),
    (["scale", "--max-workers", "1,2"], "--max-workers: found no --scaling-test; expected both (or --workers N for a"),
    (["scale", "--workers", "2", "--scaling-test"], "--workers: found a scaling test beside it; expected one of the"),
    (["scale", "--workers", "0"], "Invalid value for '--workers': 0 is not in the range"),
    (["scale", "--repeats", "0"], "Invalid value for '--repeats': 0 is not in the range 1<=x<=1000"),
    (["scale", "--repeats", "100000000"], "Invalid value for '--repeats': 100000000 is not in the range"),
    (["scale", "--seed", "-1"], "Invalid value for '--seed': -1 is not in the range"),
    (["scale", "--seed", str(2**63)], f"Invalid value for '--seed': {2**63} is not in the range"),
    (["scale", "--batch", "mazes.yaml", "--domain", "maze"], "--batch: found --domain beside it; expected one of the"),
    (["scale", "--batch", "", "--domain", "maze"], "--batch: found --domain beside it; expected one of the two"),
    (["scale", "--batch", ""], "found no readable file; expected a regular file"),
    (["scale", "--batch", "no.yaml"], "no.yaml: found no readable file; expected a file that can be read"),
    (["scale", "--count", "3"], "--count: found no --domain; expected the domain whose tasks are to be generated"),
    (["scale", "--domain", "maz"], "generate[0].domain: found 'maz'; expected the name of a domain, one of"),
    (["scale", "--domain", "maz"], "(did you mean 'maze'?)"),
    (["scale", "--domain", ""], "generate[0].domain: found ''; expected the name of a domain"),
    (
        ["scale", "--domain", "maze", "--count", "10000001"],
        "generate[0].count: found 10000001; expected a whole number",
    ),
    (["scale", "--import", "raising.py"], "'raising.py', which raises RuntimeError: no luck; expected a module"),
    (["scale", "--output", "mazes.yaml"], "--output: found 'mazes.yaml'; expected a folder that can be made"),
    (["scale", "mazes.yaml"], "Got unexpected extra argument (mazes.yaml)"),
    (
        ["domains", "maz"],
        "NAME: found 'maz'; expected one of image_classification, maze, quantum, sorting (did you mean 'maze'?)",
    ),
    (["domains", "--import", "raising.py"], "'raising.py', which raises RuntimeError: no luck"),
    (["results"], "Missing argument 'RUN'"),
    (["results", "."], ". is no run folder: it has no run.sqlite"),
    (["results", "no"], "no is no run folder: it has no run.sqlite"),
    (["results", "last"], "no last run is known here: runs/.last can't be read; name a run folder"),
    (["results", "last", "--config", "elsewhere.yaml"], "no last run is known here: else/where/.last can't be read"),
    (["results", "last", "--state", "fail"], "--state: found 'fail'; expected one of cancelled, completed, failed"),
    (["results", "last", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range x>=1"),
    *(
        (words, message)
        for name, *more in (["status"], ["failures"], ["cancel", "a"], ["replay", "a"])
        for words, message in (
            ([name], "Missing argument 'RUN'"),
            ([name, "no", *more], "no is no run folder: it has no run.sqlite"),
            ([name, "last", *more], "no last run is known here: runs/.last can't be read; name a run folder"),
            ([name, "last", *more, "--config", "elsewhere.yaml"], "else/where/.last can't be read"),
            ([name, "no", *more, "--config", "no.yaml"], "no.yaml: found no readable file"),
        )
    ),
    (["status", "\x1b[2J"], "error: \\x1b[2J is no run folder"),
    (["failures", "no", "--limit", "x"], "Invalid value for '--limit': 'x' is not a valid integer range"),
    (["cancel", "no"], "TASK_ID: found nothing to cancel; expected ids of tasks, --batch NAME, or --all for the whole"),
    (["cancel", "no", "a", "--all"], "--all: found tasks or a batch beside it; expected one of the two"),
    (["cancel", "no", "--batch", "a", "--all"], "--all: found tasks or a batch beside it; expected one of the two"),
    (["replay", "no"], "Missing argument 'TASK_ID'"),
    (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
    (["result"], "No such command 'result'. Did you mean 'results'?"),
    (["zzzz"], "No such command 'zzzz'."),
    (["--no-such-option"], "No such option '--no-such-option'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[" ".join(words) for words, _ in REFUSALS])
def test_refused(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong on the command line is told in one message with exit code 2, and nothing has been started."""
    before = entries(tmp_path)

    code = dfz(*arguments)

    told = capsys.readouterr()
    (line,) = [line for line in told.err.splitlines() if line.lower().startswith("error:")]
    assert message in line
    assert (code, told.out) == (EXIT_BAD_INPUT, "")
    assert entries(tmp_path) == before, "neither a run folder nor a study's"
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_all_problems_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Everything that is wrong with a command line, or with a batch, is told in one go."""
    (tmp_path / "wrong.yaml").write_text("seed: -1\ntasks: [{domain: maz}, {domain: maze, id: 3}]\n")

    codes = dfz("scale", "--max-workers", "1", "--workers", "2", "--count", "3"), dfz("run", "wrong.yaml")

    told = capsys.readouterr().err
    assert codes == (2, 2)
    assert [line.split(": found")[0] for line in told.splitlines()] == [
        "error: command line: 3 problems",
        "  --max-workers",
        "  --workers",
        "  --count",
        "error: wrong.yaml: 3 problems",
        "  seed",
        "  tasks[0].domain",
        "  tasks[1].id",
    ]


def test_the_main_job_is_the_same_program(capsys: pytest.CaptureFixture[str]) -> None:
    """benchmarks/scale.py refuses what `dfz scale` refuses, in the same words."""
    assert dfz("--domain", "maz", command=scale) == dfz("scale", "--domain", "maz") == EXIT_BAD_INPUT

    one, other = capsys.readouterr().err.splitlines()
    assert one == other


def test_a_study_is_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds a study takes no other one."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/measurements.jsonl").write_text("")

    assert dfz("scale", "--domain", "maze", "--output", "mine") == EXIT_BAD_INPUT
    assert "'mine', which holds a study; expected a new folder" in capsys.readouterr().err
    assert (tmp_path / "mine/measurements.jsonl").read_text() == ""


def test_domains_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz domains` lists what can be run, and with a name its parameters with their meaning."""
    assert dfz("domains") == dfz("domains", "maze") == 0

    told = capsys.readouterr().out
    for word in ("image_classification", "maze", "quantum", "size_x", "integer 2 to 512", "astar"):
        assert word in told


def test_domains_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints the domains, or the JSON schema of one's parameters, for a program to read."""
    assert dfz("domains", "--json") == dfz("domains", "maze", "--json") == 0

    domains, schema = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["domain"] for one in domains] == ["image_classification", "maze", "quantum", "sorting"]
    assert all(one["summary"] and one["missing"] == "" for one in domains)
    assert schema["properties"]["algorithm"]["enum"] == ["bfs", "dijkstra", "astar", "dfs"]


HOSTILE = '''
from typing import Any, Callable
from dfz_ray import domain

@domain("coin[/bold]")
def coin(flips: int = 10, sides: list = ["[red]"], toss: Callable = None, rest: Any = object, share=float("nan")):
    """Toss [bold] a [/nothing] coin."""
'''


def run_program(*arguments: str, **options: Any) -> tuple[int, str, str, list[psutil.Process]]:
    """Exit code, output, errors and what is left running of `python -m dfz_ray`, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dfz_ray", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err, children_of_session(process.pid)


def test_a_domain_that_can_hardly_be_shown(tmp_path: Path) -> None:
    """Whatever a user's domain is called and takes as defaults, it can be shown, as a table and as JSON."""
    (tmp_path / "hostile.py").write_text(HOSTILE)

    code, out, err, _ = run_program("domains", "coin[/bold]", "--import", "hostile.py")
    json_code, json_out, json_err, _ = run_program("domains", "coin[/bold]", "--import", "hostile.py", "--json")

    assert (code, err, json_code, json_err) == (0, "", 0, "")
    assert "coin[/bold]: Toss [bold] a [/nothing] coin." in out
    assert "['[red]']" in out
    properties = json.loads(json_out)["properties"]
    assert properties["flips"]["default"] == 10
    assert properties["share"]["default"] == "nan"
    assert properties.keys() == {"flips", "sides", "toss", "rest", "share"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mazes.yaml", "--max-workers", "0"], "--max-workers"),
        (["run", "no.yaml"], "no.yaml: found no readable file"),
        (["run", "mazes.yaml", "--import", "raising.py"], "raises RuntimeError: no luck"),
        (["scale", "--scaling-test", "--max-workers", "1,x"], "found 'x'"),
        (["results", "."], ". is no run folder"),
        (["rnu"], "Did you mean 'run'?"),
    ],
)
def test_a_refusal_leaves_nothing_behind(arguments: list[str], message: str, tmp_path: Path) -> None:
    """A program that refuses ends with code 2, without a traceback, a file or a process that is left."""
    before = entries(tmp_path)

    code, out, err, left = run_program(*arguments)

    assert code == EXIT_BAD_INPUT
    assert message in err
    assert "Traceback" not in out + err
    assert out == ""
    assert entries(tmp_path) == before
    assert left == []


def test_a_module_from_the_working_directory() -> None:
    """`--import` takes a module that lies here, as a name or as a file, and knows a file that it has imported."""
    code, out, err, _ = run_program("domains", "coin", "--import", "coins", "--import", "coins.py")

    assert (code, err) == (0, "")
    assert "Toss a coin." in out
    assert "flips" in out


def test_a_module_that_fails_is_forgotten() -> None:
    """A module that can't be imported is not half there afterwards."""
    assert dfz("domains", "--import", "raising.py") == EXIT_BAD_INPUT
    assert "raising" not in sys.modules


@pytest.mark.parametrize("name", [b"run", b"two words", b" a\n", b"\xff", "Läufe".encode()])
def test_last(name: bytes, tmp_path: Path) -> None:
    """`last` is the run that was begun last, whatever its folder is called and wherever one stands."""
    settings = read_settings({"journal": {"runs_folder": "own/runs"}})
    folder = Path(os.fsdecode(name))

    remember_run(Path("earlier"), settings)
    remember_run(folder, settings)

    assert find_run("last", settings) == tmp_path / folder
    assert find_run("other", settings) == Path("other")


# --- a run, from another process --------------------------------------------------------------------------------------

EVIL = "\x1b]0;evil\x07\x9b2J[red]\u202e\ud800"
"""What would set a terminal's title, clear it, colour it, turn its text round, or break its encoding."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of five tasks, of which two are open; `last` means it."""
    folder = tmp_path / "my run"
    outcomes = [completed(0, {"main_score": 0.25}), failed(1, "exception", f"{EVIL[:-1]}\nmore"), completed(4, EVIL)]
    ids = ["first", "second", f"task{EVIL[:-1]}", "fourth", "fifth"]
    make_run(folder, ids, *outcomes, kind=f"kind{EVIL[:-1]}", batches=["x", "x", "y", "y", "y"]).close()
    remember_run(folder, read_settings(None))
    return folder


def manage(folder: Path, ended: threading.Event) -> None:
    """Work on a run as a manager does with regard to requests, until it is told to end."""
    opened = open_for_work(folder, {})
    numbers = iter(range(100))
    due = set(open_tasks(opened.recovered))
    while not ended.wait(0.01):
        for path, request in read_requests(folder):
            concerned = resolve(folder, request) & due
            cancels = [(next(numbers), opened.writer.epoch, 1.0, request.scope, len(concerned))]
            opened.writer.commit(together(*map(cancelled, concerned), Group(cancels=cancels)))
            path.unlink(missing_ok=True)
    opened.writer.close()
    opened.lock.close()


@contextlib.contextmanager
def managed(folder: Path) -> Iterator[None]:
    """A run that is worked on, from here on."""
    ended = threading.Event()
    manager = threading.Thread(target=manage, args=(folder, ended))
    manager.start()
    wait_for(lambda: is_held(folder))
    try:
        yield
    finally:
        ended.set()
        manager.join()


HOLD = """
import sys
from pathlib import Path
from dfz_ray.journal.lock import RunLock

lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the run, and meets no request."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def counts_of(folder: Path) -> dict[str, int]:
    """Tasks per state, of the states that there are."""
    with JournalReader(folder) as journal:
        return {state: count for state, count in journal.counts().items() if count}


@pytest.mark.parametrize("name", ["status", "results", "failures"])
def test_nothing_in_a_run_reaches_the_terminal_raw(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, kinds, messages and results are shown with their control characters as escapes, and markup as it is."""
    assert dfz(name, "last") == dfz(name, "last", "--json") == 0

    told = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\u202e\ud800") & set(told)
    if name != "status":
        assert "\\x1b]0;evil\\x07\\x9b2J[red]\\u202e" in told


def test_results_of_a_run_that_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results can be read while the run is worked on: what has not ended is pending."""
    with managed(run):
        assert dfz("results", str(run), "--json") == dfz("results", "last", "--state", "pending") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines[:5]] == [
        "completed",
        "failed",
        "pending",
        "pending",
        "completed",
    ]
    assert [line.split()[-1] for line in lines[6:]] == ["pending", "pending"]


def test_results_are_limited_where_that_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table says how many rows it leaves out; lines are as many as were asked for."""
    assert dfz("results", "last", "--limit", "2") == dfz("results", "last", "--limit", "2", "--json") == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["task", "first", "second"]
    assert lines[3] == "... and 3 more: --limit 5 shows all, --json prints them"
    assert [json.loads(line)["task_id"] for line in lines[4:]] == ["first", "second"]


def test_a_long_table_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run of many tasks the table has the first thousand, and JSON has them all."""
    make_run(tmp_path / "run", [f"task-{number}" for number in range(1005)]).close()

    assert dfz("results", "run") == 0
    table = capsys.readouterr().out.splitlines()
    assert dfz("results", "run", "--json") == 0
    lines = capsys.readouterr().out.splitlines()

    assert len(table) == 1002
    assert table[-1].startswith("... and 5 more: --limit 1005")
    assert len(lines) == 1005


def test_a_score_may_be_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's main_score that is no fraction is shown as it is."""
    scores = [None, "good", True, 3, 10**400, 0.5, float("nan")]
    rows = [completed(number, {"main_score": score}) for number, score in enumerate(scores)]
    make_run(tmp_path / "run", [str(number) for number in range(len(scores))], *rows).close()

    assert dfz("results", "run") == 0

    told = capsys.readouterr().out
    for words in ("main_score 'good'", "main_score True", "main_score 3", "main_score an integer", "main_score 0.5"):
        assert words in " ".join(told.split())


def test_the_status_of_a_run_at_rest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that nobody works on is told so, with what is committed, and how it goes on."""
    assert dfz("status", "last") == dfz("status", str(run), "--watch") == dfz("status", "last", "--json") == 0

    *lines, last = capsys.readouterr().out.splitlines()
    told = " ".join(" ".join(lines).split())
    assert told.count("tasks 5: 2 pending, 2 completed, 1 failed (60 % ended)") == 2
    assert "nobody: " in told
    assert "dfz resume" in told
    status = json.loads(last)
    assert (status["working"], status["counts"]["pending"], status["name"]) == (False, 2, "test")


def test_the_status_of_a_run_that_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that a live process works on is told as that process tells it, texts of its own as escapes."""
    told = Status(
        run_id="r",
        name=f"demo{EVIL[:-1]}",
        epoch=2,
        process=4711,
        host="host-a",
        updated_at=time.time() - 60,
        working=True,
        counts={"pending": 1000, "running": 3, "completed": 997, "failed": 0, "cancelled": 0},
        slots=4,
        why_slots="",
        leases=3,
        tasks_per_s=12.34,
        left_s=400.0,
        commits=1,
        notices=(f"a node was lost{EVIL[:-1]}",),
    )
    with held(run):
        write_status(run, told)
        assert dfz("status", "last") == 0

    out = capsys.readouterr().out
    assert "\x1b" not in out
    words = " ".join(out.split())
    for part in (
        "run demo\\x1b]0;evil",
        "process 4711 on host-a, silent for 60 s",
        "2,000: 1,000 pending, 3 running, 997 completed (49 % ended)",
        "12.3 tasks/s, about 6.7 min left",
        "3 of 4 in use",
        "notice a node was lost\\x1b",
    ):
        assert part in words


def test_watching_ends_with_the_work(run: Path) -> None:
    """`--watch` tells where the run stands until no process works on it any more, and ends well."""
    with held(run) as worker, started("status", "last", "--watch", "--json") as watching:
        first = json.loads(watching.stdout.readline())
        worker.kill()
        worker.wait()
        *_, last = map(json.loads, watching.stdout)
        assert watching.wait() == 0

    assert (first["working"], last["working"]) == (True, False)


def test_watching_ends_with_an_interrupt(run: Path) -> None:
    """Ctrl-C ends the watching, with the exit code of an interrupt and nothing else to say."""
    with held(run), started("status", "last", "--watch", "--json") as watching:
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 130
        assert watching.stderr.read().strip() == ""


def test_status_starts_fast(run: Path) -> None:
    """The status of a run folder is told without loading what checks settings and batches, or computes."""
    program = (
        "import sys\nfrom dfz_ray.cli import call, group\n"
        f"assert call(group, ['status', {str(run)!r}]) == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stderr == ""
    assert not set(done.stdout.splitlines()[-1].split()) & {"ray", "pydantic", "yaml", "numpy", "scipy", "torch"}


@pytest.mark.parametrize("at_work", [False, True])
@pytest.mark.parametrize(
    ("arguments", "told", "counts"),
    [
        (["fourth"], "1 task cancelled", {"pending": 1, "cancelled": 1}),
        (["fourth", "first", "second"], "1 task cancelled; 2 had ended already, and stay as they are", None),
        (["first"], "0 tasks cancelled; 1 had ended already, and stay as they are", {"pending": 2}),
        (["--batch", "y"], "2 tasks cancelled; 1 had ended already, and stay as they are", {"cancelled": 2}),
        (["--all"], "2 tasks cancelled; 3 had ended already, and stay as they are", {"cancelled": 2}),
    ],
)
def test_cancelling(
    arguments: list[str],
    told: str,
    counts: dict[str, int] | None,
    at_work: bool,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Tasks, a batch or the whole run are cancelled in the same way whether or not a process works on the run."""
    with managed(run) if at_work else contextlib.nullcontext():
        assert dfz("cancel", "last", *arguments) == 0
        assert capsys.readouterr().out == f"{told}\n"
        assert counts_of(run) == {"completed": 2, "failed": 1, **(counts or {"pending": 1, "cancelled": 1})}
    assert read_requests(run) == []


def test_a_process_that_dies_before_it_cancels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the process that was asked ends before it has cancelled, it is done all the same."""
    with held(run) as worker:
        killer = threading.Thread(target=lambda: (wait_for(lambda: read_requests(run)), worker.kill()))
        killer.start()
        assert dfz("cancel", "last", "--all") == 0
        killer.join()

    assert capsys.readouterr().out.startswith("2 tasks cancelled;")
    assert counts_of(run) == {"completed": 2, "failed": 1, "cancelled": 2}
    assert read_requests(run) == []


def test_an_interrupt_takes_the_request_back(run: Path) -> None:
    """Ctrl-C while the process that works on the run has not cancelled yet leaves nothing that it would do later."""
    with held(run), started("cancel", "last", "--all") as cancelling:
        wait_for(lambda: read_requests(run))
        cancelling.send_signal(signal.SIGINT)
        assert cancelling.wait() == 130
        assert (cancelling.stdout.read(), cancelling.stderr.read().strip()) == ("", "")
    assert read_requests(run) == []
    assert counts_of(run) == {"pending": 2, "completed": 2, "failed": 1}


def test_lines_that_nobody_reads_to_the_end(tmp_path: Path) -> None:
    """`dfz results --json | head` ends quietly, however many lines there are."""
    make_run(tmp_path / "run", [f"task-{number}" for number in range(5000)]).close()
    with started("results", "run", "--json") as reading:
        assert json.loads(reading.stdout.readline())["task_id"] == "task-0"
        reading.stdout.close()
        assert (reading.wait(), reading.stderr.read()) == (1, "")


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[Any]:
    """The program, at work."""
    with subprocess.Popen(
        [sys.executable, "-m", "dfz_ray", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the program ------------------------------------------------------------------------------------------------------


def test_main_ends_the_program() -> None:
    """The entry point ends with the exit code of its command."""
    with pytest.raises(SystemExit) as ended:
        main(["results", "no-such-folder"])
    assert ended.value.code == EXIT_BAD_INPUT


def test_a_reader_that_goes_away() -> None:
    """Output that nobody reads to its end is no reason for a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "dfz_ray", "domains", "maze", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()

    assert told == ""
    assert process.returncode == 1
