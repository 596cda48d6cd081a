"""Programs of others that send one small `map` after the other; each of their calls keeps a core busy for a while.

They need the extra `clients`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
from workloads import burn

CALL_S = 0.001
"""The time of each call."""
DASK_TASKS = 64
QUEUE = 8
"""Points that dynesty asks for at once."""


def bowl(point: Any, steps: int) -> float:
    """A function with one minimum."""
    burn(steps)
    return float(sum((value - 1.0) ** 2 for value in point))


def log_normal(point: Any, steps: int) -> float:
    """The logarithm of a density."""
    burn(steps)
    return -0.5 * float(np.sum(np.asarray(point) ** 2))


def scale(unit: Any) -> Any:
    """From the unit cube to the square from -5 to 5."""
    return 10.0 * np.asarray(unit) - 5.0


def evolve(executor: Executor, steps: int) -> Any:
    """scipy's differential evolution: 20 generations of 30 points, each generation a map."""
    from scipy.optimize import differential_evolution

    return differential_evolution(
        partial(bowl, steps=steps),
        [(-3, 3)] * 2,
        maxiter=20,
        popsize=15,
        tol=0.0,
        rng=1,
        workers=executor.map,
        updating="deferred",
        polish=False,
    ).nfev


def walk(executor: Executor, steps: int) -> Any:
    """emcee: 20 steps of 32 walkers, each half of them a map."""
    import emcee  # type: ignore[import-untyped]

    start = np.random.default_rng(1).normal(size=(32, 2))
    return emcee.EnsembleSampler(32, 2, partial(log_normal, steps=steps), pool=executor).run_mcmc(start, 20).coords


def nest(executor: Executor, steps: int) -> Any:
    """dynesty: 300 iterations from 100 live points; it asks for eight points at once."""
    import dynesty  # type: ignore[import-untyped]

    sampler = dynesty.NestedSampler(
        partial(log_normal, steps=steps),
        scale,
        2,
        nlive=100,
        pool=executor,
        queue_size=QUEUE,
        rstate=np.random.default_rng(1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler.run_nested(maxiter=300, print_progress=False)
    return sampler.results.ncall


def schedule(executor: Executor, steps: int) -> Any:
    """dask's own scheduler, with the executor as its pool: 64 tasks, and one that adds their results up."""
    import dask

    tasks = [dask.delayed(bowl)([number], steps) for number in range(DASK_TASKS)]
    return dask.compute(dask.delayed(sum)(tasks), pool=executor, scheduler="threads")


PROGRAMS: dict[str, Callable[[Executor, int], Any]] = {
    "scipy, differential evolution": evolve,
    "emcee": walk,
    "dynesty": nest,
    "dask's scheduler": schedule,
}
