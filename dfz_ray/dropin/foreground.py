"""Running one task in this process."""

from __future__ import annotations

import threading
import time

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.old_tasks import OldTask
from dfz_ray.dropin.preloading import preload
from dfz_ray.dropin.records import Answer, answer, with_old_keys
from dfz_ray.errors import CallFailed
from dfz_ray.execution.execute import Work, execute_chunk, thread_budget
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.input_file import FileShelf

_turn = threading.Lock()
"""Held to execute a task: the thread budget holds for the whole process, so one task at a time sets it."""


def execute_here(task: OldTask) -> Answer:
    """Run a task as a worker does; a task that fails raises nothing.

    It has one attempt and no deadline: only the end of the whole process could end it here.

    Raises:
        KeyboardInterrupt: the user interrupts the program.
    """
    begun = time.time()
    checked = task.checked
    if checked is None:
        return answer(task.label, begun, time.time(), error=task.problem)
    domain, threads = REGISTRY.get(checked.domain), checked.resources.threads
    shelf = FileShelf(contents=dict(task.files))
    try:
        for module in domain.libraries:
            preload(module)
        domain.load()  # before the clock starts, as on a worker
    except Exception as error:  # a broken library may raise anything
        text = f"the domain can't be loaded: {type(error).__name__}: {error}"
        return answer(task.label, begun, time.time(), error=text)
    with _turn, thread_budget(threads):
        (done,) = execute_chunk(domain, [Work(0, checked.seed, checked.parameters)], threads, shelf)
    if done.failure is not None:
        if done.failure.message.partition(":")[0] == KeyboardInterrupt.__name__:
            raise KeyboardInterrupt  # the user meant the program, not the task
        text = str(CallFailed(done.failure.reason, done.failure.message))
        return answer(task.label, done.began_at, done.ended_at, error=text)
    result = None if done.result is None else with_old_keys(decode(done.result), domain.name)
    return answer(task.label, done.began_at, done.ended_at, result)
