"""DFZExecutor: concurrent.futures on Ray."""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

from dfz_ray.client import check_slots
from dfz_ray.errors import InfrastructureLost, InvalidInput
from dfz_ray.executor.call_run import CallRun, Treatment
from dfz_ray.executor.future import CallFuture
from dfz_ray.executor.map import CallMap
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.policy import Policy, merge
from dfz_ray.specs.problems import find_problems
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import MaxWorkers, Settings, read_settings

P = ParamSpec("P")
R = TypeVar("R")


class _Calls(Executor):
    """What an executor and its views have in common.

    Args:
        run: where calls are made.
        treatment: how.
    """

    def __init__(self, run: CallRun, treatment: Treatment) -> None:
        self._run = run
        self._treatment = treatment

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call a function in a worker: `fn(*args, **kwargs)`.

        Returns:
            A future of what it returns or raises.

        Raises:
            RuntimeError: the executor was shut down; BrokenExecutor, which is one, where its run can't go on.
            Exception: what pickling the function or an argument raises.
        """
        run = self._run
        if run.is_shut:
            raise run.closed()
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
        """Call a function with the items of the iterables, which are taken at once; the results come in order.

        Args:
            fn: the function.
            iterables: of each an item is an argument.
            timeout: how long to wait for a result, in seconds from now.
            chunksize: how many calls are sent as one; None: as many as take a few milliseconds, found out as they run,
                or one with a timeout.
            buffersize: at most so many chunks are submitted whose results were not taken; None: all.

        Returns:
            An iterator, which raises what a call raised when its result is due, and then ends.

        Raises:
            TimeoutError: by the iterator: a result was not there in time.
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
        if run.is_shut:
            raise run.closed()
        items = zip(*iterables, strict=False)
        if buffersize is not None:
            return _map_some(self, fn, items, ends_at, chunksize or 1, buffersize)
        if timeout is not None or self._treatment.policy.timeout_s is not None:
            chunksize = chunksize or 1
        try:
            made = CallMap(run, run.packer.pack_function(fn), self._treatment, list(items), chunksize, ends_at)
        except InfrastructureLost:
            raise run.closed() from None
        return made.results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those that were submitted go on to their end.

        Args:
            wait: until then.
            cancel_futures: cancel those that have not begun.
        """
        self._run.shut()
        if cancel_futures:
            self._run.cancel_pending()
        if wait:
            self._run.join()

    def options(self, **options: Any) -> View:
        """The same executor, with other resources or another policy for the calls that are submitted by it.

        Args:
            options: cpus, gpus, memory (bytes, or a text such as `2GiB`) and custom, which a call is to have for
                itself; timeout_s, priority, max_attempts, backoff, retry_on and preemptible, as in a batch file.

        Raises:
            InvalidInput: an option that is not known, or that can't be.
        """
        return View(self, self._run, _treat(self._treatment, options))


class View(_Calls):
    """An executor with options of its own; shutting it down shuts down the executor that it is of."""

    def __init__(self, owner: _Calls, run: CallRun, treatment: Treatment) -> None:
        super().__init__(run, treatment)
        self._owner = owner  # which is not given up as long as this is there


class DFZExecutor(_Calls):
    """An executor of concurrent.futures whose workers are Ray's.

    It takes whatever cloudpickle takes: also lambdas, closures and what a script defines, without a main guard. Calls
    are batched by themselves: the first goes at once, and what is submitted while others are on their way goes
    together. `executor.options(...)` gives calls resources, a deadline or a priority of their own. In detail it differs
    from ProcessPoolExecutor in this:

    - A worker that dies, or a node that is lost, does not break the executor: the call is made again, up to
      `max_attempts` times (3), and then its future alone fails, with `CallFailed`. So a call may be made more than
      once. Where Ray itself is gone, the futures get a BrokenExecutor.
    - `max_workers` is how many calls may execute at once, None as many as the cluster has CPUs for. Workers are started
      as they are needed and given back when they are not; `mp_context`, `initializer` and `max_tasks_per_child` are not
      offered. What is costly to make can be made once in each worker by a function of a module with `functools.cache`.
    - Function and arguments are pickled by `submit`, not later: what changes afterwards does not reach the call, and
      what can't be pickled is an exception of `submit`. What is of the script itself, or of a module that was given to
      cloudpickle's `register_pickle_by_value`, travels by value; any other function or class by its name.
    - A function that refers to nothing that can change (numbers, texts, modules, functions, classes and tuples of
      these) is loaded once in each worker from its second `submit` on, and by `map`; at its first `submit` it travels
      within the call, unless it is large. Any other function is loaded for each call, so that no call sees what another
      one did.
    - An exception that does not survive pickling, or is larger than a megabyte, becomes a `CallFailed` with its type,
      text and traceback; so does any that was raised just before the run's manager was lost. The `__cause__` of the
      others is a `RemoteTraceback`.
    - `running()` is true, and `cancel()` false, from when a worker has taken a call and is about to make it. That is
      heard a moment later; a call that is cancelled in that moment is ended.
    - A call by itself takes some ten milliseconds longer, for it and its result are brought to the disk; calls that are
      on their way together share that.
    - Calls that are short are handed out, and their results come back, many at a time: a result may be there up to some
      200 ms later than it could. A call must not wait for another one to be made, or for what is done with the result
      of another one.
    - `map` sends short calls in groups, each of which is one task of the run, and sends the next ones as these end;
      with a `timeout`, or a deadline for calls, it sends them one by one unless `chunksize` says otherwise. Calls
      of one group share neither arguments nor results, unless there is a `buffersize` and a `chunksize`.
      `buffersize` is there before Python 3.14, too.
    - `shutdown(cancel_futures=True)` leaves as many of the oldest calls as there are free workers.
    - What a call prints goes to Ray's log of its worker, not to the terminal.
    - Arguments and results are written down in a run folder on this machine, and what has more than some megabytes
      would better be a file. `dfz status` and its like work on that folder; but what it holds is not taken for code
      later on: `dfz resume` and `dfz replay` refuse it.

    Args:
        max_workers: how many calls may execute at once; None: as many as the cluster holds; `auto`: what pays, found
            out while calls are made.
        address: which Ray: host:port, `auto`, or `local` for an embedded one; None looks for one.
        use_threads: calls share the processes that the cluster holds, on threads: for work that waits.
        config: a configuration file, the same as a dict, or Settings.
        run_dir: the folder of its run; None: a temporary one, which is removed in the end.

    Raises:
        ValueError: `max_workers` below 1.
        InvalidInput: a configuration that can't be.
    """

    def __init__(
        self,
        max_workers: MaxWorkers = None,
        *,
        address: str | None = None,
        use_threads: bool = False,
        config: str | Path | Mapping[str, Any] | Settings | None = None,
        run_dir: str | Path | None = None,
    ) -> None:
        if isinstance(max_workers, int) and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        settings = config if isinstance(config, Settings) else read_settings(config)
        slots = check_slots(max_workers if max_workers is not None else settings.max_workers)
        folder = Path(tempfile.mkdtemp(prefix="dfz-calls-")) if run_dir is None else Path(run_dir)
        run = CallRun("calls", settings, folder, run_dir is None, slots, address, use_threads)
        super().__init__(run, Treatment(settings.resources, settings.policy))
        self._finalizer = weakref.finalize(self, run.shut)
        self._finalizer.atexit = False  # then the run waits for its calls by itself


def _map_some(
    calls: _Calls,
    fn: Callable[..., R],
    items: Iterator[tuple[Any, ...]],
    ends_at: float | None,
    size: int,
    buffersize: int,
) -> Iterator[R]:
    """`map`, with at most so many chunks submitted whose results were not taken."""
    chunks = iter(lambda: list(itertools.islice(items, size)), [])
    each = functools.partial(_call_each, fn)
    futures = deque([calls.submit(each, chunk) for chunk in itertools.islice(chunks, buffersize)])
    find_owner = weakref.ref(_owner_of(calls))  # it may be given up before the iterator is; a view often is at once
    treatment = calls._treatment
    del calls

    def results() -> Iterator[R]:
        try:
            while futures:
                owner = find_owner()
                if owner is not None and (chunk := next(chunks, None)) is not None:
                    futures.append(View(owner, owner._run, treatment).submit(each, chunk))
                del owner
                values = _result_of(futures.popleft(), ends_at)
                values.reverse()
                while values:
                    yield values.pop()
        finally:
            for future in futures:
                future.cancel()

    return results()


def _owner_of(calls: _Calls) -> _Calls:
    """The executor itself, of a view, or a view of a view."""
    while isinstance(calls, View):
        calls = calls._owner
    return calls


def _result_of(future: Future[Any], ends_at: float | None) -> Any:
    try:
        return future.result(None if ends_at is None else ends_at - time.monotonic())
    finally:
        future.cancel()  # where it was not there in time
        del future


def _call_each(fn: Callable[..., R], items: Iterable[tuple[Any, ...]]) -> list[R]:
    return [fn(*args) for args in items]


def _treat(treatment: Treatment, options: Mapping[str, Any]) -> Treatment:
    """A treatment with options.

    Raises:
        InvalidInput: an option that is not known, or that can't be.
    """
    given = plain(options)
    resources = {key: value for key, value in given.items() if key in Resources.model_fields}
    policy = {key: value for key, value in given.items() if key not in Resources.model_fields}
    try:
        return Treatment(
            Resources.model_validate({**treatment.resources.model_dump(), **resources})
            if resources
            else treatment.resources,
            Policy.model_validate(merge(treatment.policy.model_dump(), policy)) if policy else treatment.policy,
        )
    except ValidationError as error:
        model = Resources if error.title == Resources.__name__ else Policy
        raise InvalidInput(find_problems(error, model, "options"), "options") from None
