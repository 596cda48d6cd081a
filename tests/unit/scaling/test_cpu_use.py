"""The oversubscription guard, and hosts that nodes share."""

from __future__ import annotations

from support.sample_study import study, summarise

from dfz_ray.scaling.cpu_use import find_overuse
from dfz_ray.scaling.hosts import count_cores, describe_hosts
from dfz_ray.scaling.measurement import Measurement


def used(cpu_s: float, declared_cpu_s: float = 8.0, workers: tuple[int, ...] = (0,)) -> list[Measurement]:
    domains = {"maze": {"busy_s": 8.0, "cpu_s": cpu_s, "declared_cpu_s": declared_cpu_s}}
    return study(workers=workers, domains=domains, thread_settings=["OMP_NUM_THREADS"])


def test_a_domain_that_uses_more_cpus_than_it_declares_is_told() -> None:
    """The sentence has the CPUs that tasks use and declare, and the setting that caps them."""
    summary = summarise([*used(23.2), *study(workers=(2,))])
    words = "tasks of maze use 2.9 CPUs and declare 1: cap OMP_NUM_THREADS, or declare cpus: 3"
    assert words in summary["recommendation"]["reason"]
    assert summary["overuse"] == [{"domain": "maze", "used": 2.9, "declared": 1.0, "settings": ("OMP_NUM_THREADS",)}]


def test_below_one_cpu_there_is_nothing_to_cap() -> None:
    """Tasks that declare less than a CPU and clearly use more should declare it; a little more is nothing to tell."""
    assert find_overuse(used(0.24, declared_cpu_s=0.0)) == []  # 0.03 CPUs, none declared
    assert find_overuse(used(8.3, declared_cpu_s=7.6)) == []
    (half,) = find_overuse(used(4.0, declared_cpu_s=0.0))
    assert half.describe() == "tasks of maze use 0.5 CPUs and declare 0: declare cpus: 0.5"
    (whole,) = find_overuse(used(8.4, declared_cpu_s=2.0))
    assert whole.describe() == "tasks of maze use 1.05 CPUs and declare 0.25: declare cpus: 1"
    (more,) = find_overuse(used(12.0, declared_cpu_s=4.0))
    assert more.describe() == "tasks of maze use 1.5 CPUs and declare 0.5: cap OMP_NUM_THREADS, or declare cpus: 2"


def test_many_cpus_are_shown_without_an_exponent() -> None:
    """128 CPUs are 128, not 1.3e+02."""
    (found,) = find_overuse(used(1024.0))
    assert found.describe().startswith("tasks of maze use 128 CPUs and declare 1: ")


def test_tasks_that_keep_to_their_cpus_are_not_told() -> None:
    """Neither tasks that wait, nor tasks within what they declare, nor very short ones are blamed."""
    assert find_overuse(used(8.3)) == []
    assert find_overuse(used(0.1)) == []
    assert find_overuse(used(23.2, declared_cpu_s=24.0)) == []
    assert find_overuse(used(0.02, declared_cpu_s=0.01)) == []


def test_nodes_that_share_a_host_share_its_cores() -> None:
    """Three nodes of one host have its cores together, and the study says so; other hosts have Ray's CPUs."""
    shared = [("here", 1.0), ("here", 1.0), ("here", 1.0)]
    assert count_cores(shared, "here", 2) == 2
    assert describe_hosts(shared, 2) == ["the 3 nodes share one host with 2 cores"]
    apart = [("here", 4.0), ("there", 8.0)]
    assert count_cores(apart, "here", 2) == 10
    assert describe_hosts(apart, 10) == []
    assert describe_hosts([*apart, ("there", 8.0)], 18) == ["the 3 nodes share 2 hosts with 18 cores"]
