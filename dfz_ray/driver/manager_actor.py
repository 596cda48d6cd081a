"""The manager of this process: a Ray actor, which is started when it is needed, and the answers to calls of it."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dfz_ray.driver.slot_plan import is_call
from dfz_ray.errors import DfzError, InfrastructureLost, ManagerLost
from dfz_ray.manager.actor import FILES, make_actor
from dfz_ray.manager.nodes import is_alive, live_nodes
from dfz_ray.manager.task_manager import TaskManager

LOOK_S = 5.0
"""Seconds after which a driver that waits checks that its node lives; if it is dead, Ray would let it wait for ever."""

OTHER_CALLS = 64
"""A call of the manager that waits holds a thread: one for the lease that lingers on each core, and so many others."""
LEAST_THREADS, MOST_THREADS, MOST_NESTED = 96, 1024, 128
"""A thread takes 60 kB of memory. On a larger cluster, or where calls have own managers, fewer leases linger."""
FILE_CALLS = 16
"""So many further threads bring files to workers, one after the other."""

_starting = threading.Lock()
_manager: Any = None
_manager_session: str | None = None


def get_manager() -> Any:
    """The Ray handle of this process's manager actor, which is started at the first call.

    The actor runs on the node of this process, which holds the run folders, and dies with the process.

    Raises:
        InfrastructureLost: that node is dead.
    """
    global _manager, _manager_session  # noqa: PLW0603 - one manager per process, as there is one Ray per process
    context = ray.get_runtime_context()
    session = context.get_node_id() + context.get_job_id()  # another one after ray.shutdown() and a new start
    with _starting:
        if _manager is None or _manager_session != session:
            _check_node()
            here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)
            cores = sum(node.get("CPU", 0.0) for node in live_nodes())
            most = MOST_NESTED if is_call() else MOST_THREADS
            threads = int(min(max(cores + OTHER_CALLS, LEAST_THREADS), most))
            options = {"max_restarts": 0, "max_concurrency": threads, "concurrency_groups": {FILES: FILE_CALLS}}
            actor = ray.remote(num_cpus=0, **options)(make_actor(TaskManager))
            _manager = actor.options(
                name=f"dfz manager {uuid.uuid4().hex[:8]}",
                scheduling_strategy=here,
            ).remote(is_call(), os.nice(0), threads - OTHER_CALLS)
            _manager_session = session
        return _manager


def check_ray() -> None:
    """Raise InfrastructureLost if this process has left its Ray."""
    if not ray.is_initialized():
        raise InfrastructureLost("the run can't go on: Ray was shut down in this process")


def _check_node() -> None:
    if not is_alive(ray.get_runtime_context().get_node_id()):
        raise InfrastructureLost("the run can't go on: the Ray node of this process is dead")


def _give_up(manager: Any) -> None:
    """Let the next call of `get_manager` start another manager, and end this one.

    Ray may have lost no more than the connection to it: alive, it would hold its runs. An error of a manager that was
    given up before, which another run hears of late, leaves its successor alone.
    """
    global _manager  # noqa: PLW0603 - as above
    with _starting:
        if _manager is manager:
            _manager = None
    with contextlib.suppress(Exception):  # it is dead, or Ray is
        ray.kill(manager, no_restart=True)


def answer_of(manager: Any, reference: Any) -> Any:
    """The answer to a call of a manager: `ray.get`, with errors in terms of the run.

    Raises:
        ManagerLost: the manager is dead, or can't be reached: then it is ended.
        InfrastructureLost: Ray, or this process's node, is gone, or the manager failed.
        DfzError: whatever the manager raises for its caller.
    """
    try:
        while True:
            check_ray()
            with contextlib.suppress(GetTimeoutError):
                return ray.get(reference, timeout=LOOK_S)
            _check_node()
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, DfzError):
            raise cause from None
        raise InfrastructureLost(f"the manager failed, which is a defect of dfz_ray: {error}") from None
    except (RayActorError, OutOfMemoryError) as error:  # Ray may kill the manager, too, where memory runs out
        _give_up(manager)
        raise ManagerLost(f"the manager of the run is gone: {str(error).splitlines()[0]}") from None
    except RayError as error:
        raise InfrastructureLost(f"Ray gave an unexpected answer: {type(error).__name__}: {error}") from None


def read_usage() -> tuple[float, int, float, int]:
    """The usage of the manager so far, as `TaskManager.get_usage` returns it."""
    cpu_s, exchanges, waited_s, waits = ray.get(get_manager().get_usage.remote())
    return float(cpu_s), int(exchanges), float(waited_s), int(waits)
