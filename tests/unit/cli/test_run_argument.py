"""RUN on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.command_line import dfz
from support.small_run import make_run

from dfz_ray.cli import EXIT_BAD_INPUT
from dfz_ray.journal.last_run import find_run, remember_run
from dfz_ray.specs.settings import read_settings

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize("name", [b"run", b"two words", b" a\n", b"\xff", "Läufe".encode()])
def test_last(name: bytes, tmp_path: Path) -> None:
    """`last` is the run that was begun last, whatever its folder is called and wherever one stands."""
    settings = read_settings({"journal": {"runs_folder": "own/runs"}})
    folder = Path(os.fsdecode(name))

    remember_run(Path("earlier"), settings)
    remember_run(folder, settings)

    assert find_run("last", settings) == tmp_path / folder
    assert find_run("other", settings) == Path("other")


def test_last_is_never_written_through_a_link(tmp_path: Path) -> None:
    """If someone left a link as the pointer to the last run, the pointer replaces it, and its target stays."""
    settings = read_settings({"journal": {"runs_folder": str(tmp_path)}})
    (tmp_path / "precious").write_text("words")
    (tmp_path / ".last").symlink_to(tmp_path / "precious")

    remember_run(tmp_path / "run", settings)

    assert (tmp_path / "precious").read_text() == "words"
    assert find_run("last", settings) == tmp_path / "run"


@pytest.mark.parametrize("name", ["my run", "my run/run.sqlite"])
def test_a_run_that_may_not_be_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the user may not read a run, each command says so with exit code 2; an audit reports no violation."""
    make_run(tmp_path / "my run", ["a"]).close()
    commands = (["status"], ["results"], ["failures"], ["audit"], ["trace"], ["top"], ["replay", "a"], ["cancel", "a"])
    for command, *more in commands:  # imports what is imported late, which another user may not be able to read
        dfz(command, "my run", *more)
    capsys.readouterr()
    (tmp_path / "my run").chmod(0o755)
    (tmp_path / name).chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        codes = [dfz(command, "my run", *more) for command, *more in commands]
    finally:
        os.seteuid(user)

    assert codes == [EXIT_BAD_INPUT] * len(commands)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("error: my run")] == []
    assert err.count("can't be read: ") == len(commands)
