"""What the hop from a lease to the relay of its node costs, on this machine.

    python benchmarks/relay_hop.py [--workers 4] [--seconds 5] [--repeats 5] [--json FILE]

`capacity.py` emulates its leases below the interface of the relay. Here worker processes call the real relay, as leases
do, one report after the other; behind it an actor answers every group at once. In turn they call that actor without a
relay. Told are the milliseconds from a report to its answer, and the CPU time of the relay for each report.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import ray
from measurement import describe_host, write_json

from dfz_ray.driver.connection import connect
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order, pack_order
from dfz_ray.protocol.relay_side import GATHER_S
from dfz_ray.protocol.reports import Place, pack_report
from dfz_ray.protocol.worker_side import WorkerSide
from dfz_ray.worker.answer import Answer
from dfz_ray.worker.relay import Relay

ANSWER = pack_order(Order(0, Message.WAIT))


class Echo:
    """Answers reports as a manager that has nothing to do."""

    async def exchange(self, report: bytes) -> bytes | Order:
        """Answer one report."""
        return ANSWER

    async def exchange_group(self, reports: Sequence[Any]) -> list[Any]:
        """Answer what a relay has gathered."""
        return [GATHER_S, [ANSWER] * len(reports)]


@ray.remote(num_cpus=0)
def call(actor: Any, seconds: float) -> list[float]:
    """Send reports for so long, one after the other; returns the seconds that each took."""
    first = WorkerSide(0, Place(socket.gethostname(), "node", 1, 0.0, "marker")).find_report(0.0)
    assert first is not None  # noqa: S101 - a lease begins with one
    report = pack_report("run", first)
    Answer(actor.exchange.remote(report)).read()
    took_s, end = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        Answer(actor.exchange.remote(report)).read()
        took_s.append(time.perf_counter() - begun)
    return took_s


def measure(actor: Any, workers: int, seconds: float) -> list[float]:
    """Let so many workers call an actor."""
    return list(itertools.chain.from_iterable(ray.get([call.remote(actor, seconds) for _ in range(workers)])))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    connect("local")
    actor: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 10_000}
    echo = ray.remote(**actor)(Echo).remote()
    relay = ray.remote(**actor)(Relay).remote(echo)
    process = psutil.Process(ray.get(relay.identify.remote()))
    measure(relay, options.workers, 1.0)  # warm-up
    measured: list[dict[str, float]] = []
    for _ in range(options.repeats):
        direct_s = measure(echo, options.workers, options.seconds)
        before = process.cpu_times()
        through_s = measure(relay, options.workers, options.seconds)
        after = process.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        measured.append(
            {
                "direct_ms": 1e3 * median(direct_s),
                "through_relay_ms": 1e3 * median(through_s),
                "relay_cpu_ms": 1e3 * cpu_s / len(through_s),
                "reports_per_s": len(through_s) / options.seconds,
            }
        )
    for name in measured[0]:
        values = sorted(one[name] for one in measured)
        print(f"{name}: {median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})")
    if options.json:
        write_json(options.json, {"host": describe_host(["ray"]), "workers": options.workers, "measured": measured})


if __name__ == "__main__":
    main()
