"""`--import`: a user's modules that define domains."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.problems import show


def import_domain_modules(names: Iterable[str]) -> list[ModuleType]:
    """Import modules, or files `NAME.py`, that define domains. Raises InvalidInput if one can't be imported."""
    modules = []
    for name in names:
        try:
            module = _import_file(Path(name)) if name.endswith(".py") else _import_module(name)
        except (Exception, SystemExit) as error:  # a script may call sys.exit
            words = " ".join(str(error).split())
            found = f"{show(name)}, which raises {type(error).__name__}: {words}"
            problem = Problem("--import", found, "a module or FILE.py")
            raise InvalidInput([problem], "command line") from None
        modules.append(module)
    return modules


def ship_domain_modules(names: Iterable[str]) -> None:
    """Import modules that define domains, and ship them by value: workers need not have them."""
    modules = import_domain_modules(names)
    if modules:
        from dfz_ray.driver.domain_shipping import ship_by_value

        for module in modules:
            ship_by_value(module)


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
