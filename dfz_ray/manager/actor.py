"""The Ray actor that a manager is: its threads take turns in one event loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import ray

from dfz_ray.manager.loop_thread import LoopThread

FILES = "files"
"""The concurrency group of the calls that wait for a file: they hold no thread that others need."""


def make_actor(manager: type) -> type:
    """The class of an actor that has the public methods of a manager, each a turn of its event loop.

    Its calls are left out of Ray's dashboard, where they would hide the leases. The actor's start stays there: the
    dashboard takes it as the parent of what the actor calls, and groups no call whose parent is hidden.
    """

    def start(self: Any, *arguments: Any, **options: Any) -> None:
        self.manager, self.loop = manager(*arguments, **options), LoopThread()
        self.loop.start()

    members: dict[str, Any] = {
        name: ray.method(**_options(name))(_pass_on(method))
        for name, method in inspect.getmembers(manager, inspect.isfunction)
        if not name.startswith("_")
    }
    members |= {"__init__": start, "__repr__": lambda self: repr(self.manager), "__doc__": manager.__doc__}
    return type(manager.__name__, (), members)


def _options(name: str) -> dict[str, Any]:
    return {"enable_task_events": False} | ({"concurrency_group": FILES} if name == "get_file" else {})


def _pass_on(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any) -> Any:
        return self.loop.call(method, self.manager, *arguments)

    # Without a reference to the method, as functools.wraps leaves one: Ray would look for the options there.
    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call
