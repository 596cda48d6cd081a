"""The reason why a task failed, as plain text."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NamedTuple

from dfz_ray.execution.interruption import Interruption

MESSAGE_CHARACTERS = 4_000
TRACEBACK_CHARACTERS = 20_000
_HERE = os.path.dirname(__file__)


class Failure(NamedTuple):
    """The reason why a task failed, as plain text that can be stored anywhere."""

    reason: str
    message: str
    traceback: str | None = None
    payload: bytes | None = None
    """The exception as the domain's `pack_error` packs it. It is handed to the caller and never written down."""


def pass_on_interruption(error: BaseException) -> None:
    """Raise the interruption that an error is, or came from: an error raised while cleaning up must not hide it."""
    seen: set[int] = set()
    origins: list[BaseException | None] = [error]
    while origins:
        origin = origins.pop()
        if origin is None or id(origin) in seen:
            continue
        seen.add(id(origin))
        if issubclass(type(origin), Interruption):
            raise origin
        origins += [read(origin) for read in _READ_ORIGINS]


_READ_ORIGINS = [BaseException.__dict__[name].__get__ for name in ("__context__", "__cause__")]
"""Past what the error's own class may do."""


def describe_exception(error: BaseException, skip_frames: int = 0) -> Failure:
    """An exception as plain text, whatever its class does in `__str__` or `__repr__`."""
    name = type(error).__name__
    try:
        text = str.__str__(str(error))  # a subclass of str, too, may do anything
    except BaseException as worse:
        text = f"(its __str__ raises {type(worse).__name__})"
    try:
        frames = error.__traceback__
        for _ in range(skip_frames):
            frames = frames.tb_next if frames else None
        lines = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException as worse:
        lines = f"(its traceback can't be formatted: {type(worse).__name__})"
    return _make_failure(_reason_of(error), f"{name}: {text}" if text else name, lines)


def _reason_of(error: BaseException) -> str:
    """`out_of_memory` if a GPU had no memory left for the task: it alone is to blame, for its process goes on."""
    ran_out = getattr(sys.modules.get("torch.cuda"), "OutOfMemoryError", ())
    return "out_of_memory" if issubclass(type(error), ran_out) else "exception"


def describe_interruption(interruption: Interruption) -> Failure:
    """The place at which a task was interrupted: its own frames, without those of the code that interrupted it."""
    stack = traceback.extract_tb(interruption.__traceback__)
    del stack[len(stack) - interruption.frames :]
    ours = [number for number, frame in enumerate(stack, 1) if os.path.dirname(frame.filename) == _HERE]
    frames = stack[max(ours, default=0) :]
    lines = "".join(["Traceback (most recent call last):\n", *traceback.format_list(frames)])
    return _make_failure(interruption.reason, interruption.message, lines)


def _make_failure(reason: str, message: str, lines: str) -> Failure:
    return Failure(reason, clean(shorten(message)), clean(shorten(lines, TRACEBACK_CHARACTERS)))


def shorten(text: str, limit: int = MESSAGE_CHARACTERS) -> str:
    """The text; without its middle if it is longer than the limit."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def clean(text: str) -> str:
    """The text with lone surrogates escaped, because no database and no terminal takes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
