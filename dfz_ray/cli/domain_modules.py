"""`--import`: a user's modules that define domains, and those that a run or a study was begun with."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import click

from dfz_ray.cli.remembered_imports import find_remembered
from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.journal.openings import Import, module_name, read_imports
from dfz_ray.specs.problems import show_name


def import_domain_modules(names: Iterable[str], run: Path | None = None) -> dict[Import, ModuleType]:
    """Import modules, or files `NAME.py`, that define domains: first those that the run in a folder was opened with.

    A module of `names` takes the place of the run's module of that name. Raises InvalidInput if one can't be imported,
    and before it imports anything if the run names one with which this user has not begun it there.
    """
    given = list(names)
    replaced = set(map(module_name, given))
    noted = [one for one in read_imports(run) if module_name(one[0]) not in replaced] if run else []
    _refuse_foreign(noted, run)
    modules = {}
    for name, folder in noted:
        place = _place_of(name, folder)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        hint = f"the run in {run} was begun with it; if it is elsewhere now, name it with --import"
        modules[name, folder] = _import(place, hint)
        click.echo(f"imported {show_name(place)}, with which the run was begun", err=True)
    for name in given:
        module = _import(name)
        modules[Path(name).name if name.endswith(".py") else name, str(_root_of(module))] = module
    return modules


def find_trusted_modules(folder: Path, kept: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """The modules with which the study in a folder goes on: those that it keeps, or the given ones of their names.

    Raises InvalidInput if one is not given, and this user has not begun the study there with it; or if the study has
    no module of a name that is given.
    """
    places = {module_name(name): name for name in given}
    names = set(map(module_name, kept))
    problems = [
        Problem("--import", show_name(name), "a module of the study, or none", "the study has its options")
        for name in given
        if module_name(name) not in names
    ]
    remembered = find_remembered(folder) if folder.stat().st_uid == os.getuid() else set()
    for name in kept:
        is_own = any(_place_of(*one) == name for one in remembered)
        if module_name(name) not in places and not is_own:
            why = f"you did not begin the study in {folder} with it, or that folder was elsewhere"
            hint = f"{why}; if you trust that module, name it with --import {show_name(name)}"
            problems.append(Problem("--import", f"none for {show_name(name)!r}", "it", hint))
    if problems:
        raise InvalidInput(problems, "command line")
    return tuple(places.get(module_name(name), name) for name in kept)


def ship_domain_modules(names: Iterable[str], run: Path | None = None) -> tuple[Import, ...]:
    """Import modules that define domains, and ship them by value: workers need not have them.

    Returns the names and folders of the modules, for the journal.
    """
    modules = import_domain_modules(names, run)
    if modules:
        from dfz_ray.driver.domain_shipping import ship_by_value

        for module in modules.values():
            ship_by_value(module)
    return tuple(modules)


def _refuse_foreign(noted: Iterable[Import], run: Path | None) -> None:
    """Refuse modules that a run names, unless this user has begun it there with them: to import is to execute."""
    if run is None:
        return
    remembered = find_remembered(run)
    is_own = not noted or run.stat().st_uid == os.getuid()
    why = (
        f"you did not begin the run in {run} with it, or that folder was elsewhere"
        if is_own
        else (f"the run in {run} is another user's")
    )
    problems = []
    for name, folder in noted:
        if not is_own or (name, folder) not in remembered:
            place = show_name(_place_of(name, folder))
            found = f"none for {place!r}" if name.endswith(".py") else f"none for {place!r} in {show_name(folder)!r}"
            hint = f"{why}; if you trust that module, name it with --import {place}"
            problems.append(Problem("--import", found, "it", hint))
    if problems:
        raise InvalidInput(problems, "command line")


def _place_of(name: str, folder: str) -> str:
    """The argument of --import for a module that a run names."""
    return str(Path(folder, name)) if name.endswith(".py") else name


def _import(name: str, hint: str = "") -> ModuleType:
    try:
        return _import_file(Path(name)) if name.endswith(".py") else _import_module(name)
    except (Exception, SystemExit) as error:  # a script may call sys.exit
        words = " ".join(str(error).split())
        found = f"{show_name(name)!r}, which raises {type(error).__name__}: {words}"
        raise InvalidInput([Problem("--import", found, "a module or FILE.py", hint)], "command line") from None


def _root_of(module: ModuleType) -> Path:
    """The absolute folder from which a module is imported."""
    file = Path(getattr(module, "__file__", None) or ".").absolute()
    depth = module.__name__.count(".") + (file.name == "__init__.py")
    return file.parents[depth]


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does; `dfz` itself is a script
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("there is no such file")
    if (known := _find_origin(path.stem)) is not None and Path(known).resolve() != path.resolve():
        raise ImportError(f"another module is called {path.stem!r}; rename the file")
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    sys.path.insert(0, str(path.resolve().parent))  # as for a script: it may import its neighbours
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _find_origin(name: str) -> str | None:
    """The file of a module of that name, if there is one."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: the module is loaded, and does not know its file
        return name if name in sys.modules else None
    return None if spec is None else spec.origin or name
