"""`--import`, and the modules that a run was begun with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import dfz

from dfz_ray.cli import remembered_imports
from dfz_ray.cli.domain_modules import find_trusted_modules, import_domain_modules
from dfz_ray.cli.remembered_imports import find_remembered, remember_imports
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import InvalidInput
from dfz_ray.journal.openings import Opening
from dfz_ray.journal.writer import JournalWriter

pytestmark = pytest.mark.usefixtures("working_folder")

TEXT = "from dfz_ray import domain\n\n@domain({name!r})\ndef {name}(): ...\n"


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Each test imports its modules anew."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def run(tmp_path: Path, working_folder: None) -> Path:
    """A run that was begun with a file and a module of a package, in two other folders."""
    for path, name in (("here/dice.py", "die"), ("there/games/__init__.py", "game"), ("there/games/cards.py", "card")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(TEXT.format(name=name))
    imports = (("dice.py", str(tmp_path / "here")), ("games.cards", str(tmp_path / "there")))
    return begin(tmp_path / "run", *imports)


def begin(run: Path, *imports: tuple[str, str]) -> Path:
    """A run that this user has begun with modules."""
    JournalWriter.create(run, {}, opening=Opening("driver", imports).to_json()).close()
    remember_imports(run, imports)
    return run


def test_the_modules_of_a_run_are_imported_again(run: Path) -> None:
    """A run is gone on with by its own modules, wherever one stands; what is imported is what the journal gets."""
    modules = import_domain_modules([], run)

    assert {"die", "card"} <= REGISTRY.defined.keys()
    assert list(modules) == [("dice.py", str(run.parent / "here")), ("games.cards", str(run.parent / "there"))]


def test_what_is_given_is_noted_by_name_and_absolute_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is noted with its folder, a module with the folder from which it is imported."""
    monkeypatch.chdir(run.parent / "there")
    modules = import_domain_modules(["../here/dice.py", "games.cards"])

    assert [(name, Path(folder).resolve()) for name, folder in modules] == [
        ("dice.py", run.parent / "here"),
        ("games.cards", run.parent / "there"),
    ]


def test_a_module_that_is_gone_is_one_clear_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the file that is missing, and how to go on; one that is given takes its place."""
    (run.parent / "here/dice.py").rename(run.parent / "dice.py")

    assert dfz("resume", str(run)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{str(run.parent / 'here/dice.py')!r}, which raises FileNotFoundError: there is no such file" in line
    assert "if it is elsewhere now, name it with --import" in line
    with pytest.raises(InvalidInput):
        import_domain_modules([], run)

    assert "die" not in REGISTRY.defined
    import_domain_modules(["dice.py"], run)
    assert {"die", "card"} <= REGISTRY.defined.keys()


def test_a_module_that_the_run_names_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To import is to execute: each module that nobody has named on the command line is told."""
    import_domain_modules([], run)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert str(run.parent / "here/dice.py") in lines[0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_modules_that_another_users_run_names_are_not_executed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the module; it is imported only if it is named on the command line."""
    os.chown(run, 12345, 12345)
    with pytest.raises(InvalidInput, match="another user's; if you trust that module, name it with --import"):
        import_domain_modules([], run)
    assert "die" not in REGISTRY.defined
    monkeypatch.chdir(run.parent / "there")
    import_domain_modules(["../here/dice.py", "games.cards"], run)
    assert {"die", "card"} <= REGISTRY.defined.keys()


def test_modules_of_a_run_that_came_from_elsewhere_are_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run folder that somebody has given executes nothing of what it names; the one error says how to allow it."""
    gift = tmp_path / "gift"
    imports = (("helpers_of_gift.py", "gift"), ("games.cards", str(tmp_path / "there")))
    JournalWriter.create(gift, {}, opening=Opening("driver", imports).to_json()).close()
    (gift / "helpers_of_gift.py").write_text("raise SystemExit('executed')\n")
    path_before = list(sys.path)
    for command in (["resume", "gift"], ["run", "mazes.yaml", "--run-dir", "gift"]):
        assert dfz(*command) == 2
        told = capsys.readouterr().err
        assert "if you trust that module, name it with --import gift/helpers_of_gift.py" in told
        assert f"none for 'games.cards' in {str(tmp_path / 'there')!r}" in told
        assert "executed" not in told
    assert sys.path == path_before


def test_a_run_that_was_moved_asks_for_its_modules(run: Path) -> None:
    """In another place a folder may be somebody else's: its modules are imported only if they are named."""
    run.rename(run.with_name("moved"))
    with pytest.raises(InvalidInput, match="if you trust that module, name it with --import"):
        import_domain_modules([], run.with_name("moved"))
    (run.parent / "link").symlink_to(run.parent)
    run.with_name("moved").rename(run)
    assert len(import_domain_modules([], run.parent / "link" / "run")) == 2


def test_a_module_within_its_run_folder_is_named_each_time(tmp_path: Path) -> None:
    """A module in a run folder comes with the folder, so that a note of an earlier run there says nothing of it."""
    run = begin(tmp_path / "run", ("dice.py", str(tmp_path / "run")))
    (run / "dice.py").write_text(TEXT.format(name="die"))
    with pytest.raises(InvalidInput, match="--import"):
        import_domain_modules([], run)
    assert len(import_domain_modules([str(run / "dice.py")], run)) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"run": 1, "imports": 2}', '{"imports": [["dice.py", "here"]]}', "\xff"])
