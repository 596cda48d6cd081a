"""The options of a run at its manager, made of its settings and of the slots that it gets."""

from __future__ import annotations

from dfz_ray.driver.slot_plan import SlotPlan, find_held
from dfz_ray.engine.engine_options import SHORT_TARGET_S, EngineOptions
from dfz_ray.engine.pool import PoolLimits
from dfz_ray.manager.nodes import live_nodes
from dfz_ray.protocol.submission import RunOptions
from dfz_ray.specs.run_config import RunConfig

LINGER_S = 3.0
"""Seconds for which workers wait for further calls, unless others want their places."""


def make_run_options(
    plan: SlotPlan, config: RunConfig, has_listener: bool, lingers: bool, reports_early: bool, opening: str
) -> RunOptions:
    """The options for a run with these slots; if it `lingers`, workers wait a while for further tasks."""
    settings = config.settings
    faults, chunking, journal = settings.faults, settings.chunking, settings.journal
    engine = EngineOptions(
        plan.slots,
        chunking.target_s or (SHORT_TARGET_S if has_listener or plan.is_auto else EngineOptions.target_s),
        chunking.lease_s,
        LINGER_S if lingers else 0.0,
        faults.grace_s,
        faults.preempt_after_s,
        faults.free_losses,
        seed=config.seed,
        width=plan.width,
        processes=plan.processes,
        # The engine receives the limits of the nodes as soon as the manager has looked at them.
        pool=PoolLimits(settings.pool.least, settings.pool.most or plan.slots) if plan.is_auto else None,
        cores=sum(node.get("CPU", 0.0) for node in live_nodes()) if plan.is_auto else 1.0,
    )
    most = settings.pool.most
    inline_bytes = journal.inline_result_bytes
    return RunOptions(
        engine,
        inline_bytes,
        journal.durable,
        faults.node_wait_s,
        has_listener,
        reports_early,
        most,
        opening,
        chunking.relay_leases,
        find_held(),
    )
