"""The reason why a task failed, as plain text."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NamedTuple

from dfz_ray.execution.interruption import Cause, get_traceback
from dfz_ray.execution.traceback_text import format_error, format_stack, name_of, shorten, text_of

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


def describe_exception(error: BaseException, skip_frames: int = 0) -> Failure:
    """An exception as plain text, whatever its class does in `__str__` or `__repr__`."""
    name, text = name_of(error), text_of(error)
    frames = get_traceback(error)
    for _ in range(skip_frames):
        frames = frames.tb_next if frames else None
    return make_failure(_reason_of(error, text), f"{name}: {text}" if text else name, format_error(error, frames))


_GPU_MEMORY_ERRORS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Torch's words where CUDA or cuBLAS got no memory, not torch's own allocator."""


def _reason_of(error: BaseException, text: str) -> str:
    """`out_of_memory` if a GPU had no memory left for the task: it alone is to blame, for its process goes on."""
    with contextlib.suppress(Exception):  # a task may have put anything in the place of that class
        if isinstance(error, sys.modules["torch.cuda"].OutOfMemoryError):
            return "out_of_memory"
        if isinstance(error, RuntimeError) and any(words in text for words in _GPU_MEMORY_ERRORS):
            return "out_of_memory"
    return "exception"


def describe_interruption(error: BaseException, cause: Cause) -> Failure:
    """The place at which a task was interrupted: its own frames, without those of the code that interrupted it."""
    try:
        lines = format_stack(get_traceback(error), _HERE, cause.frames)
    except Exception as worse:
        lines = f"(its traceback can't be formatted: {name_of(worse)})"
    return make_failure(cause.reason, cause.message, lines)


def make_failure(reason: str, message: str, lines: str | None = None) -> Failure:
    """A failure whose texts can be stored anywhere."""
    traceback = None if lines is None else clean(shorten(lines, TRACEBACK_CHARACTERS))
    return Failure(reason, clean(shorten(message, MESSAGE_CHARACTERS)), traceback)


def clean(text: str) -> str:
    """The text with lone surrogates escaped, because no database and no terminal takes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