def test_a_note_that_can_not_be_read_says_nothing(run: Path, text: str) -> None:
    """A note that is damaged is none: the modules are asked for."""
    (note,) = (
        one for one in Path(os.environ["XDG_STATE_HOME"]).glob("dfz_ray/imports/*") if str(run) in one.read_text()
    )
    assert note.stat().st_mode & 0o777 == 0o600
    note.write_text(text, "latin-1")
    with pytest.raises(InvalidInput, match="--import"):
        import_domain_modules([], run)


def test_a_note_that_can_not_be_written_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the state folder can't be written, the run goes on, and a warning says what that means."""
    (run.parent / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(run.parent / "file"))
    remember_imports(run, [("dice.py", str(run.parent / "here"))])
    assert "whoever goes on here will be asked for --import" in caplog.text


def test_old_notes_of_lost_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many notes the oldest go whose runs are gone; those of runs that are there, and the newest ones, stay."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(remembered_imports, "MANY_NOTES", 3)
    runs = [tmp_path / f"run-{number}" for number in range(7)]
    runs[1].mkdir()
    for age, run in enumerate(runs):
        earlier = set(tmp_path.glob("state/**/*.json"))
        remember_imports(run, [("dice.py", "/elsewhere")])
        (note,) = set(tmp_path.glob("state/**/*.json")) - earlier
        os.utime(note, (age, age))

    assert [run for run in runs if find_remembered(run)] == [runs[1], *runs[3:]]


def test_a_study_goes_on_with_modules_that_its_user_trusts(tmp_path: Path) -> None:
    """The plan of a study that came from somebody else names modules, too: importing them would execute them."""
    study = tmp_path / "study"
    study.mkdir()
    file = str(tmp_path / "here" / "dice.py")
    kept = (file, "games.cards")

    with pytest.raises(InvalidInput) as refused:
        find_trusted_modules(study, kept, ())
    assert [problem.found for problem in refused.value.problems] == [f"none for {file!r}", "none for 'games.cards'"]

    elsewhere = str(tmp_path / "there" / "dice.py")
    assert find_trusted_modules(study, kept, (elsewhere, "games.cards")) == (elsewhere, "games.cards")
    with pytest.raises(InvalidInput, match="a module of the study"):
        find_trusted_modules(study, kept, (file, "games.cards", "other"))

    remember_imports(study, [("dice.py", str(tmp_path / "here")), ("games.cards", str(tmp_path))])
    assert find_trusted_modules(study, kept, ()) == kept
    study.rename(tmp_path / "moved")
    with pytest.raises(InvalidInput, match="--import"):
        find_trusted_modules(tmp_path / "moved", kept, ())
