"""Mistakes of users that type checkers find: each line that is marked, and no other one."""

from __future__ import annotations

import dfz_ray
from dfz_ray import DFZExecutor, domain, run, submit


@domain("coin")
def coin(flips: int = 10, *, seed: int = 0) -> dict[str, int]:
    """Flip a coin."""
    return {"heads": flips + seed}


@domain("dice")
def dice(throws: int = 10, *, seed: int) -> dict[str, int]:
    """Throw dice; the seed has no default, so that checkers want one."""
    return {"sixes": throws // 6 + seed}


def square(x: int) -> float:
    """A function of the user's own."""
    return float(x * x)


def use() -> None:
    """Wrong uses."""
    coin(flips="three", seed=1)  # wrong
    coin(3, 4)  # wrong
    coin.task(flip=3)  # wrong
    coin.task(flips="three")  # wrong
    dice.task(throws=3)  # wrong
    DFZExecutor().options(cpu=2)  # wrong
    DFZExecutor().options(cpus="two")  # wrong
    run([coin.task()], max_workers="many")  # wrong
    run([coin.task()], max_worker=3)  # wrong
    submit([coin.task()]).results().digest.decode()  # wrong
    DFZExecutor().submit(square, "3")  # wrong
    text: str = DFZExecutor().submit(square, 3).result()  # wrong
    print(text)
    dfz_ray.submitt([])  # wrong
