"""What runs in a Ray worker: a lease, which holds one slot and runs chunk after chunk through it."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import ray
from ray import cloudpickle

from dfz_ray.domains.domain import Domain
from dfz_ray.execution.execute import Execution, execute_chunk, thread_budget
from dfz_ray.execution.failure import describe_exception
from dfz_ray.protocol.orders import Order, unpack_works
from dfz_ray.protocol.reports import NOTHING_EXECUTED, Executions, Place, Report, pack_executions
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.worker.crash_marker import CrashMarker
from dfz_ray.worker.deadlines import DeadlineGuard
from dfz_ray.worker.thread_deadlines import ThreadDeadlineGuard
from dfz_ray.worker.thread_lease import ThreadLease

Exchange = Callable[[Report], Any]
"""Sends a report to the manager; gives the reference of its answer."""


@functools.lru_cache(maxsize=256)
def make_lease_function(name: str, pickled_domain: bytes) -> Any:
    """The Ray remote function of a domain; the same one for all runs, for Ray would ship another one anew.

    The domain travels inside it, by value where it has to; Ray loads it once per worker process. Retries are ours, and
    a worker that has loaded a GPU library is kept (Ray's default would replace it after every call).
    """

    def lease(manager: Any, run_id: str, lease_id: int, threads: int, grace_s: float, width: int = 1) -> None:
        run_lease(pickled_domain, manager, run_id, lease_id, threads, grace_s, width)

    lease.__name__ = lease.__qualname__ = name  # the dashboard groups calls by it
    return ray.remote(max_retries=0, max_calls=0)(lease)


def run_lease(
    pickled_domain: bytes, manager: Any, run_id: str, lease_id: int, threads: int, grace_s: float, width: int
) -> None:
    """Ask for chunks and run them, one always in hand, until the manager says that the lease is over."""
    mark = CrashMarker(f"{run_id}-{lease_id}", width)
    warden = DeadlineGuard(mark, grace_s) if width == 1 else ThreadDeadlineGuard(mark, grace_s, width)
    with warden.on_duty():
        # Importing is nobody's task: it is done before the first is asked for, so that workers that are warm take more.
        if pickled_domain not in _loaded and not manager.is_open.remote(run_id).future().result():
            return  # Ray has placed this lease too late
        with contextlib.suppress(Exception):  # what can't be imported is told by each task that needs it
            load_domain(pickled_domain).load()
        _spare_the_collector()
        shelf = FileShelf(contents=_FetchedFiles(manager, run_id))

        def exchange(report: Report) -> Any:
            return manager.exchange.remote(run_id, report)

        if isinstance(warden, DeadlineGuard):
            _run_chunks(pickled_domain, exchange, lease_id, threads, shelf, warden)
        else:
            with thread_budget(threads):
                _run_chunks_on_threads(pickled_domain, exchange, lease_id, threads, shelf, warden)
    _release_gpu()


def _run_chunks(
    pickled_domain: bytes, exchange: Exchange, lease_id: int, threads: int, shelf: FileShelf, warden: DeadlineGuard
) -> None:
    ended: int | None = None
    executions = NOTHING_EXECUTED
    with thread_budget(threads):
        order = _answer(exchange(Report(lease_id, place=_place(warden.mark))))
        while order.chunk is not None:
            # The answer arrives while the chunk runs. The reference is kept, and looked at only afterwards: a future
            # that waits on it while native code holds the GIL would delay a forced cancellation by seconds.
            ahead = exchange(Report(lease_id, ended, executions, began=order.chunk))
            ended, executions = order.chunk, pack_executions(_run_chunk(pickled_domain, order, threads, shelf, warden))
            order = _answer(ahead)
            if order.chunk is None:
                over = order.end
                order = _answer(exchange(Report(lease_id, ended, executions)))
                ended, executions = None, NOTHING_EXECUTED
                if over:
                    break


def _run_chunks_on_threads(
    pickled_domain: bytes,
    exchange: Exchange,
    lease_id: int,
    threads: int,
    shelf: FileShelf,
    warden: ThreadDeadlineGuard,
) -> None:
    """The main thread talks to the manager, and keeps deadlines; the others execute."""
    with ThreadLease(lambda: load_domain(pickled_domain), threads, shelf, warden) as crew:
        answers: list[Any] = [exchange(Report(lease_id, place=_place(warden.mark))).future()]
        answers[0].add_done_callback(lambda _: warden.wake())
        while True:
            warden.watch(crew.asks_at)
            if answers and answers[0].done():
                order: Order = answers.pop().result()
                works = unpack_works(order.works) if order.chunk is not None else ()
                crew.take_order(order.chunk, works, order.budget_s, order.threads, order.end)
            if answers:
                continue
            news = crew.find_news()
            if news is None:
                if crew.is_done:
                    return
                continue
            ended, executions = (None, NOTHING_EXECUTED) if news.ended is None else news.ended
            packed = executions if isinstance(executions, Executions) else pack_executions(executions)
            report = Report(lease_id, ended, packed, news.began, asks=news.asks, busy=news.busy)
            answers.append(exchange(report).future())
            answers[0].add_done_callback(lambda _: warden.wake())


@functools.cache
def _spare_the_collector() -> None:
    """Let the garbage collector not look any more, over and over, at all that was imported; once in each process."""
    gc.collect()
    gc.freeze()


def _place(mark: CrashMarker) -> Place:
    node_id = ray.get_runtime_context().get_node_id()
    return Place(socket.gethostname(), node_id, os.getpid(), psutil.Process().create_time(), mark.name)


def _run_chunk(
    pickled_domain: bytes, order: Order, threads: int, shelf: FileShelf, warden: DeadlineGuard
) -> Sequence[Execution]:
    works = unpack_works(order.works)
    try:
        domain = load_domain(pickled_domain)
    except Exception as error:  # a module of the user's that this node lacks, say: its tasks can't run here
        told = describe_exception(error)
        failure = told._replace(message=f"the domain can't be loaded on this worker: {told.message}")
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
            while _seen and sum(map(len, list(_seen.values()))) + len(content) > SEEN_BYTES:
                _seen.pop(next(iter(list(_seen)), ""), None)  # the oldest one: it can be asked for again
            _seen[str(sha256)] = self[str(sha256)] = content
        return True


SEEN_BYTES = 2**28
"""A worker keeps so much of files for leases to come."""
_seen: dict[str, bytes] = {}


def _release_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return
    try:
        torch.cuda.empty_cache()
    except Exception:  # a task has broken this process's use of the GPU: no other one may inherit it
        os._exit(1)
