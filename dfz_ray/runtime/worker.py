"""What runs in a Ray worker: a lease, which holds one slot and runs chunk after chunk through it."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
import psutil
import ray
from ray import cloudpickle

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.execution import Execution, Failure, Work, describe_exception, execute_chunk, thread_budget
from dfz_ray.runtime.mark import Mark
from dfz_ray.runtime.warden import LeaseWarden
from dfz_ray.specs.input_file import FileShelf


class Place(NamedTuple):
    """Where a lease runs."""

    host: str
    node_id: str
    """Ray's."""
    process: int
    started_at: float
    """When the process was started: another one may have its number later."""
    mark: str
    """Name of the lease's mark on the node."""


class Report(NamedTuple):
    """What a lease tells the manager: which chunk ended and how, which one begins, and that it asks for work."""

    lease: int
    ended: int | None = None
    executions: bytes = b""
    """Packed: the manager reads them once, and Ray's pickling would take far longer for so many small objects."""
    began: int | None = None
    place: Place | None = None
    """In the first report."""


class Order(NamedTuple):
    """What the manager answers: a chunk, or, with none, whether the lease is over."""

    chunk: int | None = None
    works: bytes = b""
    """Packed."""
    budget_s: float = 0.0
    end: bool = False


def pack_rows(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """Executions, or works, as bytes."""
    packed: bytes = msgpack.packb(rows)
    return packed


def unpack_rows(packed: bytes) -> list[list[Any]]:
    """The rows that were packed, as lists."""
    rows: list[list[Any]] = msgpack.unpackb(packed) if packed else []
    return rows


WAIT = Order()
"""Ask again when the chunk in hand has ended."""
END = Order(end=True)
"""Nothing more for this lease, after what it holds."""


@functools.lru_cache(maxsize=256)
def make_lease_function(name: str, pickled_domain: bytes) -> Any:
    """The Ray remote function of a domain; the same one for all runs, for Ray would ship another one anew.

    The domain travels inside it, by value where it has to; Ray loads it once per worker process. Retries are ours, and
    a worker that has loaded a GPU library is kept (Ray's default would replace it after every call).
    """

    def lease(manager: Any, run_id: str, lease_id: int, threads: int, grace_s: float) -> None:
        run_lease(pickled_domain, manager, run_id, lease_id, threads, grace_s)

    lease.__name__ = lease.__qualname__ = name  # the dashboard groups calls by it
    return ray.remote(max_retries=0, max_calls=0)(lease)


def run_lease(pickled_domain: bytes, manager: Any, run_id: str, lease_id: int, threads: int, grace_s: float) -> None:
    """Ask for chunks and run them, one always in hand, until the manager says that the lease is over."""
    mark = Mark(f"{run_id}-{lease_id}")
    warden = LeaseWarden(mark, grace_s)
    with warden.on_duty():
        _run_chunks(pickled_domain, manager, run_id, lease_id, threads, warden)
    _release_gpu()


def _run_chunks(
    pickled_domain: bytes, manager: Any, run_id: str, lease_id: int, threads: int, warden: LeaseWarden
) -> None:
    def exchange(report: Report) -> Any:
        return manager.exchange.remote(run_id, report)

    shelf = FileShelf(contents=_FetchedFiles(manager, run_id))
    # Importing is nobody's task: it is done before the first is asked for, so that workers that are warm take more.
    if pickled_domain not in _loaded and not manager.is_open.remote(run_id).future().result():
        return  # Ray has placed this lease too late
    with contextlib.suppress(Exception):  # what can't be imported is told by each task that needs it
        load_domain(pickled_domain).load()
    ended: int | None = None
    executions = b""
    with thread_budget(threads):
        order = _answer(exchange(Report(lease_id, place=_place(warden.mark))))
        while order.chunk is not None:
            # The answer arrives while the chunk runs. The reference is kept, and looked at only afterwards: a future
            # that waits on it while native code holds the GIL would delay a forced cancellation by seconds.
            ahead = exchange(Report(lease_id, ended, executions, began=order.chunk))
            ended, executions = order.chunk, pack_rows(_run_chunk(pickled_domain, order, threads, shelf, warden))
            order = _answer(ahead)
            if order.chunk is None:
                over = order.end
                order = _answer(exchange(Report(lease_id, ended, executions)))
                ended, executions = None, b""
                if over:
                    break


def _place(mark: Mark) -> Place:
    node_id = ray.get_runtime_context().get_node_id()
    return Place(socket.gethostname(), node_id, os.getpid(), psutil.Process().create_time(), mark.name)


def _run_chunk(
    pickled_domain: bytes, order: Order, threads: int, shelf: FileShelf, warden: LeaseWarden
) -> Sequence[Execution]:
    works = [Work(*row) for row in unpack_rows(order.works)]
    try:
        domain = load_domain(pickled_domain)
    except Exception as error:  # a module of the user's that this node lacks, say: its tasks can't run here
        name, message, lines = describe_exception(error)
        failure = Failure(name, f"the domain can't be loaded on this worker: {message}", lines)
        return [Execution(work.number, 0.0, 0.0, 0.0, None, None, failure) for work in works]
    try:
        return execute_chunk(domain, works, threads, shelf, order.budget_s, warden)
    finally:
        warden.rest()


_loaded: dict[bytes, Domain] = {}


def load_domain(pickled: bytes) -> Domain:
    """The domain, unpickled once per process."""
    if pickled not in _loaded:
        _loaded[pickled] = cloudpickle.loads(pickled)
    return _loaded[pickled]


def _answer(reference: Any) -> Order:
    # Not ray.get: that would tell Ray that this worker is blocked, and its CPUs would be given away.
    order: Order = reference.future().result()
    return order


class _FetchedFiles(dict[str, bytes]):
    """The files of a run by hash; one that this process has not seen is asked of the manager."""

    def __init__(self, manager: Any, run_id: str) -> None:
        super().__init__(_seen)
        self._manager = manager
        self._run_id = run_id

    def __contains__(self, sha256: object) -> bool:
        if not super().__contains__(sha256):
            content = self._manager.get_file.remote(self._run_id, sha256).future().result()
            if content is None:
                return False
            _seen[str(sha256)] = self[str(sha256)] = content
        return True


_seen: dict[str, bytes] = {}


def _release_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return
    try:
        torch.cuda.empty_cache()
    except Exception:  # a task has broken this process's use of the GPU: no other one may inherit it
        os._exit(1)


def ship_by_value(module: Any) -> None:
    """Let what a module defines travel to the workers by value: they need not have it."""
    cloudpickle.register_pickle_by_value(module)
