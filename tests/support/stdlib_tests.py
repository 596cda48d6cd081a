"""The standard library's tests of executors, which are found in an interpreter and never copied.

An interpreter is often installed without them. So they are looked for in the running interpreter, and then in the
others of this machine; their version may differ.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "test_concurrent_futures"
PACKAGE = "stdlib_concurrent_futures_tests"
"""The name under which they are loaded here."""
HINT = (
    "the standard library's executor tests are in no interpreter here: install the tests of a Python from 3.12 on "
    "(Debian: apt install libpython3.13-testsuite)"
)
VERSIONS = range(20, 11, -1)
"""Minor versions of Python 3, the newest first; from 3.12 on these tests are a package."""

Case = tuple[str, str, str]
"""Module, class, method."""

GENERIC_CLASSES = {
    ("executor", "ExecutorTest"),
    ("test_shutdown", "ExecutorShutdownTest"),
    ("test_wait", "WaitTests"),
    ("test_as_completed", "AsCompletedTests"),
    ("test_future", "FutureTests"),
}
"""Classes whose tests hold for any executor, or future."""
GENERIC_CASES: tuple[Case, ...] = (
    ("test_process_pool", "ProcessPoolExecutorTest", "test_map_chunksize"),
    ("test_init", "InitializerMixin", "test_initializer"),
)
"""Tests that hold for any executor, in modules that are otherwise left out."""

INSIDES = {
    "test_process_pool": "looks at a process pool's processes, queues and semaphores, or kills them",
    "test_thread_pool": "looks at a thread pool's threads, or shares locks and lists with them",
    "test_interpreter_pool": "looks at a pool of subinterpreters",
    "test_deadlock": "breaks a process pool's pipes and queues",
    "test_init": "reads a pool's log and its `_broken`, or multiprocessing's resource tracker",
}
"""Modules that are left out except for GENERIC_CASES, each with the reason."""
INSIDE_CLASSES = {
    ("test_shutdown", "ThreadPoolShutdownTest"): "looks at a thread pool's threads",
    ("test_shutdown", "ProcessPoolShutdownTest"): "looks at a process pool's processes and queues",
    ("test_wait", "ThreadPoolWaitTests"): "shares an event with the calls, which only threads can",
}

UNKNOWN_IN_OLDER = {
    "Py_GIL_DISABLED": False,
    "requires_gil_enabled": lambda reason: lambda test: test,
    "force_not_colorized": lambda test: test,
}
"""Names of test.support that the tests of a newer Python need, with their values in an older one."""
OTHER_IN_OLDER = {"skip_if_sanitizer": lambda reason=None, **_: lambda test: test}
"""Functions of test.support that take fewer arguments in an older Python; Python is not built with a sanitizer here."""


def find_folder() -> Path | None:
    """The folder of these tests, in the interpreter that runs or in another one of this machine."""
    for folder in _candidates():
        if (folder / FOLDER / "util.py").is_file():
            return folder / FOLDER
    return None


def _candidates() -> Iterator[Path]:
    """The folders where a `test` package may be."""
    spec = importlib.util.find_spec("test")
    yield from map(Path, (spec.submodule_search_locations or ()) if spec else ())
    for minor in VERSIONS:
        yield from Path(sys.base_prefix).parent.glob(f"*3.{minor}*/lib/python3.{minor}/test")
        program = shutil.which(f"python3.{minor}")
        if program is not None:
            ask = "import sysconfig; print(sysconfig.get_path('stdlib'))"
            answer = subprocess.run([program, "-c", ask], capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                yield Path(answer.stdout.strip()) / "test"
        for prefix in ("/usr", "/usr/local"):
            yield Path(prefix) / "lib" / f"python3.{minor}" / "test"


def load(folder: Path) -> dict[str, ModuleType]:
    """The modules of these tests, by their names in the package."""
    import test

    if importlib.util.find_spec("test.support") is None:
        test.__path__.append(str(folder.parent))
    support = importlib.import_module("test.support")
    for name, value in UNKNOWN_IN_OLDER.items():
        if not hasattr(support, name):
            setattr(support, name, value)
    if sys.version_info < (3, 13):
        for name, value in OTHER_IN_OLDER.items():
            setattr(support, name, value)
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    names = [path.stem for path in sorted(folder.glob("*.py")) if path.stem not in ("__init__", *INSIDES)]
    needed = dict.fromkeys([*names, *[module for module, *_ in GENERIC_CASES]])
    return {name: importlib.import_module(f"{PACKAGE}.{name}") for name in needed}


def find_cases(modules: dict[str, ModuleType]) -> Iterator[Case]:
    """All tests that these modules define themselves. The mixin of the tests of all pools is found only once."""
    for name, module in modules.items():
        for class_name, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == module.__name__:
                own = [method for method in vars(value) if method.startswith("test")]
                yield from ((name, class_name, method) for method in own)


def why_left_out(case: Case) -> str | None:
    """The reason why a test does not apply to DFZExecutor; None if it applies."""
    module, class_name, _ = case
    if case in GENERIC_CASES:
        return None
    return INSIDES.get(module) or INSIDE_CLASSES.get((module, class_name))


def is_generic(case: Case) -> bool:
    """True if a test holds for any executor."""
    return case in GENERIC_CASES or case[:2] in GENERIC_CLASSES


def run_case(modules: dict[str, ModuleType], case: Case, executor_type: type, make_future: Callable[[], Any]) -> str:
    """Run a test with our executor, or future, in place of theirs; returns why it failed, or an empty text."""
    module, (name, class_name, method) = modules[case[0]], case
    util = modules["util"]
    theirs = getattr(module, class_name)
    if name == "test_future":
        with_ours = type(class_name, (theirs,), {})
    else:
        mixin = type("DFZMixin", (util.ExecutorMixin,), {"executor_type": executor_type, "create_event": _create_event})
        with_ours = type(class_name, (theirs, mixin, util.BaseTestCase), {})
    replaced = module.__dict__.get("Future"), util.Future
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # one of the tests reads the log from stderr
    try:
        if name == "test_future":
            module.Future = util.Future = make_future  # type: ignore[attr-defined]
        outcome = unittest.TestResult()
        with_ours(method).run(outcome)
    finally:
        root.handlers = handlers
        util.Future = replaced[1]  # type: ignore[attr-defined]
        if replaced[0] is not None:
            module.Future = replaced[0]  # type: ignore[attr-defined]
    return "\n".join(text for _, text in [*outcome.failures, *outcome.errors])


def _create_event(test: unittest.TestCase) -> Any:
    """An event that calls can wait for, as the mixins of process pools make one."""
    manager = multiprocessing.Manager()
    test.addCleanup(manager.shutdown)
    return manager.Event()


def prelude(folder: Path, address: str, output: Path) -> str:
    """The first lines of a program that such a test starts: concurrent.futures has our executor there.

    What its calls print would go to Ray's logs; here it goes to the file `output`.
    """
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    return (
        f"import os, sys; sys.path[:0] = {paths!r}; os.environ['RAY_ADDRESS'] = {address!r}\n"
        "import concurrent.futures, pathlib, dfz_ray\nfrom support import stdlib_tests\n"
        "from dfz_ray.driver.domain_shipping import ship_by_value\n"
        "concurrent.futures.DFZExecutor = dfz_ray.DFZExecutor\n"
        f"modules = stdlib_tests.load(pathlib.Path({os.fspath(folder)!r}))\n"
        "def append(text):\n"
        f"    with open({os.fspath(output)!r}, 'a') as file: file.write(f'{{text}}\\n')\n"
        "modules['test_shutdown'].print = append\n"
        "ship_by_value(sys.modules[stdlib_tests.PACKAGE])\n"
        "for name, module in modules.items(): sys.modules[f'test.test_concurrent_futures.{name}'] = module\n"
        "sys.modules['test.test_concurrent_futures'] = sys.modules[stdlib_tests.PACKAGE]\n"
    )
