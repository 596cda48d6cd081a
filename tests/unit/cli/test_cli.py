"""The command line: its help, its refusals, and that a refusal starts nothing."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.command_line import dfz, entries, run_program

from dfz_ray.cli import COMMANDS, EXIT_BAD_INPUT, group, main
from dfz_ray.cli.scale import scale
from dfz_ray.domains.registry import BUILT_IN

pytestmark = pytest.mark.usefixtures("working_folder")


def command_of(name: str) -> click.Command:
    """A subcommand."""
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def examples_in(text: str) -> list[list[str]]:
    """The example commands of a help text, as their words."""
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("dfz ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command describes it, explains every option, and shows examples that would be accepted."""
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
    """`dfz --help` describes every command in a sentence, shows examples, and lists the exit codes."""
    assert dfz("--help") == 0

    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {summary}" in told for name, (_, summary) in COMMANDS.items())
    assert (
        "Exit codes: 0 all completed; 1 some failed, were cancelled or never sent, or Ray was lost, or a comparison"
        in told
    )
    assert "4 audit violation; 130 interrupted." in told
    assert [words[1] for words in examples_in(group.help or "")] == ["examples", "run", "status", "results", "scale"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz --version` prints the version."""
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
        "another module is called 'calendar'; rename the file",
    ),
    (["run", "mazes.yaml", "--import", "no_such_module"], "ModuleNotFoundError: No module named 'no_such_module'"),
    (["run", "mazes.yaml", "--import", ".relative"], "'.relative', which raises TypeError"),
    (["scale", "--scaling-test", "--max-workers", "1,x"], "--max-workers: found 'x'; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", "1,0"], "--max-workers: found '0'; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", "1,-2"], "--max-workers: found '-2'; expected whole numbers"),
    (["scale", "--scaling-test", "--max-workers", "1,"], "--max-workers: found ''; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", ""], "--max-workers: found ''; expected whole numbers from 1"),
    (["scale", "--scaling-test", "--max-workers", "1,1"], "--max-workers: found '1,1'; expected each number once"),
    (["scale", "--max-workers", "1,x"], "--max-workers: found 'x'; expected whole numbers from 1"),
    (["scale", "--workers", "2", "--max-workers", "1,2"], "--workers: found a scaling test beside it; expected one of"),
    (["scale", "--workers", "2", "--scaling-test"], "--workers: found a scaling test beside it; expected one of the"),
    (["scale", "--workers", "0"], "Invalid value for '--workers': 0 is not in the range"),
    (["scale", "--repeats", "0"], "Invalid value for '--repeats': 0 is not in the range 1<=x<=1000"),
    (["scale", "--repeats", "100000000"], "Invalid value for '--repeats': 100000000 is not in the range"),
    (["scale", "--seed", "-1"], "Invalid value for '--seed': -1 is not in the range"),
    (["scale", "--seed", str(2**63)], f"Invalid value for '--seed': {2**63} is not in the range"),
    (["scale", "--batch", "mazes.yaml", "--domain", "maze"], "--batch: found --domain beside it; expected one of the"),
    (["scale", "--batch", ""], "--batch: found ''; expected a name that is not empty"),
    (["run", ""], "BATCH: found ''; expected a name that is not empty (is a variable of the shell unset?)"),
    (["run", "mazes.yaml", "--run-dir", ""], "--run-dir: found ''; expected a name that is not empty"),
    (["run", "mazes.yaml", "--config", ""], "--config: found ''; expected a name that is not empty"),
    (["resume", ""], "RUN: found ''; expected a name that is not empty"),
    (["cancel", "", "--all"], "RUN: found ''; expected a name that is not empty"),
    (["top", "no", ""], "RUN: found ''; expected a name that is not empty"),
    (["trace", "no", "--output", ""], "--output: found ''; expected a name that is not empty"),
    (["scale", "--batch", "no.yaml"], "no.yaml: found no readable file; expected a file that can be read"),
    (["scale", "--count", "3"], "--count: found no --domain; expected the domain whose tasks are to be generated"),
    (["scale", "--domain", "maz"], "generate[0].domain: found 'maz'; expected the name of a domain, one of"),
    (
        ["scale", "--domain", "maz"],
        "(did you mean 'maze'? import the module that defines it: on the command line with --import",
    ),
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
        f"NAME: found 'maz'; expected one of {', '.join(sorted(BUILT_IN))} (did you mean 'maze'?)",
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
    *(
        (
            [*words[:1], "mazes.yaml", *words[1:]],
            "mazes.yaml is no run folder: it is a file; a run is named by its folder",
        )
        for words in (
            ["status"],
            ["results"],
            ["failures"],
            ["audit"],
            ["trace"],
            ["top"],
            ["resume"],
            ["replay", "a"],
            ["cancel", "a"],
        )
    ),
    (["top", "no"], "no is no run folder: it has no run.sqlite"),
    (["top", "last"], "no last run is known here: runs/.last can't be read; name a run folder"),
    (["top"], "no last run is known here: runs/.last can't be read; name a run folder"),
    (["status", "\x1b[2J"], "error: \\x1b[2J is no run folder"),
    (["failures", "no", "--limit", "x"], "Invalid value for '--limit': 'x' is not a valid integer range"),
    (["cancel", "no"], "TASK_ID: found nothing to cancel; expected ids of tasks, --batch NAME, or --all for the whole"),
    (["cancel", "no", "a", "--all"], "--all: found tasks or a batch beside it; expected one of the two"),
    (["cancel", "no", "--batch", "a", "--all"], "--all: found tasks or a batch beside it; expected one of the two"),
    (["replay", "no"], "Missing argument 'TASK_ID'"),
    (["scale", "--price", "nan"], "Invalid value for '--price': nan is no finite number."),
    (["scale", "--target", "nan"], "Invalid value for '--target': nan is no finite number."),
    (["predict", "study", "--deadline", "inf"], "Invalid value for '--deadline': inf is no finite number."),
    (["predict", 300 * "x"], f"{300 * 'x'}/measurements.jsonl: File name too long"),
    (["scale", "--output", 300 * "x"], f"{300 * 'x'}: File name too long"),
    (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
    (["result"], "No such command 'result'. Did you mean 'results'?"),
    (["zzzz"], "No such command 'zzzz'."),
    (["--no-such-option"], "No such option '--no-such-option'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[" ".join(words) for words, _ in REFUSALS])
def test_refused(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is refused in one message with exit code 2, and nothing is started."""
    before = entries(tmp_path)

    code = dfz(*arguments)

    told = capsys.readouterr()
    (line,) = [line for line in told.err.splitlines() if line.lower().startswith("error:")]
    assert message in line
    assert (code, told.out) == (EXIT_BAD_INPUT, "")
    assert entries(tmp_path) == before, "neither a run folder nor a study's"
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_all_problems_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All problems of a command line or a batch are reported at once."""
    (tmp_path / "wrong.yaml").write_text("seed: -1\ntasks: [{domain: maz}, {domain: maze, id: 3}]\n")

    options = ("--max-workers", "1", "--workers", "2", "--count", "3", "--repeats", "4", "--target", "5")
    codes = dfz("scale", *options), dfz("run", "wrong.yaml")

    told = capsys.readouterr().err
    assert codes == (2, 2)
    assert [line.split(": found")[0] for line in told.splitlines()] == [
        "error: command line: 3 problems",
        "  --workers",
        "  --count",
        "  --target",
        "error: wrong.yaml: 3 problems",
        "  seed",
        "  tasks[0].domain",
        "  tasks[1].id",
    ]


def test_the_main_job_is_the_same_program(capsys: pytest.CaptureFixture[str]) -> None:
    """benchmarks/scale.py refuses the same as `dfz scale`, in the same words."""
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


@pytest.mark.parametrize("name", ["status", "results", "failures"])
def test_nothing_in_a_run_reaches_the_terminal_raw(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, kinds, messages and results are shown with their control characters as escapes, and markup as it is."""
    assert dfz(name, "last") == dfz(name, "last", "--json") == 0

    told = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\u202e\ud800") & set(told)
    if name != "status":
        assert "\\x1b]0;evil\\x07\\x9b2J[red]\\u202e" in told


def test_main_ends_the_program() -> None:
    """The entry point ends with the exit code of its command."""
    with pytest.raises(SystemExit) as ended:
        main(["results", "no-such-folder"])
    assert ended.value.code == EXIT_BAD_INPUT


def test_a_reader_that_goes_away() -> None:
    """Output that nobody reads to the end causes no traceback."""
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


def test_output_that_can_not_be_written() -> None:
    """A full disk behind the output is told in a line; a command whose output is closed does its work in silence."""
    for arguments in (["--version"], ["domains"], ["domains", "maze", "--json"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "dfz_ray", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, "error: the output can't be written: No space left on device\n")
    closed = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m dfz_ray domains >&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (closed.returncode, closed.stderr) == (0, "")


def completions(words: str) -> set[str]:
    """What a shell is offered for the last word."""
    from click.shell_completion import BashComplete

    *before, last = words.split(" ")
    complete = BashComplete(group, {}, "dfz", "_DFZ_COMPLETE")
    return {item.value if item.type == "plain" else item.type for item in complete.get_completions(before, last)}


def test_a_shell_completes_commands_files_and_runs(run: Path) -> None:
    """Tab completes commands and options, and `last` and the runs of this folder where a command takes a run."""
    run.rename(run.parent / "first")
    (run.parent / "runs").mkdir(exist_ok=True)
    (run.parent / "first").rename(run.parent / "runs/first")

    assert completions("re") == {"resume", "results", "replay"}
    assert "--max-workers" in completions("run mazes.yaml --m")
    assert completions("run m") == completions("scale --batch m") == completions("status last --config m") == {"file"}
    assert completions("status ") == completions("resume ") == {"last", "runs/first"}
    assert completions("audit runs/f") == {"runs/first"}
    assert completions("audit elsewhere/") == {"dir"}
