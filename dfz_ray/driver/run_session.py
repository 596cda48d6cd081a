"""A run in its driver: it takes batches as they come, and reports the ends of their tasks."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfz_ray.driver.condition import Condition
from dfz_ray.driver.exit import close_at_exit
from dfz_ray.driver.listener import EventDecoder, RunListener, read_events
from dfz_ray.driver.listening_thread import ListeningThread
from dfz_ray.driver.run_opening import RunOpening
from dfz_ray.driver.unsynced_batches import UnsyncedBatches
from dfz_ray.errors import DfzError, InfrastructureLost, JournalDamaged, ManagerLost, RunFolderRefused
from dfz_ray.journal.reader import JournalReader, count_ended
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.states import STATES, count_final

if TYPE_CHECKING:
    from dfz_ray.domains.domain import Domain
    from dfz_ray.driver.manager_client import ManagerClient
    from dfz_ray.protocol.submission import ShippedDomain
    from dfz_ray.protocol.task_events import TaskEvents

logger = logging.getLogger("dfz_ray")

GRACE_S = 1.0
"""Seconds that running tasks have to end when their run is closed."""
MANAGERS_LIMIT = 10
"""If so many managers in a row die before a task has ended, another one will not help."""

FORKED = (
    "this process was forked from the one that has the run, and can't use it: submit there, or start this one by the "
    "method `spawn` or `forkserver` of multiprocessing and make what it needs in it"
)
SessionCommand = Callable[["ManagerClient"], None]


class RunSession:
    """A run that takes batches as they come, and reports the ends of their tasks.

    Every method except for `join` returns at once. One thread opens the run at a manager, and executes the commands of
    the methods in their order; a second thread listens to the manager. If the manager dies, another one goes on with
    the run, and the command that was interrupted is repeated. Tasks are numbered from 0 in the order of submission.

    Args:
        config: the settings of the run.
        listener: receives the events of the run.
        has_listener: True if it listens to single tasks, not only to the counts.
        domains: domains that the registry does not have.
        is_endless: True if the run waits for further batches; else it closes itself when no task is open.
        finishes_at_exit: True if the interpreter waits for the run's tasks when it exits, as for a pool's.
        reports_early: True if ends of tasks are reported before they are on disk. What was not on disk when a manager
            is lost is executed again; a second end of a task is not reported.
    """

    def __init__(
        self,
        config: RunConfig,
        listener: RunListener,
        *,
        has_listener: bool = True,
        domains: Sequence[Domain] = (),
        is_endless: bool = True,
        finishes_at_exit: bool = False,
        reports_early: bool = False,
    ) -> None:
        self.folder = config.run_dir or _make_temporary_folder()
        self.finishes_at_exit = finishes_at_exit
        self.failure: BaseException | None = None
        """The reason why the run can't go on."""
        self.was_forked = False
        """True in a process that was forked from the one that has the run."""
        self.was_cut = False
        """True if commands were dropped: perhaps not all tasks were sent."""
        self._listener, self._has_listener = listener, has_listener
        self._opening = RunOpening(config, self.folder, domains, has_listener, reports_early)
        self._config = dataclasses.replace(config, shared={})  # a program may drop what is large once it was sent
        self._reports_early = reports_early
        self._unsynced = UnsyncedBatches()
        """Of a run that reports early; only the thread that sends uses it."""
        self._decoder = EventDecoder(listener, self.folder)
        self._changed = Condition()
        """Guards everything below."""
        self._commands: deque[SessionCommand] = deque()
        """The first one is being executed."""
        self._first_batch: Batch | None = None
        self._submitted = 0
        self._accepted = 0
        """The number of tasks that were sent; if they are awaited, of those that are on disk."""
        self._counts = [0] * len(STATES)
        self._is_endless, self._is_finished = is_endless, not is_endless
        self._closing: float | None = None
        """The grace in seconds, once the run has to be closed."""
        self._is_opened = self._is_leaving = self._is_over = False
        self._thread = threading.Thread(target=self._work, name=f"dfz_ray sends {config.name}", daemon=True)
        self._listening: ListeningThread[TaskEvents | list[int]] | None = None

    # --- the owner's methods ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work. The listener may be called from now on."""
        close_at_exit(self)
        self._thread.start()

    @property
    def slots(self) -> int | None:
        """The number of tasks that may execute at once; None until it is known."""
        return self._opening.slots

    def find_slots(self) -> int:
        """The number of tasks that may execute at once; connects this process to Ray if it must be counted.

        Raises:
            ClusterUnusable: there is no Ray.
        """
        if self.slots is None:
            from dfz_ray.driver.connection import connect

            connect(self._config.address)
        return self.slots or self._opening.find_slots()

    @property
    def counts(self) -> dict[str, int]:
        """Tasks per state, as last reported; tasks on their way to the manager count as pending."""
        with self._changed:
            counts = dict(zip(STATES, self._counts, strict=True))
            counts["pending"] += max(0, self._submitted - sum(self._counts))
            return counts

    @property
    def is_done(self) -> bool:
        """True if the run was opened, all commands were executed, and no task is open."""
        with self._changed:
            return self._is_opened and not self._commands and not self.was_cut and not self._has_open()

    def submit(self, batch: Batch, domains: Mapping[str, ShippedDomain] | None = None) -> None:
        """Send a batch's tasks; a task that the run has already, equal to this one, is left out.

        `domains` are those that the batch names, ready to travel, if the caller has them.

        Raises:
            InfrastructureLost: the run can't go on, or was closed.
        """

        def send(client: ManagerClient) -> None:
            shipped = self._opening.ship(batch) if domains is None else domains
            client.submit(batch, shipped, self._on_accepted, lambda: self._closing is None)

        with self._changed:
            self._check_open()
            self._submitted += len(batch.tasks)
            self._first_batch = self._first_batch or batch
            self._give(send)

    def submit_later(self, take: Callable[[int], Batch | None]) -> None:
        """Send a batch that is made only when it can be sent: until then further tasks may join it.

        `take` makes the batch, or returns None. It is called once, in the thread that sends, with the number of the
        batch's first task.

        Raises:
            InfrastructureLost: the run can't go on, or was closed.
        """
        taken: list[Batch | None] = []  # if the manager is lost meanwhile, the same batch is sent again

        def send(client: ManagerClient) -> None:
            if taken and self._reports_early:
                return  # it was sent again when the run was opened again
            first = self._submitted
            if not taken:
                taken.append(take(first))
                with self._changed:
                    self._submitted += len(taken[0].tasks) if taken[0] else 0
            if taken[0] is not None:
                is_awaited = not (self._reports_early and self._unsynced.add(first, taken[0]))
                self._send(client, taken[0], is_awaited)

        with self._changed:
            self._check_open()
            self._give(send)

    def _send(self, client: ManagerClient, batch: Batch, is_awaited: bool) -> None:
        handing_over = None if is_awaited or self._listening is None else self._listening.handing_over
        shipped = self._opening.ship(batch)
        client.submit(batch, shipped, self._on_accepted, is_awaited=is_awaited, handing_over=handing_over)
        if is_awaited:
            self._unsynced.clear()

    def go_on(self) -> None:
        """Open the run without new tasks."""
        with self._changed:
            self._give(lambda client: None)

    def cancel(self, numbers: Collection[int] | Callable[[], Collection[int]] | None, scope: str = "run") -> None:
        """Cancel tasks that have not ended; `scope` describes them in a few words, for the journal.

        `numbers` are the tasks, or a function that finds them once all earlier commands are executed; None: all.
        """

        def cancel(client: ManagerClient) -> None:
            found = numbers() if callable(numbers) else numbers
            client.cancel(None if found is None else set(found), scope)

        with self._changed:
            if not (self._is_leaving or self._is_over):
                self._give(cancel)

    def finish(self) -> None:
        """Take no more batches: the run closes itself when no task is open."""
        with self._changed:
            self._is_finished = True
            if not self._commands and not self._is_opened:
                self._closing = GRACE_S
            self._changed.notify_all()
            self._wake_listening()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Close the run now. Commands that have not begun are dropped; running tasks have a grace, in seconds."""
        with self._changed:
            self._closing = grace_s
            self.was_cut = self.was_cut or bool(self._commands)
            self._commands.clear()
            self._changed.notify_all()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the run is closed, or until the timeout. A listener that calls this returns at once."""
        if self._thread.is_alive() and threading.current_thread() not in (self._thread, self._listening):
            self._thread.join(timeout_s)

    def leave_to_parent(self) -> None:
        """In a forked process: the run is the parent's, and takes nothing here; its open tasks end there alone."""
        self._changed, self._listening = Condition(), None  # a thread that is not here may hold the other one
        self.was_forked, self._is_over, self.failure = True, True, InfrastructureLost(FORKED)

    def abandon(self) -> None:
        """Report the end of a run that was closed, although its threads may still be at work."""
        self._end(None)

    def _give(self, command: SessionCommand) -> None:
        self._commands.append(command)
        self._changed.notify_all()

    def _check_open(self) -> None:
        if self.failure is not None:
            raise InfrastructureLost(f"the run can't go on: {self.failure}")
        if self._closing is not None or self._is_leaving or self._is_over:
            raise InfrastructureLost("the run was closed")

    # --- the thread that sends --------------------------------------------------------------------------------------

    def _work(self) -> None:
        failure: BaseException | None = None
        try:
            self._work_to_the_end()
        except BaseException as error:
            failure = error
        self._end(failure)

    def _end(self, failure: BaseException | None) -> None:
        with self._changed:
            if self._is_over:
                return
            self.failure, self._is_over = failure, True
        self._listener.on_end(failure)

    def _work_to_the_end(self) -> None:
        from dfz_ray.driver.connection import connect

        if self._commands or self._closing is None:
            connect(self._config.address)
        with self._changed:
            self._changed.wait_for(lambda: self._commands or self._closing is not None)
        lost_in_a_row, ended = 0, -1
        while self._commands or self._closing is None:
            try:
                self._work_with_a_manager()
                return
            except ManagerLost as error:
                before = ended
                with contextlib.suppress(JournalDamaged):  # if that is not due to the death, opening it will report it
                    ended = count_ended(self.folder)
                lost_in_a_row = lost_in_a_row + 1 if ended == before else 1
                if lost_in_a_row >= MANAGERS_LIMIT:
                    raise
                logger.warning("%s; another one goes on with the run", error)

    def _work_with_a_manager(self) -> None:
        """Open the run at a manager, and execute commands there until the run has to be closed."""
        client = self._open()
        listening = self._listening = ListeningThread(
            f"dfz_ray listens {self._config.name}",
            self._changed,
            self._is_to_listen,
            self._has_open,
            client.ask_for_events if self._has_listener else client.ask_for_progress,
            client.read_events if self._has_listener else client.read_progress,
            self._report,
        )
        listening.start()
        try:
            self._do_commands(client, listening)
            listening.stop()
            client.close(self._closing or 0.0)
        except ManagerLost:
            client.replace_workers()
            raise
        except BaseException:
            listening.stop()
            with contextlib.suppress(DfzError):  # the manager itself may be lost
                client.close(GRACE_S)
            raise
        finally:
            listening.stop()
            listening.join()

    def _open(self) -> ManagerClient:
        client = self._opening.open(self._first_batch, self._is_endless)
        try:
            self._take_over(client)
        except ManagerLost:
            raise
        except BaseException:
            with contextlib.suppress(DfzError):  # else the manager would work on, and hold the run
                client.close(GRACE_S)
            raise
        return client

    def _take_over(self, client: ManagerClient) -> None:
        """Report what the opened run has, and send again what a lost manager had not written."""
        if self._has_listener and client.tasks:
            with JournalReader(self.folder) as journal:
                if not self._is_opened:
                    self._listener.on_known(journal.names())
                events = read_events(journal, client.next_chunk)
            self._decoder.decode(events)
        with self._changed:
            self._accepted, self._is_opened = client.tasks, True
        for batch in list(self._unsynced.beyond(client.tasks)):
            client.submit(batch, self._opening.ship(batch), self._on_accepted)
        self._unsynced.clear()

    def _do_commands(self, client: ManagerClient, listening: ListeningThread[Any]) -> None:
        """Execute the commands as they come, until the run has to be closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._commands or self._is_to_end() or listening.error is not None)
                if listening.error is not None:
                    raise listening.error
                if not self._commands:
                    self._is_leaving = True  # a command that came now would not be executed
                    return
                command = self._commands[0]
            command(client)
            with self._changed:
                if self._commands and self._commands[0] is command:  # it was not dropped meanwhile
                    self._commands.popleft()

    def _is_to_end(self) -> bool:
        return self._closing is not None or (self._is_finished and not self._has_open())

    def _on_accepted(self, tasks: int) -> None:
        with self._changed:
            self._accepted = tasks
            self._wake_listening()

    def _wake_listening(self) -> None:
        if self._listening is not None:
            self._listening.wake()

    # --- the thread that listens ------------------------------------------------------------------------------------

    def _is_to_listen(self) -> bool:
        """True if tasks are open, as far as it matters: the owner of a run that reports early waits for ends only."""
        if self._reports_early and not self._is_finished:
            return self._decoder.reported < self._accepted
        return self._has_open()

    def _has_open(self) -> bool:
        """True if tasks were sent that the last counts do not have among those on disk."""
        return count_final(self._counts) < self._accepted

    def _report(self, news: TaskEvents | list[int]) -> None:
        counts = news if isinstance(news, list) else news.counts
        if not isinstance(news, list):
            self._decoder.decode(news)
        with self._changed:
            self._counts = list(counts)
            if self._is_to_end():
                self._changed.notify_all()
        self._listener.on_counts(self.counts)


def _make_temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="dfz-run-"))
    except OSError as error:
        raise RunFolderRefused(
            f"no temporary run folder can be made: {error}; name a run folder, or set TMPDIR"
        ) from None
