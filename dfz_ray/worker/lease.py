"""A lease, the function that a Ray worker runs: it holds one slot, or several, and runs chunk after chunk there.

A lease asks for its first chunk, instead of being called with it: a lease that Ray has not placed holds no work that
others could do. It imports the domain's libraries before it asks. Importing is nobody's task, so durations are
execution only. Where the node lacks a module the lease ends without asking, and takes no task from leases elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import os
import socket
import sys
from collections.abc import Sequence
from os import _exit
from time import monotonic, sleep
from typing import Any, NoReturn

import ray
from ray import cloudpickle
from ray.exceptions import RayError

from dfz_ray.domains.domain import Domain
from dfz_ray.domains.gpus import NO_GPUS, AssignedGpus, assign_gpus
from dfz_ray.errors import DfzError
from dfz_ray.execution.execute import Execution, execute_chunk, thread_budget
from dfz_ray.execution.failure import describe_exception
from dfz_ray.execution.shared import sharing
from dfz_ray.protocol.orders import unpack_works, with_works
from dfz_ray.protocol.reports import Place
from dfz_ray.protocol.worker_side import ChunkInHand, WorkerSide
from dfz_ray.specs.input_file import SHARED, Content, FileShelf
from dfz_ray.worker.answer import LOOK_S, Answer, AnswerLost, check_connection
from dfz_ray.worker.crash_marker import CrashMarker
from dfz_ray.worker.deadlines import ANSWER_S, DeadlineGuard, end_if_silent
from dfz_ray.worker.manager_route import ManagerRoute, RelayLost
from dfz_ray.worker.process_start import read_start
from dfz_ray.worker.process_state import LEFT_STRAYS, ProcessState
from dfz_ray.worker.thread_deadlines import ThreadDeadlineGuard
from dfz_ray.worker.thread_lease import ThreadLease

LAST_WORD_S = 1.0
"""Seconds for which a worker that can read no answer stays, so that its last report is sent."""


@functools.lru_cache(maxsize=256)
def make_lease_function(name: str, pickled_domain: bytes, manager: Any) -> Any:
    """The Ray remote function of a domain; all runs of a manager share it, for Ray would ship another one anew.

    The domain and the manager's handle travel inside it, the domain by value where it has to; Ray loads them once per
    worker process. Retries are ours, and a worker that has loaded a GPU library is kept (Ray's default would replace it
    after every call).
    """

    def lease(run_id: str, lease_id: int, threads: int, grace_s: float, width: int = 1) -> None:
        run_lease(pickled_domain, manager, run_id, lease_id, threads, grace_s, width)

    lease.__name__ = lease.__qualname__ = name  # the dashboard groups calls by it
    return ray.remote(max_retries=0, max_calls=0)(lease)


def run_lease(
    pickled_domain: bytes, manager: Any, run_id: str, lease_id: int, threads: int, grace_s: float, width: int
) -> None:
    """Serve a lease. If an error ends it, this process ends, too: a task may have spoiled it for every other lease.

    The manager learns the error, and the crash marker stays: so the task that was executed is charged, as for a crash.
    """
    try:
        _serve(pickled_domain, manager, run_id, lease_id, threads, grace_s, width)
    except BaseException as error:
        try:
            check_connection()
            _report_error(error, manager, run_id, lease_id, LAST_WORD_S if isinstance(error, AnswerLost) else math.inf)
        finally:
            _exit(1)
    _release_gpu()


def _report_error(error: BaseException, manager: Any, run_id: str, lease_id: int, most_s: float = math.inf) -> None:
    """Let the manager know the error that ends a lease."""
    with end_if_silent():
        failure = describe_exception(error)
        Answer(manager.note_lease_error.remote(run_id, lease_id, failure.message, failure.traceback)).read(most_s)


def _serve(
    pickled_domain: bytes, manager: Any, run_id: str, lease_id: int, threads: int, grace_s: float, width: int
) -> None:
    """Ask for chunks and run them, with one chunk ahead, until the manager ends the lease."""
    marker = CrashMarker(f"{run_id}/{lease_id}", width)
    guard = DeadlineGuard(marker, grace_s) if width == 1 else ThreadDeadlineGuard(marker, grace_s, width)
    with guard.on_duty(), assign_gpus(find_gpus()):
        with contextlib.suppress(OSError, TypeError):
            os.chdir(*_folder)
        # The import belongs to no task. It comes before the first request, so that warm workers take more tasks.
        if pickled_domain not in _loaded:
            with end_if_silent():
                is_open = Answer(manager.is_open.remote(run_id)).read()
            if not is_open:
                return  # Ray has placed this lease too late
        route = ManagerRoute(manager, run_id)
        shelf = FileShelf(contents=_FetchedFiles(route, marker))
        try:
            with sharing(shelf):  # an initializer may read shared arrays
                load_domain(pickled_domain).load()
        except Exception as error:
            if pickled_domain in _ready:
                raise  # a task has broken this process
            _report_error(error, manager, run_id, lease_id)
            return
        _ready.add(pickled_domain)
        spare_the_collector()
        side = WorkerSide(lease_id, _find_place(marker))

        with thread_budget(threads), sharing(shelf):
            state = ProcessState(marker.note_strays)
            if isinstance(guard, DeadlineGuard):
                _run_chunks(pickled_domain, route, side, threads, shelf, guard, state)
            else:
                _run_chunks_on_threads(pickled_domain, route, side, threads, shelf, guard, state)
            if side.is_spoiled:
                _leave()
            _folder[:] = state.folder


_folder: list[Any] = []
"""The working directory of the last lease in this process: a thread that a task has left behind may change it later."""


def _leave() -> NoReturn:
    """End this process at once: nothing may be executed here any more."""
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    _exit(0)


def _run_chunks(
    pickled_domain: bytes,
    route: ManagerRoute,
    side: WorkerSide,
    threads: int,
    shelf: FileShelf,
    guard: DeadlineGuard,
    state: ProcessState,
) -> None:
    begun: tuple[ChunkInHand, bytes] | None = None
    while True:
        report = side.find_report(monotonic())
        answer: Any = None
        if report is None and begun is None:
            return
        guard.marker.renew()
        if report is not None:
            with end_if_silent():
                answer = route.send(report)
        if begun is not None:
            # The answer arrives while the chunk runs. The reference is kept, and looked at only afterwards: a future
            # that waits on it while native code holds the GIL would delay a forced cancellation by seconds.
            held, works = begun
            side.end_task(held, _run_chunk(pickled_domain, works, held.budget_s, threads, shelf, guard, state))
            if state.change:
                side.spoil(state.change, state.is_of_one)
            elif state.has_strays and held.budget_s == math.inf:
                side.spoil(LEFT_STRAYS, True)  # suspects are executed singly: nothing of them may meet the next one
        if answer is not None:
            idle_since = monotonic()
            with end_if_silent():
                order = route.read(answer)
            side.note_wait(monotonic() - idle_since)
            side.on_order(order._replace(works=[order.works]), monotonic())
        begun = side.begin_task(monotonic())


def _run_chunks_on_threads(
    pickled_domain: bytes,
    route: ManagerRoute,
    side: WorkerSide,
    threads: int,
    shelf: FileShelf,
    guard: ThreadDeadlineGuard,
    state: ProcessState,
) -> None:
    """The main thread talks to the manager, and keeps deadlines; the others execute."""
    with ThreadLease(side, lambda: load_domain(pickled_domain), threads, shelf, guard, state) as lease:
        answer: Answer | None = None
        # A task that holds the GIL keeps an answer from being read: that time does not count as silence.
        silent_s, looked_at = 0.0, math.inf
        while not side.is_over:
            report = lease.find_report()
            if report is not None:
                guard.marker.renew()
                answer, silent_s, looked_at = Answer(route.send(report), guard.wake), 0.0, monotonic()
            pause_s = LOOK_S if answer is None else min(LOOK_S, route.find_pause(silent_s))
            guard.watch(min(side.asks_at, monotonic() + pause_s))
            if answer is None:
                continue
            now = monotonic()
            silent_s, looked_at = silent_s + min(now - looked_at, LOOK_S), now
            try:
                order = route.read_if_here(answer, silent_s)
            except RelayLost:
                answer, silent_s = Answer(route.send_directly(), guard.wake), 0.0
                continue
            if order is not None:
                answer, looked_at = None, math.inf
                lease.on_order(with_works(order))
                continue
            answer.look()
            if silent_s > ANSWER_S:
                guard.marker.blame_nobody()
                raise AnswerLost(f"the manager did not answer a report within {ANSWER_S:g} s")
        if side.is_spoiled:
            _leave()  # whatever its threads execute does not count


@functools.cache
def spare_the_collector() -> None:
    """Take all that was imported out of the garbage collector's sight; once in each process."""
    gc.collect()
    gc.freeze()


