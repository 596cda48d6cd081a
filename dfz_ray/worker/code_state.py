"""The code that a process executes: the functions of modules, the modules themselves, and where they are found.

A task may patch the functions of a module. So this module binds those that it needs when it is imported.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import hashlib
import json
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any

import msgpack
import psutil
import threadpoolctl

from dfz_ray.worker.dict_versions import DictVersions

if TYPE_CHECKING:
    from dfz_ray.worker.state_parts import Value

_tuple, _zip, _vars, _setattr, _len, _map, _all, _enumerate = tuple, zip, vars, setattr, len, map, all, enumerate
_repeat = repeat

Readers = list[tuple[Any, Callable[[Any], Any]]]
"""Names' spaces, each with what reads several of its values at once."""
_MODULES_IN_USE = (
    *(builtins, os, os.path, signal, time, json, pickle, threading, traceback, socket),
    *(contextlib, functools, gc, hashlib, struct, msgpack, psutil, threadpoolctl),
)
"""Modules whose functions dfz_ray and Ray need."""
_CLASSES_IN_USE = (
    *(threading.Thread, threading.Condition, threading.Event, socket.socket, json.JSONEncoder, json.JSONDecoder),
    *(contextlib.suppress, contextlib.ExitStack, contextlib._GeneratorContextManager, traceback.TracebackException),
)
"""Classes whose methods they need, and other tasks, too."""
_OWN_MODULES = ("dfz_ray.worker.", "dfz_ray.execution.", "dfz_ray.protocol.", "dfz_ray.specs.")
"""Modules that execute tasks, and report what they return."""


class _Names:
    """Reads the callables of some modules or classes, as they were found at the first reading.

    As long as those of a module or class are what they were, it gives them as the same tuple. It reads only again what
    may have changed: Ray itself sets a function of the module signal before each call, and sets it back.
    """

    def __init__(self, list_spaces: Callable[[], list[Any]]) -> None:
        self._list_spaces = list_spaces
        self._names: list[tuple[Any, str]] = []
        self._readers: Readers = []
        self._versions = DictVersions(())
        self._seen: list[int] = []
        """The numbers that the values had; set after these, for to read them may fail."""
        self._values: Value = ()

    def __call__(self) -> Value:
        if not self._readers:
            for space in self._list_spaces():
                names = [name for name, value in vars(space).items() if callable(value) or type(value) in _DESCRIPTORS]
                if names:
                    self._readers.append((vars(space), itemgetter(names[0], *names)))  # of one name it returns no tuple
                    self._names += [(space, name) for name in (names[0], *names)]
            self._versions = DictVersions([space for space, _ in self._readers])
        found = self._versions.read()
        if not found or found != self._seen:
            self._read_changed(found or _repeat(0), self._seen or _repeat(None))
            self._seen = found
        return self._values

    def _read_changed(self, numbers: Iterable[int], seen: Iterable[int | None]) -> None:
        values = list(self._values) or [()] * _len(self._readers)
        for position, ((space, read), number, before) in _enumerate(_zip(self._readers, numbers, seen)):
            found = values[position] if number == before else read(space)
            if not _are_same(found, values[position]):
                values[position] = found
        if not _are_same(values, self._values):
            self._values = _tuple(values)

    def put_back(self, values: Value) -> None:
        """Set the callables that are not what they were."""
        for (space, name), value in _zip(self._names, chain.from_iterable(values)):
            if _vars(space).get(name) is not value:
                _setattr(space, name, value)
        self._values = values  # if they are read to be these, they are these very tuples again


def _are_same(found: Sequence[Any], known: Sequence[Any]) -> bool:
    return _len(found) == _len(known) and _all(_map(is_, found, known))


_DESCRIPTORS = (property, staticmethod, classmethod)


def _list_own_spaces() -> list[Any]:
    """The modules of dfz_ray that are imported when a worker's first lease begins, and their classes."""
    modules = [module for name, module in list(_modules.items()) if name.startswith(_OWN_MODULES)]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return [*modules, *[one for one in dict.fromkeys(classes) if one.__module__.startswith(_OWN_MODULES)]]


FUNCTIONS = _Names(lambda: [*_MODULES_IN_USE, *_CLASSES_IN_USE])
"""Functions that dfz_ray and Ray need."""
FUNCTIONS()
OWN_CODE = _Names(_list_own_spaces)
"""The code of dfz_ray itself, as the first lease of a process finds it."""

_modules = sys.modules
_MODULES = [
    name
    for name in _modules
    if name.partition(".")[0] in {*sys.stdlib_module_names, "dfz_ray", "ray", "msgpack"} - {"__main__"}
]
"""Modules that are imported now, and whose functions import them anew as they are called."""


_find_modules = itemgetter(*_MODULES)


class _ModuleTable:
    """Reads the table of modules, and those in it that others import anew as they are called."""

    def __init__(self) -> None:
        self._versions = DictVersions((_modules,))
        self._seen: list[int] = []
        self._values: Value = (None,)

    def __call__(self) -> Value:
        found = self._versions.read()
        if not found or found != self._seen or self._values[0] is not sys.modules:
            self._values = (sys.modules, *_find_modules(_modules))
            self._seen = found
        return self._values


read_modules = _ModuleTable()


def put_modules_back(values: Value) -> None:
    """Set the table of modules, and what was in it."""
    sys.modules = _modules
    _modules.update(_zip(_MODULES, values[1:]))


class ImportList:
    """Reads a list of the module sys through which modules are found."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._list: list[Any] = getattr(sys, name)

    def __call__(self) -> Value:
        """The content of the list."""
        return _tuple(getattr(sys, self._name))

    def put_back(self, values: Value) -> None:
        """Set the list, and what is in it."""
        self._list[:] = values
        setattr(sys, self._name, self._list)


def join_paths(found: Value, saved: Value) -> Value:
    """Let folders that came with an import stay, for it may look for more modules there, but hide no others."""
    return (*saved, *[folder for folder in found if folder not in saved])


def join_hooks(found: Value, saved: Value) -> Value:
    """Let import hooks stay where a library has put them: it installs them once, and rests on them."""
    return found
