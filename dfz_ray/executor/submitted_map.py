"""`map` by way of `submit`: with a `buffersize`, or where a subclass or an attribute replaces `submit`."""

from __future__ import annotations

import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from dfz_ray.executor.call_run import CallRun
from dfz_ray.executor.future import CallFuture
from dfz_ray.executor.map import Items
from dfz_ray.executor.reported_future import ReportedFuture

R = TypeVar("R")
Submit = Callable[..., Future[Any]]


def map_some(
    submit: Submit,
    find_submit: Callable[[], Submit],
    run: CallRun,
    fn: Callable[..., R],
    items: Iterator[tuple[Any, ...]],
    ends_at: float | None,
    size: int,
    buffersize: int,
) -> Iterator[R]:
    """`map` with a `buffersize`; `find_submit` is for later items, for the iterator must keep no executor alive."""
    chunks = iter(lambda: list(itertools.islice(items, size)), [])
    each = functools.partial(_call_each, fn)
    futures = deque([_submit_or_fail(submit, each, chunk) for chunk in itertools.islice(chunks, buffersize)])
    del submit

    def results() -> Iterator[R]:
        try:
            while futures:
                if (chunk := next(chunks, None)) is not None:
                    futures.append(_submit_or_fail(find_submit(), each, chunk))
                _wait_for_first(run, futures, ends_at)
                values = _result_of(futures.popleft())
                values.reverse()
                while values:
                    yield values.pop()
        finally:
            _drop(futures)

    return results()


def map_by_submit(
    submit: Submit, run: CallRun, fn: Callable[..., R], items: Iterator[tuple[Any, ...]], ends_at: float | None
) -> Iterator[R]:
    """`map` where `submit` is replaced, which gets the calls one by one."""
    futures = deque([submit(fn, *args) for args in items])
    del submit  # the iterator must not keep the executor alive

    def results() -> Iterator[R]:
        try:
            while futures:
                _wait_for_first(run, futures, ends_at)
                yield _result_of(futures.popleft())
        finally:
            _drop(futures)

    return results()


def _wait_for_first(run: CallRun, futures: deque[Future[Any]], ends_at: float | None) -> None:
    """Wait for the first future; where the time is over, cancel the calls of all, also those that have begun."""
    if ends_at is not None and not wait([futures[0]], ends_at - time.monotonic()).done:
        run.cancel(future for future in futures if isinstance(future, CallFuture))
        raise TimeoutError


def _drop(futures: Iterable[Future[Any]]) -> None:
    """Cancel what has not begun: nobody wants the results any more."""
    for future in futures:
        if not future.cancel() and future.done():
            future.exception()


def _submit_or_fail(submit: Submit, function: Callable[..., Any], chunk: Items) -> Future[Any]:
    """Submit a chunk; if that raises, e.g. as an item can't be pickled, the chunk's future has the error."""
    try:
        return submit(function, chunk)
    except Exception as error:
        failed = ReportedFuture()
        failed.note_error("call", error)
        failed.set_exception(error)
        return failed


def _result_of(future: Future[Any]) -> Any:
    try:
        return future.result()
    finally:
        del future  # the error's traceback has this frame, and must not keep the future alive


def _call_each(fn: Callable[..., R], items: Iterable[tuple[Any, ...]]) -> list[R]:
    return [fn(*args) for args in items]
