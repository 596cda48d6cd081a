"""How many slots one manager keeps busy: emulated leases against a real manager, on this machine.

    python benchmarks/capacity.py --slots 10000 --task-s 10 --seconds 40 [--relays 4] [--direct] [--json]

The leases are emulated in four Ray actors (`emulation.py` says how), so that manager, hosts and Ray share this
machine's cores: on a cluster the manager has its cores for itself. All tasks are submitted before the first lease is
placed. Each lease begins at any time up to --task-s: so slots ask at any time, as they do in the middle of a long run.
All tasks have one length, the first ones, too: the manager gives larger chunks of short ones. The relays are those that
users get: a cluster has one on each node of 32 slots or more, and one for some smaller nodes together. The hop from
lease to relay is left out (`relay_hop.py` measures it). The measurement begins when each slot has ended its first
chunk, or after half of the time. A slot is busy while a task passes its time; that an emulated lease notices the end of
it late counts as waiting.

With --predict the manager's CPU time for a call, for an exchange in a group and for all else is found from four short
measurements at other rates, and the simulation says what it expects of the same run.

--json prints one line: tasks_per_s, exchanges_per_s, busy, wait_ms of a slot between two chunks, manager_cores,
manager_rss_mb.
"""

import argparse
import json
import math
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from capacity_prediction import Sample, ServiceTimes, find_most_exchanges, fit_service, predict_busy
from emulation import EmulatingManager, Host, RelayHost
from rich.console import Console

from dfz_ray.driver.connection import connect
from dfz_ray.driver.manager_actor import MOST_THREADS
from dfz_ray.engine.engine import EngineOptions
from dfz_ray.manager.actor import make_actor
from dfz_ray.protocol.columns import TaskColumns
from dfz_ray.protocol.submission import RunOptions, ShippedDomain, Submission, SubmittedKind
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

HOSTS = 4
LEAST_TASKS = 3
"""The first task of each slot must end within half of the time, and what is measured after it needs a task, too."""
BLOCK_TASKS = 5_000
LEASE_S = 3600.0
LOOK_S = 0.25
CALIBRATIONS = ((60, 1.0, 0), (240, 1.0, 0), (240, 1.0, HOSTS), (900, 1.0, HOSTS))
"""Slots, length of a task, and number of relays of the measurements that service times are found from."""
CALIBRATION_S = 12.0
FAR_SLOTS, EXCHANGES = 100_000, 1
"""It is told how long tasks have to be for so many slots, if each takes so many exchanges."""
AGAIN = 4
"""So many rounds of tasks are there beyond those that can be done, so that the run does not come to its end."""


def start(run_id: str, task_s: float, relays: int) -> tuple[Any, list[Any]]:
    """Start the hosts and the manager."""
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": 100_000}
    if relays:
        host = ray.remote(**options)(RelayHost)
        actors = [host.remote(run_id, task_s, len(range(number, relays, HOSTS))) for number in range(HOSTS)]
    else:
        actors = [ray.remote(**options)(Host).remote(run_id, task_s) for _ in range(HOSTS)]
    options["max_concurrency"] = MOST_THREADS
    manager = ray.remote(**options)(make_actor(EmulatingManager)).remote(actors)
    ray.get([actor.connect.remote(manager) for actor in actors])
    return manager, actors


def submit(manager: Any, run_id: str, folder: Path, slots: int, tasks: int) -> None:
    """Open a run, and submit its tasks."""
    options = RunOptions(EngineOptions(slots, lease_s=LEASE_S), 2**18, True, None)
    meta = {"run_id": run_id, "name": "capacity", "created_at": repr(time.time()), "dfz_ray": "0", "slots": str(slots)}
    ray.get(manager.open_run.remote(run_id, str(folder), options, meta, False))
    resources, policy = Resources(cpus=0).model_dump_json(), Policy().model_dump_json()
    kinds, domains = [SubmittedKind("emulated", "emulated", resources, policy)], [ShippedDomain("emulated", b"", "[]")]
    batches: Sequence[Any] = ((0, "capacity", 0, time.time()),)
    on_its_way = None
    for first in range(0, tasks, BLOCK_TASKS):
        count = min(BLOCK_TASKS, tasks - first)
        ids = [f"t{number}" for number in range(first, first + count)]
        columns = TaskColumns.of(ids, [0] * count, [(0, b"\x80")] * count, [""] * count)
        block = Submission(0, 0 if first == 0 else 1, batches, domains, kinds, tasks=columns)
        batches, kinds, domains = (), [], []
        if on_its_way is not None:
            ray.get(on_its_way)
        on_its_way = manager.submit.remote(run_id, block.pack())
    ray.get(on_its_way)


