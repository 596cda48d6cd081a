"""A run that takes batches as they come: it is opened, fed and listened to by threads of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.exit import close_at_exit
from dfz_ray.errors import DfzError, InfrastructureLost, ManagerLost
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.reader import JournalReader, count_ended
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import MaxWorkers, Settings
from dfz_ray.specs.states import STATES

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain
    from dfz_ray.driver.manager_client import ManagerClient
    from dfz_ray.driver.slot_plan import SlotPlan
    from dfz_ray.protocol.submission import ShippedDomain
    from dfz_ray.protocol.task_events import TaskEvents

logger = logging.getLogger("dfz_ray")

POLL_S = 0.5
"""Without news the counts are told so often; each look takes about 2 ms of a core."""
GRACE_S = 1.0
"""When a run is closed before its end, what still runs has so long to end by itself."""
MANAGERS_LIMIT = 10
"""When so many managers in a row have died before a task ended, something is wrong that another one will not mend."""
ENDLESS = 2**31
"""How many tasks are expected where nobody can know."""

Errand = Callable[["ManagerClient"], None]


class RunSession:
    """A run that takes batches as they come, and tells what becomes of their tasks.

    Every call returns at once: the work is done by two threads, one that opens the run and sends, one that listens. The
    tasks are numbered from 0 in the order of submission. Where the manager dies, another one goes on with the run.

    Args:
        name: of the run, for its journal.
        settings: how tasks are handed out and written down.
        folder: of the run, a new one or one that was left.
        slots: how many tasks may execute at once; None: as many of the first batch's shapes as the cluster holds;
            `auto`: as many at first, and then by what pays.
        address: which Ray.
        own: domains that only this process has, and the registry does not.
        use_threads: whether tasks share processes, on threads.
        seed: of what is drawn as the run goes on, which is the delays before retries.
        retry_failed: make the failed tasks of a run that goes on due again.
        is_endless: whether it waits for further batches; else it closes itself when no task is open.
        finishes_at_exit: whether the interpreter waits for its tasks at exit, as a pool does; else it is closed.
        watch: is called with all news, one after the other. It hears of each task's end at least once:
            twice, perhaps, where a manager was lost.
        on_counts: is called with the counts by state whenever they have been heard, in the same thread.
        on_end: is called in the end, with what made it impossible to go on, or None where the run was closed.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        folder: Path,
        *,
        slots: MaxWorkers = None,
        address: str | None = None,
        own: Callable[[], Sequence[Domain]] = tuple,
        use_threads: bool = False,
        seed: int = 0,
        retry_failed: bool = False,
        is_endless: bool = True,
        finishes_at_exit: bool = False,
        watch: Callable[[TaskEvents], None] | None = None,
        on_counts: Callable[[dict[str, int]], None] | None = None,
        on_end: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self.folder = folder
        self.slots = slots if isinstance(slots, int) else None
        """How many tasks may execute at once; None until that is known."""
        self.known: Sequence[tuple[str, str, str]] = ()
        """Id, domain and kind of the tasks that the run had when it was opened."""
        self.finishes_at_exit = finishes_at_exit
        self._name, self._settings, self._address, self._seed = name, settings, address, seed
        self._find_own = own
        self._asked, self._use_threads = slots, use_threads
        self._plan: SlotPlan | None = None
        self._retry_failed = retry_failed
        self._is_endless = is_endless
        self._watch = watch
        self._on_counts = on_counts
        self._on_end = on_end
        self._changed = threading.Condition()
        self._watching = threading.Lock()
        """Held while news are told: those of the old manager may still be, when those of the new one come."""
        self._errands: deque[Errand] = deque()
        self._first_batch: Batch | None = None
        self._submitted = 0
        self._accepted = 0
        """How many tasks the run has, as far as its manager knows them."""
        self._counts = [0] * len(STATES)
        self._handle: ManagerClient | None = None
        self._lost: ManagerLost | None = None
        self._shipped: dict[str, ShippedDomain] = {}
        self._closing: float | None = None
        """The grace, once the run is to be closed."""
        self._is_opened = False
        self._is_over = False
        self.failure: BaseException | None = None
        """What made it impossible to go on."""
        self._threads = [
            threading.Thread(target=work, name=f"dfz_ray {word} {name}", daemon=True)
            for word, work in (("sends", self._send), ("listens", self._listen))
        ]
        close_at_exit(self)
        for thread in reversed(self._threads):  # the first one waits for the other in the end
            thread.start()

    # --- what the driver asks ---------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, int]:
        """Tasks per state, as last heard; those that are on their way count as pending."""
        with self._changed:
            counts = dict(zip(STATES, self._counts, strict=True))
            counts["pending"] += max(0, self._submitted - sum(self._counts))
            return counts

    @property
    def is_done(self) -> bool:
        """Whether the run was opened, and no task is open."""
        with self._changed:
            return self._is_done()

    def submit(self, batch: Batch, domains: Mapping[str, ShippedDomain] | None = None) -> int:
        """Send a batch's tasks.

        Args:
            batch: checked tasks; one that the run has already, equal to this one, is left out.
            domains: those that it names, ready to travel, where the caller has them.

        Returns:
            The number of its first task, in a run that began with this object.

        Raises:
            InfrastructureLost: the run can't go on, or was closed.
        """

        def send(handle: ManagerClient) -> None:
            shipped = self._ship(batch) if domains is None else domains
            handle.submit(batch, shipped, self._on_accepted, lambda: self._closing is None or bool(self._errands))

        with self._changed:
            self._check_open()
            first, self._submitted = self._submitted, self._submitted + len(batch.tasks)
            self._first_batch = self._first_batch or batch
            self._errands.append(send)
            self._changed.notify_all()
        return first

    def submit_later(self, take: Callable[[int], Batch | None]) -> None:
        """Send what there is when it can be sent: until then further tasks may come together.

        Args:
            take: is called once, in the thread that sends, with the number of the first task; returns these, or None.

        Raises:
            InfrastructureLost: the run can't go on, or was closed.
        """
        taken: list[Batch | None] = []  # where the manager is lost meanwhile, the same ones are sent again

        def send(handle: ManagerClient) -> None:
            if not taken:
                taken.append(take(self._submitted))
                with self._changed:
                    self._submitted += len(taken[0].tasks) if taken[0] else 0
            if taken[0] is not None:
                handle.submit(taken[0], self._ship(taken[0]), self._on_accepted)

        with self._changed:
            self._check_open()
            self._errands.append(send)
            self._changed.notify_all()

    def go_on(self) -> None:
        """Open the run as it is, without being given anything."""
        with self._changed:
            self._errands.append(lambda handle: None)
            self._changed.notify_all()

    def cancel(self, numbers: Collection[int] | Callable[[], Collection[int]] | None, scope: str = "run") -> None:
        """Cancel what is open of these tasks, by number, or of all.

        Args:
            numbers: of the tasks, or what finds them once everything before this was sent; None: all.
            scope: what is cancelled, in a few words, for the journal.
        """

        def cancel(handle: ManagerClient) -> None:
            found = numbers() if callable(numbers) else numbers
            handle.cancel(None if found is None else set(found), scope)

        with self._changed:
            if not self._is_over:
                self._errands.append(cancel)
                self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until no task is open; returns whether that is so.

        Raises:
            BaseException: what made it impossible to go on.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_done() or self._is_over, timeout_s)
            if self.failure is not None:
                raise self.failure
            return self._is_done()

    def finish(self) -> None:
        """Take no more batches: the run closes itself when no task is open."""
        with self._changed:
            self._is_endless = False
            if not self._errands and not self._is_opened:
                self._closing = GRACE_S
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the run is closed; called by what it calls itself, this returns at once."""
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join()

    def close(self, grace_s: float = GRACE_S, *, at_once: bool = False, wait: bool = True) -> None:
        """End the run: what still runs has a grace, in seconds, and is then killed.

        Args:
            grace_s: the grace.
            at_once: also what was submitted and has not been sent yet is left.
            wait: until the run is closed.
        """
        with self._changed:
            self._closing = grace_s
            if at_once:
                self._errands.clear()
            self._changed.notify_all()
        if wait:
            self.join()

    # --- the thread that sends --------------------------------------------------------------------------------------

    def _send(self) -> None:
        failure: BaseException | None = None
        try:
            self._work()
        except BaseException as error:
            failure = error
        with self._changed:
            self.failure, self._is_over, self._handle = failure, True, None
            self._changed.notify_all()
        self._threads[1].join()  # all news that came have been told
        if self._on_end is not None:
            self._on_end(failure)

    def _work(self) -> None:
        from dfz_ray.driver.connection import connect

        connect(self._address or self._settings.address)
        managers, ended = 0, -1
        with self._changed:
            self._changed.wait_for(lambda: bool(self._errands) or self._closing is not None)
        while not (self._closing is not None and not self._errands):
            handle: ManagerClient | None = None
            try:
                handle = self._open()
                self._do_errands(handle)
                handle.close(self._closing or 0.0)
                return
            except ManagerLost as error:
                before, ended, self._retry_failed = ended, count_ended(self.folder), False
                managers = managers + 1 if ended == before else 1
                if managers >= MANAGERS_LIMIT:
                    raise
                logger.warning("%s; another one goes on with the run", error)
                self._replace_workers(handle)
            except BaseException:
                if handle is not None:
                    with contextlib.suppress(DfzError):  # the manager may be what was lost
                        handle.close(GRACE_S)
                raise

    def _open(self) -> ManagerClient:
        from dfz_ray.driver.domain_shipping import ship
        from dfz_ray.driver.listener import read_news
        from dfz_ray.driver.manager_client import ManagerClient
        from dfz_ray.driver.slot_plan import plan_slots

        for domain in () if self._shipped else self._find_own():
            self._shipped[domain.name] = ship(domain)
        if self._plan is None:
            shapes, tasks = self._find_shapes()
            self._plan = plan_slots(self._asked, self._use_threads, shapes, ENDLESS if self._is_endless else tasks)
            self.slots = self._plan.slots
        tells = self._watch is not None
        handle = ManagerClient(
            self.folder,
            self._name,
            self._plan,
            self._settings,
            self._retry_failed,
            self._seed,
            tells=tells,
            domains=self._shipped,
        )
        if handle.tasks and self._watch is not None:
            with JournalReader(self.folder) as journal:
                if not self._is_opened:
                    self.known = journal.names()
                told = read_news(journal)
            with self._watching:
                self._watch(told)
        with self._changed:
            self._handle, self._lost, self._accepted, self._is_opened = handle, None, handle.tasks, True
            self._changed.notify_all()
        return handle

    def _find_shapes(self) -> tuple[list[Resources], int]:
        """The shapes of the run's tasks, as far as they are known, and how many tasks there are."""
        if self._first_batch is not None:
            return self._first_batch.shapes(), len(self._first_batch.tasks)
        if not RunFolder(self.folder).holds_run():
            return [self._settings.resources], 0
        with JournalReader(self.folder) as journal:
            return [Resources.model_validate_json(one) for one in journal.shapes()], sum(journal.counts().values())

    def _do_errands(self, handle: ManagerClient) -> None:
        """Do what there is to do until the run is to be closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._errands) or self._is_to_end() or self._lost is not None)
                if self._lost is not None:
                    raise self._lost
                if not self._errands:
                    self._handle = None
                    return
                errand = self._errands[0]
            errand(handle)
            with self._changed:
                if self._errands and self._errands[0] is errand:  # done: after a loss of the manager it is done again
                    self._errands.popleft()
                self._changed.notify_all()

    def _is_to_end(self) -> bool:
        return self._closing is not None or (not self._is_endless and self._is_done())

    def _on_accepted(self, tasks: int) -> None:
        with self._changed:
            self._accepted = tasks
            self._changed.notify_all()

    def _replace_workers(self, handle: ManagerClient | None) -> None:
        from dfz_ray.driver.manager_client import boot_workers

        with self._changed:
            self._handle = None
        if handle is not None:
            boot_workers(handle.slots)

    def _ship(self, batch: Batch) -> dict[str, ShippedDomain]:
        from dfz_ray.driver.domain_shipping import ship

        for name in {task.domain for task in batch.tasks}.difference(self._shipped):
            self._shipped[name] = ship(REGISTRY.get(name))
        return self._shipped

    # --- the thread that listens ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or (self._handle is not None and self._has_open()))
                handle = self._handle
                if handle is None:
                    return
            try:
                self._hear(handle)
            except BaseException as error:
                self._on_deaf(handle, error)

    def _hear(self, handle: ManagerClient) -> None:
        if self._watch is None:
            counts: Sequence[int] = handle.progress(POLL_S)
        else:
            news = handle.news(POLL_S)
            counts = news.counts
            with self._watching:
                self._watch(news)
        with self._changed:
            self._counts = list(counts)
            self._changed.notify_all()
        if self._on_counts is not None:
            self._on_counts(self.counts)

    def _on_deaf(self, handle: ManagerClient, error: BaseException) -> None:
        """The manager does not answer: the thread that sends finds another one, or the run ends."""
        lost = error if isinstance(error, ManagerLost) else None
        with self._changed:
            if self._handle is not handle:  # it is known
                return
            self._handle = None
            self._lost = lost
            if lost is None:
                self._errands.clear()
                self._errands.append(_raise(error))
            self._changed.notify_all()

    # --- what both look at ------------------------------------------------------------------------------------------

    def _has_open(self) -> bool:
        """Whether the manager has tasks whose end was not heard."""
        return sum(self._counts[2:]) < self._accepted

    def _is_done(self) -> bool:
        return self._is_opened and not self._errands and not self._has_open()

    def _check_open(self) -> None:
        if self.failure is not None:
            raise InfrastructureLost(f"the run can't go on: {self.failure}")
        if self._closing is not None or self._is_over:
            raise InfrastructureLost("the run was closed")


def _raise(error: BaseException) -> Errand:
    def errand(handle: Any) -> None:
        raise error

    return errand
