"""DFZExecutor: concurrent.futures on Ray."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from dfz_ray.errors import InfrastructureLost, Unserializable
from dfz_ray.execution.traceback_text import name_of, text_of
from dfz_ray.executor.call_options import CallOptions, treat
from dfz_ray.executor.call_run import CallRun, Treatment
from dfz_ray.executor.future import CallFuture
from dfz_ray.executor.map import CallMap
from dfz_ray.executor.process_setup import ProcessSetup
from dfz_ray.executor.submitted_map import map_by_submit, map_some
from dfz_ray.specs.policy import without_speculation
from dfz_ray.specs.run_config import ConfigSource, RunConfig
from dfz_ray.specs.settings import MaxWorkers

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

SHOWN_CHARACTERS = 200
"""The most characters of an error that the repr of an executor shows."""


class _Calls(Executor):
    """The methods that an executor and its views share."""

    def __init__(self, run: CallRun, treatment: Treatment) -> None:
        self._run = run
        self._treatment = treatment

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a function in a worker: `fn(*args, **kwargs)`.

        Returns:
            A future of the call.

        Raises:
            RuntimeError: the executor was shut down; BrokenExecutor, a RuntimeError, if its run can't go on.
            Exception: whatever pickling the function or an argument raises.
        """
        run = self._run
        run.check()
        call = run.packer.pack(fn, args, kwargs)
        future = CallFuture(run, self._treatment, call)
        try:
            run.send((future,))
        except InfrastructureLost:
            raise run.closed() from None
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Call a function with the items of the iterables; the results come in order.

        The items are taken at once, with a `buffersize` as the results are taken. They are pickled as they are sent,
        also later on: do not change them until the results are there. Where a subclass, or an attribute, replaces
        `submit`, the items go through that, one by one.

        Args:
            fn: the function.
            iterables: a call gets one item of each.
            timeout: seconds from now to wait for a result.
            chunksize: how many calls are sent as one; None: as many as take a few milliseconds, which is found out as
                they run, or one if there is a timeout.
            buffersize: the largest number of submitted chunks whose results were not taken; None: no limit.

        Returns:
            An iterator. When the result of a call that has failed is due, it raises the call's exception and ends.

        Raises:
            TimeoutError: raised by the iterator: a result was not there in time. All calls of this `map` that have not
                ended are cancelled then, those that run are ended, so that a `with` is left soon. Where `submit` is
                replaced, that holds of futures that come from this executor, not of others that wait for these.
            RuntimeError: as `submit`.
        """
        ends_at = None if timeout is None else timeout + time.monotonic()
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        run = self._run
        run.check()
        items = zip(*iterables, strict=False)
        if buffersize is None and _replaces_submit(self):
            return map_by_submit(self.submit, run, fn, items, ends_at)
        if buffersize is not None:
            find_submit, size = _find_submit_later(self), chunksize or 1
            return map_some(self.submit, find_submit, run, fn, items, ends_at, size, buffersize)
        if timeout is not None or self._treatment.policy.timeout_s is not None:
            chunksize = chunksize or 1
        made = CallMap(run, run.packer.pack_function(fn), self._treatment, chunksize, ends_at)
        try:
            made.start(list(items))
            return made.results()
        except BaseException as error:  # perhaps Ctrl-C: then nobody gets the results
            made.give_up()
            if isinstance(error, InfrastructureLost):
                raise run.closed() from None
            raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those that were submitted go on to their end.

        Args:
            wait: wait for their end.
            cancel_futures: cancel the calls that have not begun.
        """
        self._run.shut()
        if cancel_futures:
            self._run.cancel_pending()
        if wait:
            self._run.join()

    @property
    def max_workers(self) -> int:
        """The number of calls that may execute at once; under `auto`, the number at first.

        If none was given, it is known once this process is connected to Ray: reading this connects it.

        Raises:
            ClusterUnusable: there is no Ray.
        """
        return self._run.find_slots()

    @property
    def _max_workers(self) -> int:
        """The same, under the name that libraries look for, as pools of the standard library have it."""
        return self.max_workers

    def options(self, **options: Unpack[CallOptions]) -> View:
        """The same executor, with other resources or another policy for the calls that are submitted through it.

        Args:
            options: cpus, gpus, memory (bytes, or a text such as `2GiB`) and custom, for each call by itself;
                timeout_s, priority, max_attempts, backoff, retry_on, preemptible and speculate, as in a batch file;
                the last one says of the function that two of its calls may execute at once in place of one.

        Raises:
            InvalidInput: an option is not known, or has an impossible value.
        """
        return View(self, self._run, treat(self._treatment, options))

    def __reduce__(self) -> Any:
        raise Unserializable(
            "an executor can't be sent to another process, as a call that refers to it: make one there"
        )

    def __repr__(self) -> str:
        run = self._run
        slots = (
            "as many calls at once as the cluster holds" if run.known_slots is None else f"{run.known_slots} at once"
        )
        state = "shut down" if run.is_shut else "open"
        if run.failure is not None:  # a run that has failed is shut, too
            state = f"broken: {_in_one_line(run.failure)}"
        return f"<{type(self).__name__}: {slots}; {state}; {run.count} unfinished; {run.folder}>"


