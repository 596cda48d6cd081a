"""The traceback of an exception as text, whatever the exception is made of.

An ordinary one is formatted as Python does it. Formatting others like that can take for ever, or more memory than there
is: groups that share members, chains of thousands, huge texts, source files that are devices. These are told briefly.
"""

from __future__ import annotations

import os
import stat
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import CodeType, TracebackType
from typing import Any, NamedTuple

from dfz_ray.execution.interruption import (
    find_members,
    get_cause,
    get_context,
    get_traceback,
    is_context_hidden,
    pass_on_interruption,
)

EXCEPTIONS_LIMIT = 100
"""An ordinary exception has come from fewer others, those that it has collected included."""
FRAMES_LIMIT = 5_000
CHARACTERS_LIMIT = 100_000
NAME_CHARACTERS = 1_000
SOURCE_BYTES = 2**23
"""Lines of a larger source file are not shown."""
SHOWN_EXCEPTIONS = 10
SHOWN_FRAMES = 20
"""The outermost and as many of the innermost frames that are shown of an exception that is not ordinary."""
SHOWN_CHARACTERS = 1_000
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"
_READ_BY_FORMATTING = {
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__traceback__",
    "__notes__",
    "__getattribute__",
}
_PLACE_TEXTS = ("filename", "text", "msg")
_PLACE_NUMBERS = ("lineno", "offset", "end_lineno", "end_offset")
_READ_OF: tuple[tuple[type[BaseException], set[str]], ...] = (
    (SyntaxError, _READ_BY_FORMATTING | {*_PLACE_TEXTS, *_PLACE_NUMBERS}),
    (BaseExceptionGroup, _READ_BY_FORMATTING | {"exceptions"}),
    (BaseException, _READ_BY_FORMATTING),
)
"""The attributes that formatting reads, behind which a class may put code of any kind."""
_IS_HEAP_TYPE = 1 << 9
_LOADERS = ("importlib", "_frozen_importlib", "zipimport")

# Bound here, for a task may put something else in their place.
_format_exception, _extract_tb, _format_list = traceback.format_exception, traceback.extract_tb, traceback.format_list
_stat, _isabs, _join = os.stat, os.path.isabs, os.path.join


class _Line(NamedTuple):
    """A frame of a traceback."""

    code: CodeType
    number: int
    globals: dict[str, Any]


def name_of(error: BaseException) -> str:
    """The name of an exception's class."""
    return shorten(str.__str__(type.__dict__["__name__"].__get__(type(error))), NAME_CHARACTERS)


def text_of(error: BaseException) -> str:
    """The exception as `str` makes it, whatever its class does there."""
    try:
        return str.__str__(str(error))  # a subclass of str, too, may do anything
    except BaseException as worse:
        pass_on_interruption(worse)
        return f"(its __str__ raises {name_of(worse)})"


def shorten(text: str, limit: int) -> str:
    """The text; without its middle if it is longer than the limit."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def format_error(error: BaseException, frames: TracebackType | None) -> str:
    """The traceback of an exception, with what it came from; of its own frames these."""
    try:
        if _is_ordinary(error, frames):
            return "".join(_format_exception(type(error), error, frames))
    except BaseException as worse:
        pass_on_interruption(worse)
    return _format_briefly(error, frames)


def format_stack(frames: TracebackType | None, home: str, innermost: int) -> str:
    """The frames of a traceback behind the last one whose code lies in the folder `home`, without the innermost."""
    lines = _list_lines(frames)
    lines = lines[: len(lines) - innermost]
    ours = [number for number, line in enumerate(lines, 1) if os.path.dirname(line.code.co_filename) == home]
    first, last = max(ours, default=0), len(lines)
    if _are_ordinary(lines):
        shown = "".join(_format_list(_extract_tb(frames)[first:last]))
    else:
        shown = "".join(_tell_lines(lines[first:]))
    return f"Traceback (most recent call last):\n{shown}"


# --- ordinary or not --------------------------------------------------------------------------------------------------


def _is_ordinary(error: BaseException, frames: TracebackType | None) -> bool:
    """True if Python's own formatting of an exception ends soon, and its text is short enough."""
    lines = _list_lines(frames)
    characters, visits = 0, 0
    origins: list[BaseException | None] = [error]
    while origins:
        origin = origins.pop()
        if origin is None:
            continue
        visits += 1  # one that is met twice counts twice, as it is formatted twice, and a circle is found by that
        if origin is not error:
            lines += _list_lines(get_traceback(origin))
        if _is_overridden(type(origin)) or visits > EXCEPTIONS_LIMIT or len(lines) > FRAMES_LIMIT:
            return False
        characters += len(text_of(origin)) + _count_notes(origin)
        if characters > CHARACTERS_LIMIT or (issubclass(type(origin), SyntaxError) and not _is_short_syntax(origin)):
            return False
        members = find_members(origin)
        if len(members) > EXCEPTIONS_LIMIT:
            return False
        origins += [_get_origin(origin), *members]
    return _are_ordinary(lines)


def _get_origin(error: BaseException) -> BaseException | None:
    """The exception that is shown before this one."""
    cause = get_cause(error)
    return cause if cause is not None or is_context_hidden(error) else get_context(error)