def _find_place(marker: CrashMarker) -> Place:
    return Place(*_find_process(os.getpid()), marker.name)


@functools.cache
def _find_process(process: int) -> tuple[str, str, int, float]:
    """The host and the node of this process, its number and its start: they stay as long as it lives."""
    return socket.gethostname(), ray.get_runtime_context().get_node_id(), process, read_start(process)


def _run_chunk(
    pickled_domain: bytes,
    packed: bytes,
    budget_s: float,
    threads: int,
    shelf: FileShelf,
    guard: DeadlineGuard,
    state: ProcessState,
) -> Sequence[Execution]:
    works = unpack_works(packed)
    settle = state.settle_alone if len(works) == 1 and budget_s == math.inf else state.settle
    try:
        executions = execute_chunk(load_domain(pickled_domain), works, threads, shelf, budget_s, guard, settle)
        guard.rest()
        state.rest()
    except BaseException:
        # A task has broken what executing rests on. If several may have done so, they are executed again, each by
        # itself; one alone is known by the crash marker.
        if len(works) == 1:
            raise
        state.give_up()
        executions = []
    return executions


KEPT_DOMAINS = 64
"""The most domains that a process keeps: each executor with an initializer has one of its own."""
_loaded: dict[bytes, Domain] = {}
_ready: set[bytes] = set()
"""The domains whose libraries this process has imported."""