def measure(slots: int, task_s: float, seconds: float, relays: int) -> dict[str, Any]:
    """Let the manager keep the slots busy for so long."""
    run_id = uuid.uuid4().hex
    manager, hosts = start(run_id, task_s, relays)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        rounds = seconds / task_s + AGAIN * max(1.0, 0.2 / task_s)
        submit(manager, run_id, Path(folder).absolute() / "run", slots, int(slots * rounds))
        begun = time.time()
        ray.get(manager.place.remote())
        while time.time() < begun + seconds / 2 and count_first_rounds(hosts) < slots:
            time.sleep(LOOK_S)
        begin, before = time.time(), ray.get(manager.count.remote())
        first_round_s = begin - begun
        time.sleep(max(0.0, begun + seconds - time.time()))
        end, after = time.time(), ray.get(manager.count.remote())
        measured = ray.get([host.measure.remote(begin, end) for host in hosts])
        memory = ray.get(manager.measure_memory.remote())
        for actor in (manager, *hosts):
            ray.kill(actor)
    window_s = end - begin
    cpu_s, calls, exchanges = (now - then for now, then in zip(after, before, strict=True))
    waits_s = np.concatenate([np.frombuffer(waits) for _, waits in measured])
    busy_s = sum(of_host for of_host, _ in measured)
    p50, p99 = np.percentile(waits_s, (50, 99)) if len(waits_s) else (float("nan"),) * 2
    return {
        "slots": slots,
        "task_s": task_s,
        "first_round_s": first_round_s,
        "tasks_per_s": busy_s / task_s / window_s,
        "exchanges_per_s": exchanges / window_s,
        "busy": busy_s / (slots * window_s),
        "wait_ms": {"p50": 1e3 * p50, "p99": 1e3 * p99},
        "manager_cores": cpu_s / window_s,
        "manager_rss_mb": memory / 1e6,
        "calls_per_s": calls / window_s,
    }


def measure_service() -> ServiceTimes:
    """Find what exchanges cost a manager that is not full."""
    samples = []
    for slots, task_s, relays in CALIBRATIONS:
        found = measure(slots, task_s, CALIBRATION_S, relays)
        samples.append(Sample(found["manager_cores"], found["calls_per_s"], found["exchanges_per_s"]))
    return fit_service(samples)


def predict(options: argparse.Namespace, times: ServiceTimes) -> dict[str, Any]:
    """Simulate the same run."""
    busy = predict_busy(options.slots, options.task_s, options.seconds, times, options.relays)
    most = find_most_exchanges(times, options.relays)
    return {
        "predicted_busy": busy,
        "call_ms": 1e3 * times.call_s,
        "grouped_ms": 1e3 * times.grouped_s,
        "else_share": times.else_share,
        "most_exchanges_per_s": most,
    }


def count_first_rounds(hosts: Sequence[Any]) -> int:
    """The number of leases that have ended their first chunk."""
    return sum(ray.get([host.count_first_rounds.remote() for host in hosts]))


def tell(found: dict[str, Any], title: str) -> None:
    """Print a measurement for people."""
    waits, exchanges = found["wait_ms"], max(found["exchanges_per_s"], 1e-9)
    Console().print(
        f"{title}: {found['busy']:.3f} busy, {found['tasks_per_s']:,.0f} tasks/s in {exchanges:,.0f} exchanges/s, "
        f"a slot waits {waits['p50']:,.1f} ms (99 %: {waits['p99']:,.0f}); the manager takes "
        f"{found['manager_cores']:.2f} cores, {1e3 * found['manager_cores'] / exchanges:.2f} ms an exchange, "
        f"{found['manager_rss_mb']:.0f} MB",
        highlight=False,
    )
    if "predicted_busy" in found:
        most = found["most_exchanges_per_s"]
        Console().print(
            f"the simulation predicts {found['predicted_busy']:.3f} busy, at {found['call_ms']:.2f} ms a call and "
            f"{found['grouped_ms']:.2f} ms for each further exchange in it, beside {found['else_share']:.2f} cores "
            f"for all else. The manager is full at {most:,.0f} exchanges/s: {FAR_SLOTS:,} slots need tasks of "
            f"{FAR_SLOTS * EXCHANGES / most:,.1f} s",
            highlight=False,
        )


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, and refuse what can't be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=10_000)
    parser.add_argument("--task-s", type=float, default=10.0, help="the length of each task in seconds")
    parser.add_argument(
        "--seconds", type=float, default=40.0, help=f"at least {LEAST_TASKS} times as long as a task; 40 is the default"
    )
    parser.add_argument("--relays", type=int, default=HOSTS, help=f"at least {HOSTS}, which is the default")
    parser.add_argument("--direct", action="store_true", help="without relays")
    parser.add_argument("--predict", action="store_true", help="measure service times first, and simulate the same")
    parser.add_argument("--json", action="store_true", help="print one line, for programs")
    options = parser.parse_args(arguments)
    if options.relays < HOSTS:
        parser.error(f"--relays: found {options.relays}, expected at least {HOSTS}")
    if options.slots < 1:
        parser.error(f"--slots: found {options.slots}, expected at least 1")
    if not 0.0 < options.task_s < math.inf:
        parser.error(f"--task-s: found {options.task_s:g}, expected a number of seconds greater than 0")
    if not LEAST_TASKS * options.task_s <= options.seconds < math.inf:
        least_s = LEAST_TASKS * options.task_s
        parser.error(
            f"--seconds: found {options.seconds:g}, expected at least {least_s:g}: it is measured after the first tasks"
        )
    if options.direct:
        options.relays = 0
    return options


def main() -> None:
    """Measure and print."""
    options = read_options()
    connect("local")
    found = measure(options.slots, options.task_s, options.seconds, options.relays)
    if options.predict:
        found |= predict(options, measure_service())
    if options.json:
        print(json.dumps(found))
    else:
        tell(found, "each lease by itself" if options.direct else f"through {options.relays} relays")


if __name__ == "__main__":
    main()