def _is_overridden(kind: type) -> bool:
    """True if a class has code of its own where formatting reads attributes."""
    names = next(names for base, names in _READ_OF if issubclass(kind, base))
    for base in type.__dict__["__mro__"].__get__(kind):
        is_written_in_python = type.__dict__["__flags__"].__get__(base) & _IS_HEAP_TYPE
        if is_written_in_python:
            own = type.__dict__["__dict__"].__get__(base)
            if any(type(own.get(name)) not in (type(None), str, int) for name in names & own.keys()):
                return True
    return False


def _count_notes(error: BaseException) -> int:
    """The characters of the notes of an exception; too many if they are not what Python itself makes."""
    notes = getattr(error, "__notes__", None)
    if notes is None:
        return 0
    if type(notes) is not list or len(notes) > EXCEPTIONS_LIMIT or set(map(type, notes)) - {str}:
        return CHARACTERS_LIMIT + 1
    return sum(map(len, notes))


def _is_short_syntax(error: BaseException) -> bool:
    """True if the place that a SyntaxError names is short enough to be shown."""
    texts = [getattr(error, name) for name in _PLACE_TEXTS]
    numbers = [getattr(error, name) for name in _PLACE_NUMBERS]
    return all(text is None or (type(text) is str and len(text) <= CHARACTERS_LIMIT) for text in texts) and all(
        number is None or (type(number) is int and abs(number) <= CHARACTERS_LIMIT) for number in numbers
    )


def _list_lines(frames: TracebackType | None) -> list[_Line]:
    lines: list[_Line] = []
    while frames is not None:
        frame = frames.tb_frame
        lines.append(_Line(frame.f_code, frames.tb_lineno, frame.f_globals))
        frames = frames.tb_next
    return lines


def _are_ordinary(lines: list[_Line]) -> bool:
    """True if the frames are few, and their source can be looked up."""
    files = {line.code.co_filename: line for line in lines}
    names = [*files, *[line.code.co_name for line in lines]]
    return (
        len(lines) <= FRAMES_LIMIT
        and sum(map(len, names)) <= CHARACTERS_LIMIT
        and all(_is_source_ordinary(line) for line in files.values())
    )


def _is_source_ordinary(line: _Line) -> bool:
    """True if the source of a frame is a regular file of some size, or can't be found where Python looks for it."""
    name = line.code.co_filename
    if name.startswith("<"):
        return True
    places = [name] if _isabs(name) else [name, *[_join(folder, name) for folder in sys.path]]
    is_found = False
    for place in places:
        try:
            found = _stat(place)
        except (OSError, ValueError):
            continue
        is_found = True
        if not stat.S_ISREG(found.st_mode) or found.st_size > SOURCE_BYTES:
            return False
    loader = dict.get(line.globals, "__loader__")  # it is asked for the source if there is no file
    of_loader = type(loader) if not isinstance(loader, type) else loader
    return is_found or loader is None or str(of_loader.__module__).startswith(_LOADERS)


# --- briefly ----------------------------------------------------------------------------------------------------------


def _format_briefly(error: BaseException, frames: TracebackType | None) -> str:
    """The last exceptions of a chain, without source lines, and one line for each collected one."""
    parts = [_tell(error, frames)]
    seen = {id(error)}
    while (origin := _get_origin(error)) is not None and id(origin) not in seen:
        seen.add(id(origin))
        parts.append(_CAUSED if origin is get_cause(error) else _DURING)
        if len(seen) > SHOWN_EXCEPTIONS:
            parts.append("(earlier exceptions are left out)\n")
            break
        parts.append(_tell(origin, get_traceback(origin)))
        error = origin
    return "".join(reversed(parts))


def _tell(error: BaseException, frames: TracebackType | None) -> str:
    told = "".join(_tell_lines(_list_lines(frames)))
    members = find_members(error)
    collected = [f"  | {_tell_name(member)}\n" for member in members[:SHOWN_EXCEPTIONS]]
    if len(members) > SHOWN_EXCEPTIONS:
        collected.append(f"  | ... and {len(members) - SHOWN_EXCEPTIONS} more\n")
    return f"Traceback (most recent call last):\n{told}{_tell_name(error)}\n{''.join(collected)}"


def _tell_name(error: BaseException) -> str:
    return f"{name_of(error)}: {shorten(text_of(error), SHOWN_CHARACTERS)}"


def _tell_lines(lines: list[_Line]) -> Iterator[str]:
    left_out = len(lines) - 2 * SHOWN_FRAMES
    if left_out <= 0:
        yield from _tell_each(lines)
        return
    yield from _tell_each(lines[:SHOWN_FRAMES])
    yield f"  ... {left_out} frames left out ...\n"
    yield from _tell_each(lines[-SHOWN_FRAMES:])


def _tell_each(lines: Iterable[_Line]) -> Iterator[str]:
    for code, number, _ in lines:
        file, name = shorten(code.co_filename, NAME_CHARACTERS), shorten(code.co_name, NAME_CHARACTERS)
        yield f'  File "{file}", line {number}, in {name}\n'