def load_domain(pickled: bytes) -> Domain:
    """The domain, unpickled once per process."""
    if type(pickled) is not bytes:  # a task has changed the variables of the lease that called it
        _exit(1)
    domain = _loaded.get(pickled)
    if domain is None:
        domain = cloudpickle.loads(pickled)
        while len(_loaded) >= KEPT_DOMAINS:
            oldest = next(iter(list(_loaded)), b"")
            _loaded.pop(oldest, None)
            _ready.discard(oldest)
        _loaded[pickled] = domain
    return domain


class _FetchedFiles(dict[str, Content]):
    """The files of a run by hash. A file that this process has not seen is fetched from the manager.

    It has a large one as long as the lease lasts: until then the node keeps it in its memory.
    """

    def __init__(self, route: ManagerRoute, marker: CrashMarker) -> None:
        super().__init__(_seen)
        self._route = route
        self._marker = marker

    def __contains__(self, sha256: object) -> bool:
        if not super().__contains__(sha256):
            try:
                content = self._fetch(str(sha256))
            except DfzError as error:  # it can't be read; Ray adds its own stack to the text
                raise ValueError(str(getattr(error, "cause", error))) from None
            if content is None:
                return False
            if isinstance(content, memoryview) or sha256 == SHARED:
                self[str(sha256)] = content
                return True
            while _seen and sum(map(len, list(_seen.values()))) + len(content) > SEEN_BYTES:
                _seen.pop(next(iter(list(_seen)), ""), None)  # the oldest one: it can be asked for again
            _seen[str(sha256)] = self[str(sha256)] = content
        return True

    def _fetch(self, name: str) -> Content | None:
        """Fetch a file. If that is not possible, this process ends, and no task is to blame."""
        for wait_s in (*STORE_WAITS_S, math.inf):
            try:
                return self._route.get_file(name)
            except DfzError:
                raise
            except AnswerLost:  # an earlier task has spoiled this process, or the manager is gone
                break
            except RayError as error:  # the store has no room, or has lost it
                print(f"a file of the run does not get here: {error}", file=sys.stderr, flush=True)
                if wait_s < math.inf:
                    sleep(wait_s)
        self._marker.blame_nobody()
        _exit(1)


STORE_WAITS_S = (0.5, 1.0, 2.0)
"""A file that the store has no room for, or has lost, is asked for again after so many seconds."""
SEEN_BYTES = 2**28
"""The bytes of files that a worker keeps for later leases."""
_seen: dict[str, bytes] = {}


def _release_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():  # to ask for more would open a GPU
        return
    try:
        torch.cuda.empty_cache()
    except Exception:  # a task has broken this process's use of the GPU: no other task may inherit that
        os._exit(1)


def find_gpus() -> AssignedGpus:
    """The GPUs that Ray has assigned to the call that this process executes."""
    context = ray.get_runtime_context()
    share = context.get_assigned_resources().get("GPU", 0.0)
    if not share:  # to ask for the ids takes longer
        return NO_GPUS
    ids = tuple(sorted(map(str, context.get_accelerator_ids().get("GPU", ()))))
    return AssignedGpus(ids, min(1.0, share / len(ids))) if ids else NO_GPUS
