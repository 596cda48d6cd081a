"""`--import`, and the modules that a run was begun with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import dfz

from dfz_ray.cli.domain_modules import import_domain_modules
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
    JournalWriter.create(tmp_path / "run", {}, opening=Opening("driver", imports).to_json()).close()
    return tmp_path / "run"


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
