"""An answer that comes later. Who waits for it is told at once, not in the event loop's next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
Used = TypeVar("Used")

_running: set[asyncio.Task[None]] = set()
"""Coroutines on their way; asyncio itself would let them be collected."""


class Later(Generic[Value]):
    """An answer, or an error, that comes later, for one receiver. All of its methods belong to the loop's thread."""

    __slots__ = ("_error", "_receive", "_value", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._receive: Callable[[], None] | None = None

    def set(self, value: Value) -> None:
        """This is the answer, unless it is there already."""
        if not self.is_set:
            self._value = value
            self._tell()

    def fail(self, error: BaseException) -> None:
        """The answer is an error, unless it is there already."""
        if not self.is_set:
            self._error = error
            self._tell()

    def _tell(self) -> None:
        self.is_set = True
        if self._receive is not None:
            self._receive()

    def when_set(self, receive: Callable[[], None]) -> None:
        """Call something once the answer is there."""
        if self.is_set:
            receive()
        else:
            self._receive = receive

    def read(self) -> Value:
        """The answer, which is there; raises the error if it is one."""
        if self._error is not None:
            raise self._error
        value: Value = self._value
        return value

    def then(self, use: Callable[[Value], Used]) -> Later[Used]:
        """The answer of a function of this answer."""
        used: Later[Used] = Later()

        def receive() -> None:
            try:
                used.set(use(self.read()))
            except BaseException as error:
                used.fail(error)

        self.when_set(receive)
        return used

    def __await__(self) -> Generator[Any, None, Value]:
        """Wait for the answer in a coroutine."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when_set(lambda: None if future.done() else future.set_result(None))
        yield from future.__await__()
        return self.read()


def run_later(coroutine: Coroutine[Any, Any, Value]) -> Later[Value]:
    """Run a coroutine in the event loop; its answer comes later."""
    later: Later[Value] = Later()

    async def run() -> None:
        try:
            later.set(await coroutine)
        except BaseException as error:
            later.fail(error)

    task = asyncio.get_running_loop().create_task(run())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return later
