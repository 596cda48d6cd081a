"""Exceptions that are hard to tell, and exceptions that lie."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import ray.exceptions

from dfz_ray.errors import InfrastructureLost, JournalDamaged, Unserializable
from dfz_ray.execution.interruption import Interruption
from support.hostile_tasks.deed import COMPLETED, DIED, LATE, RAISED, deed, loop

# --- their shape ------------------------------------------------------------------------------------------------------


@deed(RAISED, grows=True)
def a_group_with_shared_members() -> None:
    """Of 2 to the 40 leaves, if each is told wherever it is met."""
    group: Exception = ValueError("shared")
    for _ in range(40):
        group = ExceptionGroup("shared", [group, group])
    raise group


@deed(RAISED)
def a_deep_group() -> None:
    group: Exception = ValueError("deep")
    for _ in range(3000):
        group = ExceptionGroup("deep", [group])
    raise group


@deed(RAISED)
def a_wide_group() -> None:
    raise ExceptionGroup("wide", [ValueError("x" * 100) for _ in range(50_000)])


@deed(RAISED)
def a_cause_of_itself() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


@deed(RAISED)
def a_long_chain_of_causes() -> None:
    error = ValueError("the last")
    for number in range(100_000):
        above = ValueError(number)
        above.__cause__ = error
        error = above
    raise error


@deed(RAISED, grows=True)
def causes_and_contexts_that_meet() -> None:
    """A path for each of 2 to the 60 ways through cause or context."""
    error = ValueError("the last")
    for number in range(60):
        above = ValueError(number)
        above.__cause__, above.__context__ = error, ExceptionGroup("both", [error, error])
        error = above
    raise error


@deed(RAISED, grows=True)
def causes_that_never_end() -> None:
    class Endless(Exception):
        @property
        def __cause__(self) -> Any:
            return Endless()

        __context__ = __cause__  # type: ignore[assignment]
        __suppress_context__ = False

    raise Endless


@deed(RAISED, grows=True)
def a_group_that_makes_its_members_anew() -> None:
    class Growing(ExceptionGroup):
        @property
        def exceptions(self) -> Any:
            return (Growing("again", [ValueError()]),) * 2

    raise Growing("growing", [ValueError()])


@deed(RAISED)
def a_long_traceback() -> None:
    sys.setrecursionlimit(20_000)

    def descend(levels: int) -> None:
        if not levels:
            raise ValueError("at the bottom")
        descend(levels - 1)

    try:
        descend(15_000)
    finally:
        sys.setrecursionlimit(1000)


@deed(RAISED)
def notes_without_end() -> None:
    error = ValueError("noted")
    error.__notes__ = ["x" * 10_000] * 1000
    raise error


@deed(RAISED)
def notes_that_are_none() -> None:
    class Notes:
        def __iter__(self) -> Iterator[str]:
            while True:
                yield "again"

        __len__ = __str__ = __repr__ = None  # type: ignore[assignment]

    error = ValueError("noted")
    error.__notes__ = Notes()  # type: ignore[assignment]
    raise error


# --- their words ------------------------------------------------------------------------------------------------------


@deed(RAISED)
def words_that_raise() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit("no words")

        __repr__ = __str__

    raise Mute


@deed(RAISED, hangs=True)
def words_that_never_come() -> None:
    class Slow(Exception):
        def __str__(self) -> str:
            loop()
            return ""

    raise Slow


@deed(RAISED, is_heavy=True)
def words_of_50_mb() -> None:
    class Loud(Exception):
        def __str__(self) -> str:
            return "x" * 50_000_000

    raise Loud


@deed(RAISED)
def words_that_are_no_text() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            return 5  # type: ignore[return-value]

    raise Odd


@deed(RAISED)
def words_that_are_a_strange_text() -> None:
    class Text(str):
        __len__ = __add__ = __str__ = encode = __format__ = __getitem__ = None  # type: ignore[assignment]

    class Odd(Exception):
        def __str__(self) -> str:
            return Text("a text?")

    raise Odd


@deed(RAISED)
def words_that_no_terminal_takes() -> None:
    raise ValueError("\ud800\x00\x1b]0;evil\x07\u202e" * 100)


@deed(RAISED)
def words_that_call_themselves() -> None:
    class Loop(Exception):
        def __str__(self) -> str:
            return f"{self}"

    raise Loop


@deed(RAISED)
def a_line_that_is_no_text() -> None:
    raise SyntaxError("bad", (object(), "line", -(10**30), b"text", "x", None))


@deed(RAISED, hangs=True)
def source_in_a_file_that_never_answers() -> None:
    path = Path(tempfile.mkdtemp()) / "source.py"
    os.mkfifo(path)
    exec(compile("raise ValueError('read my source')", str(path), "exec"))


@deed(RAISED)
def source_of_one_huge_line() -> None:
    path = Path(tempfile.mkdtemp()) / "source.py"
    path.write_text("raise ValueError('read my source')  # " + "x" * 20_000_000)
    try:
        exec(compile("raise ValueError('read my source')", str(path), "exec"))
    finally:
        path.write_text("#" * 10_000_000)


# --- what they say they are -------------------------------------------------------------------------------------------


@deed(RAISED)
def a_forged_deadline() -> None:
    raise Interruption("timeout", "it ran longer than its deadline, it says")


@deed(RAISED)
def a_forged_cancellation() -> None:
    raise Interruption("cancelled", "it was cancelled, it says")


@deed(RAISED)
def a_forged_reason_that_is_no_text() -> None:
    raise Interruption(object(), 7, frames="many")  # type: ignore[arg-type]


@deed(RAISED)
def a_forged_completion() -> None:
    raise Interruption("completed", "all is well", frames=10**9)


@deed(RAISED)
def an_interruption_without_a_reason() -> None:
    class Own(Interruption):
        def __init__(self) -> None:
            pass

        @property
        def reason(self) -> str:  # type: ignore[override]
            raise ValueError("no reason")

    raise Own


@deed(RAISED)
def an_error_from_a_forged_interruption() -> None:
    raise ValueError("clean-up failed") from Interruption("node_lost", "the node was lost, it says")


@deed(RAISED, LATE, hangs=True)
def replace_the_interruption_at_its_deadline() -> None:
    try:
        loop()
    except BaseException as error:
        error.reason, error.message, error.frames = None, [], -1  # type: ignore[attr-defined]
        raise


@deed(RAISED)
def leave_by_exit_0() -> None:
    sys.exit(0)


@deed(RAISED)
def leave_with_an_object() -> None:
    class Code:
        def __str__(self) -> str:
            raise ValueError("no code")

        __repr__ = __str__

    raise SystemExit(Code())


@deed(RAISED)
def raise_a_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


@deed(RAISED)
def raise_the_end_of_a_generator() -> None:
    raise GeneratorExit


@deed(RAISED)
def raise_the_end_of_an_iterator() -> None:
    raise StopIteration({"value": "a result?"})


@deed(RAISED)
def raise_the_end_of_an_async_iterator() -> None:
    raise StopAsyncIteration


@deed(RAISED)
def raise_a_cancellation_of_asyncio() -> None:
    raise asyncio.CancelledError


@deed(RAISED)
def raise_a_lack_of_memory() -> None:
    raise MemoryError


@deed(RAISED)
def raise_a_dead_worker() -> None:
    raise ray.exceptions.WorkerCrashedError


@deed(RAISED)
def raise_a_cancelled_task_of_ray() -> None:
    raise ray.exceptions.TaskCancelledError


@deed(RAISED)
def raise_a_lost_infrastructure() -> None:
    raise InfrastructureLost("the journal can't be written, it says")


@deed(RAISED)
def raise_a_damaged_journal() -> None:
    raise JournalDamaged("the journal is damaged, it says")


@deed(RAISED)
def raise_what_encoding_raises() -> None:
    raise Unserializable("no type at all")


@deed(RAISED)
def raise_what_pydantic_raises() -> None:
    pydantic.TypeAdapter(int).validate_python("no number")


@deed(RAISED)
def a_class_that_lies() -> None:
    class Liar(Exception):
        @property
        def __class__(self) -> Any:
            return Interruption

    raise Liar


@deed(RAISED)
def a_class_of_a_strange_class() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> Any:
            raise ValueError("no name")

        __qualname__ = __module__ = __mro__ = __name__  # type: ignore[assignment]

        def __instancecheck__(cls, _: Any) -> Any:
            raise SystemExit("no instance")

        __subclasscheck__ = __instancecheck__

        def __repr__(cls) -> str:
            raise KeyboardInterrupt

    class Strange(BaseException, metaclass=Meta):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    raise Strange


@deed(RAISED)
def a_class_whose_name_is_no_text() -> None:
    class Name(str):
        def __format__(self, _: str) -> str:
            raise ValueError("no format")

        __str__ = __eq__ = __hash__ = None  # type: ignore[assignment]

    class Odd(Exception):
        pass

    Odd.__module__ = Name("nowhere")  # type: ignore[assignment]
    raise Odd


@deed(RAISED)
def an_error_that_equals_everything() -> None:
    class Equal(Exception):
        def __eq__(self, _: object) -> bool:
            return True

        def __hash__(self) -> int:
            raise TypeError("no hash")

        def __bool__(self) -> bool:
            raise TypeError("no truth")

    raise Equal from Equal()


@deed(RAISED)
def an_error_that_can_not_be_pickled() -> None:
    class Locked(Exception):
        def __init__(self) -> None:
            self.lock = threading.Lock()

    raise Locked


@deed(RAISED)
def an_error_that_kills_who_unpickles_it() -> None:
    class Bomb(Exception):
        def __reduce__(self) -> Any:
            return os._exit, (9,)

    raise Bomb


@deed(RAISED, DIED)
def an_error_that_kills_when_it_goes() -> None:
    class Bomb(Exception):
        def __del__(self) -> None:
            time.sleep(0.001)
            raise SystemExit("gone")

    raise Bomb


@deed(COMPLETED)
def an_error_that_is_returned_to_nobody() -> None:
    thread = threading.Thread(target=sys.exit, args=(9,), daemon=True)
    thread.start()
    thread.join()