class View(_Calls):
    """An executor with options of its own; shutting it down shuts down the executor behind it."""

    def __init__(self, owner: _Calls, run: CallRun, treatment: Treatment) -> None:
        super().__init__(run, treatment)
        self._owner = owner  # an executor lives as long as its views

    def __repr__(self) -> str:
        resources, policy = (
            ", ".join(f"{name}={value!r}" for name, value in part.model_dump(exclude_defaults=True).items())
            for part in self._treatment
        )
        options = ", ".join(filter(None, (resources, policy))) or "the defaults"
        return f"<View with {options} of {_owner_of(self)!r}>"


class DFZExecutor(_Calls):
    """An executor of concurrent.futures whose workers are Ray's.

    It takes whatever cloudpickle takes, also lambdas, closures and functions of the script itself, without a main
    guard. Calls are batched automatically: the first call goes at once, and calls that are submitted while others are
    on their way go together. `executor.options(...)` gives calls resources, a deadline or a priority of their own. It
    differs from ProcessPoolExecutor in this:

    - A worker that dies, or a node that is lost, does not break the executor: the call is made again, up to
      `max_attempts` times (3), and then its future alone fails, with `CallFailed`. So a call may be made more than
      once. If Ray itself is gone, the futures get a BrokenExecutor.
    - `max_workers` is the number of calls that may execute at once; None: one for each CPU of the cluster. Workers are
      started when they are needed and given back afterwards.
    - `initializer(*initargs)` is called once in each process, before its first call; variables of the script that it
      sets, and attributes of its classes, are seen by functions of the script. Ray may hand a process on to other
      executors and batches of this program: what an initializer changes beyond the working directory and the
      environment, it changes for them, too. If it raises an exception, calls fail with a BrokenExecutor. `mp_context`
      and `max_tasks_per_child` are accepted and have no effect; a warning says so. A lock or an event of
      multiprocessing travels only as that of a `Manager`.
    - On a Ray that this program has embedded, calls have the working directory and the environment variables that the
      program has when the executor is made (not those that Ray sets itself: `RAY_...`, `CUDA_VISIBLE_DEVICES`). On a
      cluster they have those of their node: pass paths and values as arguments, or use Ray's runtime environments.
      Objects of a `multiprocessing.Manager` work in calls, on other machines if its `address` can be reached there.
    - A call may make an executor of its own, or call `run`. The CPUs that the call holds while it waits are taken over
      by these: their workers ask Ray for no CPU, so that they start even where all are in use, and without a
      `max_workers` there are as many as the call was given CPUs. GPUs, memory and custom resources are not taken over:
      calls that want what no node has beside them are refused. Only what the call itself holds is counted there: calls
      that hold all GPUs, and each wait for one more, wait for ever. Leave free what the inner calls want, with a
      smaller `max_workers` of the outer executor.
    - Function and arguments are pickled by `submit`, not later: later changes do not reach the call, and an object that
      can't be pickled is an exception of `submit`. Functions and classes of the script itself, or of a module that was
      given to cloudpickle's `register_pickle_by_value`, travel by value, all others by name.
    - A function that refers to nothing that can change (numbers, texts, modules, functions, classes and tuples of
      these) is loaded once in each worker from its second `submit` on, and by `map`; at its first `submit` it travels
      within the call. Any other function is loaded for each call, so that calls do not see each
      other's changes. That holds of one that refers to a function of the script with a `functools.lru_cache`, too: its
      cache is empty in each call. That of a function in a module that workers import stays.
    - An exception that pickle loses, or changes, is rebuilt of its parts, without a call of its class: `args`,
      attributes, slots and the fields of its built-in class. One that does not survive this either, or is larger than a
      megabyte, becomes a `CallFailed` with its type, text and traceback; so does one that was raised just before the
      run's manager was lost. The `__cause__` of the others is a `RemoteTraceback`. A call that overruns its deadline
      fails with `CallTimedOut`, a CallFailed that is a TimeoutError, too.
    - An open file is refused, as an argument and as a result: pass its path.
    - `running()` is true, and `cancel()` false, as soon as a worker has taken a call and is about to make it. The
      driver hears this a moment later; a call that is cancelled in that moment is ended.
    - A single call takes some milliseconds longer. Calls and results are written to the disk. In a temporary run folder
      a future does not wait for that: what was not on the disk when the run's manager is lost is sent and called again,
      even if its future has its result already, which stays as it is. With a `run_dir` a future has its result once
      that is on the disk, which takes some ten milliseconds; calls that are on their way together share this time.
    - A worker waits some seconds for the next call before its CPU is given back, and gives it back at once when other
      programs or runs wait for one.
    - Short calls are handed out many at a time, and their results come back together: a result may arrive up to 200 ms
      later than it could. A call must not wait for another call, or for something that is done with the result of
      another call.
    - `map` sends short calls in groups, each of which is one task of the run, and sends the next groups as these end;
      with a `timeout`, or a deadline for calls, it sends them one by one unless `chunksize` says otherwise. Calls
      of one group share neither arguments nor results, unless there is a `buffersize` and a `chunksize`.
      `buffersize` works before Python 3.14, too.
    - `shutdown(cancel_futures=True)` leaves as many of the oldest calls as there are free workers.
    - The output of a call goes to Ray's log of its worker, not to the terminal.
    - A program that ends waits for its calls. How many of them have failed with an exception that nobody has read, or
      were lost, it then writes to stderr, or to its log if it has set up logging.
    - Arguments and results are written to a run folder on this machine. Arguments of more than a megabyte go to their
      worker through Ray's object store; an array that many calls need is better `shared`.
      `dfz status` and other commands work on that folder; but its content is not executed as code later on:
      `dfz resume` and `dfz replay` refuse it.

    Args:
        max_workers: how many calls may execute at once; None: as many as the cluster holds; `auto`: as many as pay,
            which is found out while calls are made.
        mp_context: has no effect.
        initializer: a function that is called once in each process, before its first call.
        initargs: its arguments.
        max_tasks_per_child: has no effect.
        address: which Ray: host:port, `auto`, or `local` for an embedded one; None looks for one.
        use_threads: calls share the processes that the cluster holds, on threads: for work that waits.
        config: a configuration file, the same as a dict, or Settings.
        run_dir: the folder of its run, a new one; None: a temporary one, which is removed in the end.
        shared: arrays of NumPy by name, which calls read with `dfz_ray.get_shared(name)`: each is once in the memory of
            each node, and can't be written to. Do not change one before the executor is shut down.

    Raises:
        ValueError: `max_workers` is below 1.
        InvalidInput: the configuration, `max_workers` or `shared` is wrong.
        RunFolderRefused: the folder holds a run already.
        Exception: whatever pickling the initializer or an argument of it raises.
    """

    def __init__(
        self,
        max_workers: MaxWorkers = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        address: str | None = None,
        use_threads: bool = False,
        config: ConfigSource = None,
        run_dir: str | Path | None = None,
        shared: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        if isinstance(max_workers, int) and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        _warn_of_ignored(mp_context, max_tasks_per_child)
        setup = ProcessSetup(initializer, initargs)
        run_config = RunConfig.of(
            config,
            max_workers=max_workers,
            run_dir=run_dir,
            address=address,
            use_threads=use_threads,
            shared=shared,
        )
        settings = run_config.settings
        run = CallRun(run_config, setup)
        super().__init__(run, Treatment(settings.resources, without_speculation(settings.policy)))
        self._finalizer = weakref.finalize(self, run.shut)
        self._finalizer.atexit = False  # then the run waits for its calls by itself


def _warn_of_ignored(mp_context: object, max_tasks_per_child: object) -> None:
    """Check what a process pool takes and Ray has no use for, and say so."""
    if max_tasks_per_child is not None:
        if not isinstance(max_tasks_per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        warnings.warn(
            "max_tasks_per_child has no effect on a DFZExecutor: Ray keeps a worker as long as it likes; what a call "
            "leaves in its process's settings is put back after it",
            UserWarning,
            stacklevel=3,
        )
    if mp_context is not None:
        warnings.warn(
            "mp_context has no effect on a DFZExecutor: Ray starts its workers, which are neither forked nor spawned",
            UserWarning,
            stacklevel=3,
        )


def _replaces_submit(calls: _Calls) -> bool:
    return "submit" in vars(calls) or type(calls).submit is not _Calls.submit


def _in_one_line(error: BaseException) -> str:
    """The first line of an error's text, cut if it is long; the name of its class if it has no text."""
    line = next(iter(text_of(error).strip().splitlines()), name_of(error))
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


def _owner_of(calls: _Calls) -> _Calls:
    """The executor behind a view, or behind a view of a view."""
    while isinstance(calls, View):
        calls = calls._owner
    return calls


def _find_submit_later(calls: _Calls) -> Callable[[], Callable[..., Future[Any]]]:
    """A function that finds `submit` again, and keeps neither the executor nor the view alive meanwhile."""
    find_owner = weakref.ref(_owner_of(calls))
    run, treatment, is_view = calls._run, calls._treatment, isinstance(calls, View)

    def find() -> Callable[..., Future[Any]]:
        owner = find_owner()
        if owner is None:  # to end here would lose the items that are left
            raise RuntimeError("cannot schedule new futures after the executor was deleted")
        return View(owner, run, treatment).submit if is_view else owner.submit

    return find
