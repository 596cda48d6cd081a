"""Runs on a cluster that is watched: the driver of some runs, each step of which is a line on its standard input.

`mixed` runs tasks of two domains to their end, and some fail. `stalled` leaves tasks at work, `failing` leaves some at
work after others have failed, and `wide` leaves tasks at work on threads of one process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dfz_ray import domain, run, submit

CPUS = 4
"""Of the cluster."""
FAILING = 30
"""The number of failing tasks of the run `mixed`."""


@domain("coin", kind=lambda parameters: "thrown" if parameters["flips"] else "unlucky")
def coin(flips: int = 10, *, seed: int) -> dict[str, int]:
    if not flips:
        raise ValueError(f"coin {seed} was lost")
    time.sleep(0.005)
    return {"heads": seed % 2}


@domain("die")
def die(sides: int = 6, *, seed: int) -> dict[str, int]:
    time.sleep(0.002)
    return {"eyes": seed % sides}


@domain("sleeper")
def sleeper(door: str) -> None:
    while Path(door).exists():
        time.sleep(0.05)


def main(address: str, folder: Path) -> None:
    door, left = folder / "door", []
    door.touch()
    for line in sys.stdin:
        name = line.strip()
        if name == "mixed":
            tasks = [coin.task(flips=0 if number < FAILING else 10) for number in range(100)]
            batch = {"name": name, "tasks": [*tasks, *(die.task() for _ in range(200))]}
            run(batch, max_workers=2, run_dir=folder / name, address=address, progress=False)
        else:
            failing = [coin.task(flips=0) for _ in range(FAILING)] if name == "failing" else []
            batch = {"name": name, "tasks": [*failing, *(sleeper.task(door=str(door)) for _ in range(2))]}
            # Of eight slots, four processes have two each; the second slot of `failing` is for the tasks that fail.
            slots = {"stalled": 1, "failing": 2, "wide": 2 * CPUS}[name]
            where = {"run_dir": folder / name, "address": address}
            left.append(submit(batch, max_workers=slots, use_threads=name == "wide", **where))
        print(name, flush=True)
    door.unlink()
    for handle in left:
        handle.wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
