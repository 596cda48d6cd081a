"""Running one task in this process."""

from __future__ import annotations

import threading
import time

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.dropin.old_tasks import OldTask
from dfz_ray.dropin.preloading import preload
from dfz_ray.dropin.records import Answer, answer
from dfz_ray.dropin.submitted_task import TaskFailure
from dfz_ray.execution.execute import Work, execute_chunk, thread_budget
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.input_file import FileShelf

_turn = threading.Lock()
"""The thread budget is the whole process's: one task at a time sets it, and gives back what was before."""


def execute_here(task: OldTask) -> Answer:
    """Run a task with the function that the workers run, and tell of it; a task that fails raises nothing.

    It has one attempt, and no deadline: nothing could end it here but the whole process.

    Raises:
        KeyboardInterrupt: someone wants the program to end.
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
        domain.load()  # as on a worker: importing is nobody's task
    except Exception as error:  # a library that is broken may raise anything
        text = f"the domain can't be loaded: {type(error).__name__}: {error}"
        return answer(task.label, begun, time.time(), error=text)
    with _turn, thread_budget(threads):
        (done,) = execute_chunk(domain, [Work(0, checked.seed, checked.parameters)], threads, shelf)
    if done.failure is not None:
        if done.failure.message.partition(":")[0] == KeyboardInterrupt.__name__:
            raise KeyboardInterrupt  # of who wants the program to end, not of the task
        trouble = TaskFailure(done.failure.reason, done.failure.message)
        return answer(task.label, done.began_at, done.ended_at, error=str(trouble))
    return answer(task.label, done.began_at, done.ended_at, None if done.result is None else decode(done.result))
