"""Programs of others that take an executor, or its `map`: on DFZExecutor they give what they give elsewhere.

They need the extra `clients`; one that is not installed is left out.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dfz_ray import DFZExecutor
from dfz_ray.driver.domain_shipping import ship_by_value

ship_by_value(sys.modules[__name__])  # the workers need not have this module
Client = Callable[[Executor], Any]


@pytest.fixture(scope="module")
def pool(cluster: None) -> Iterator[DFZExecutor]:
    """One executor for all clients."""
    with DFZExecutor(2) as made:
        yield made


def bowl(point: Any) -> float:
    """A function with one minimum."""
    return float(sum((value - 1.0) ** 2 for value in point))


def log_normal(point: Any) -> float:
    """The logarithm of a density."""
    return -0.5 * float(np.sum(np.asarray(point) ** 2))


def cube(value: float) -> float:
    """A function of one number."""
    return float(value) ** 3


def scale(unit: Any) -> Any:
    """From the unit cube to the square from -5 to 5."""
    return 10.0 * np.asarray(unit) - 5.0


def ship_with_cloudpickle() -> None:
    """For clients that pickle functions themselves."""
    pytest.importorskip("cloudpickle").register_pickle_by_value(sys.modules[__name__])


def use_scipy(executor: Executor) -> Any:
    optimize = pytest.importorskip("scipy.optimize")
    found = optimize.differential_evolution(
        bowl, [(-3, 3)] * 2, maxiter=3, popsize=4, rng=1, workers=executor.map, updating="deferred", polish=False
    )
    return found.x.tolist(), found.nfev


def use_emcee(executor: Executor) -> Any:
    emcee = pytest.importorskip("emcee", reason="pip install 'dfz_ray[clients]'")
    start = np.random.default_rng(1).normal(size=(6, 2))
    np.random.seed(1)  # emcee draws from there
    sampler = emcee.EnsembleSampler(6, 2, log_normal, pool=executor)
    return sampler.run_mcmc(start, 3).coords.tolist()


def use_dask(executor: Executor) -> Any:
    dask = pytest.importorskip("dask", reason="pip install 'dfz_ray[clients]'")
    cubes = [dask.delayed(cube)(number) for number in range(6)]
    return dask.compute(dask.delayed(sum)(cubes), pool=executor, scheduler="threads")


def use_adaptive(executor: Executor) -> Any:
    adaptive = pytest.importorskip("adaptive", reason="pip install 'dfz_ray[clients]'")
    learner = adaptive.SequenceLearner(cube, [1.0, 2.0, 3.0, 4.0])
    # By itself adaptive counts the workers of executors whose types it knows, and of no others.
    adaptive.BlockingRunner(learner, goal=lambda one: one.done(), executor=executor, ntasks=2)
    return sorted(learner.data.items())


def use_optuna(executor: Executor) -> Any:
    optuna = pytest.importorskip("optuna", reason="pip install 'dfz_ray[clients]'")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trials = [study.ask({"x": optuna.distributions.FloatDistribution(-3, 3)}) for _ in range(4)]
    for trial, value in zip(trials, executor.map(bowl, [[trial.params["x"]] for trial in trials]), strict=True):
        study.tell(trial, value)
    return study.best_params


def use_dynesty(executor: Executor) -> Any:
    dynesty = pytest.importorskip("dynesty", reason="pip install 'dfz_ray[clients]'")
    sampler = dynesty.NestedSampler(
        log_normal, scale, 2, nlive=30, pool=executor, queue_size=2, rstate=np.random.default_rng(1)
    )
    sampler.run_nested(maxiter=40, print_progress=False)
    return sampler.results.samples.tolist()


def use_lmfit(executor: Executor) -> Any:
    lmfit = pytest.importorskip("lmfit", reason="pip install 'dfz_ray[clients]'")
    parameters = lmfit.create_params(x={"value": 0.5, "min": -3, "max": 3}, y={"value": 0.5, "min": -3, "max": 3})
    sampler = lmfit.Minimizer(residual, parameters)
    walks = sampler.emcee(steps=10, nwalkers=6, burn=0, is_weighted=True, progress=False, seed=1, workers=executor)
    return walks.flatchain.to_numpy().round(9).tolist()


def residual(parameters: Any) -> Any:
    return np.asarray(list(parameters.valuesdict().values())) - 1.0


def use_nautilus(executor: Executor) -> Any:
    nautilus = pytest.importorskip("nautilus", reason="pip install 'dfz_ray[clients]'")
    sampler = nautilus.Sampler(
        scale, log_normal, n_dim=2, n_live=100, pool=(executor, None), seed=1, n_networks=0, pass_dict=False
    )
    sampler.run(n_like_max=300, discard_exploration=False)
    return sampler.posterior()[0].tolist()


def use_networkx(executor: Executor) -> Any:
    networkx = pytest.importorskip("networkx")
    graph = networkx.gnp_random_graph(30, 0.2, seed=1)
    chunks = [list(graph.nodes)[start::3] for start in range(3)]
    parts = executor.map(networkx.betweenness_centrality_subset, [graph] * 3, chunks, [list(graph.nodes)] * 3)
    return [round(sum(values), 9) for values in zip(*(part.values() for part in parts), strict=True)]


def use_deap(executor: Executor) -> Any:
    pytest.importorskip("deap", reason="pip install 'dfz_ray[clients]'")
    from deap import algorithms, base, creator, tools

    if not hasattr(creator, "Least"):
        creator.create("Least", base.Fitness, weights=(-1.0,))
        creator.create("Point", list, fitness=creator.Least)
    random.seed(1)
    box = base.Toolbox()
    box.register("map", executor.map)
    box.register("evaluate", evaluate)
    box.register("mate", tools.cxTwoPoint)
    box.register("mutate", tools.mutGaussian, mu=0, sigma=0.5, indpb=0.5)
    box.register("select", tools.selTournament, tournsize=3)
    points = [creator.Point(random.uniform(-3, 3) for _ in range(2)) for _ in range(8)]  # noqa: S311 - deap draws there
    last, _ = algorithms.eaSimple(points, box, 0.5, 0.5, 3, verbose=False)
    return [list(point) for point in last]


def evaluate(point: Any) -> tuple[float]:
    return (bowl(point),)


def use_pipefunc(executor: Executor) -> Any:
    ship_with_cloudpickle()
    pipefunc = pytest.importorskip("pipefunc", reason="pip install 'dfz_ray[clients]'")
    step = pipefunc.PipeFunc(cube, "y", mapspec="value[i] -> y[i]")
    outputs = pipefunc.Pipeline([step]).map({"value": [1.0, 2.0, 3.0]}, executor=executor, show_progress=False)
    return [float(value) for value in outputs["y"].output]


def use_pyabc(executor: Executor) -> Any:
    ship_with_cloudpickle()
    pyabc = pytest.importorskip("pyabc", reason="pip install 'dfz_ray[clients]'")
    sampler = pyabc.ConcurrentFutureSampler(cfuture_executor=executor, client_max_jobs=4)
    abc = pyabc.ABCSMC(
        simulate, pyabc.Distribution(x=pyabc.RV("uniform", 0, 1)), distance, population_size=8, sampler=sampler
    )
    abc.new("sqlite://", {"y": 0.5})
    history = abc.run(max_nr_populations=2, minimum_epsilon=0.0)
    frame, weights = history.get_distribution()
    return len(frame), math.isclose(weights.sum(), 1.0)  # it seeds itself: the numbers differ from run to run


def simulate(parameters: Any) -> dict[str, float]:
    return {"y": parameters["x"]}


def distance(one: Any, other: Any) -> float:
    return abs(one["y"] - other["y"])


SHORT = [use_scipy, use_emcee, use_dask, use_adaptive, use_optuna]
LONG = [use_dynesty, use_lmfit, use_nautilus, use_networkx, use_deap, use_pipefunc, use_pyabc]


@pytest.mark.filterwarnings("ignore")  # of the clients
@pytest.mark.parametrize(
    "client", [*SHORT, *(pytest.param(client, marks=pytest.mark.long) for client in LONG)], ids=lambda one: one.__name__
)
def test_a_client_gets_equal_results(client: Client, pool: DFZExecutor) -> None:
    """A program that takes an executor finds the same with DFZExecutor as with the standard library's."""
    found = client(pool)
    with ThreadPoolExecutor(2) as theirs:
        assert found == client(theirs)


def test_tqdm(cluster: None) -> None:
    """tqdm's map makes its executor itself, gives it a lock by an initializer, and counts the calls that it submits."""
    tqdm = pytest.importorskip("tqdm", reason="pip install 'dfz_ray[clients]'").tqdm
    from tqdm.contrib.concurrent import _executor_map

    shown = io.StringIO()
    with multiprocessing.Manager() as manager:
        tqdm.set_lock(manager.RLock())  # only a manager's lock travels
        try:
            found = _executor_map(DFZExecutor, cube, [1.0, 2.0, 3.0], max_workers=2, tqdm_class=tqdm, file=shown)
        finally:
            del tqdm._lock
    assert found == [1.0, 8.0, 27.0]
    assert "3/3" in shown.getvalue()
