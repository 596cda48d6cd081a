"""Runs at the manager of this process, without a session between."""

from __future__ import annotations

from pathlib import Path

from dfz_ray.client import shipped_domains
from dfz_ray.driver.manager_client import ManagerClient
from dfz_ray.driver.slot_plan import SlotPlan
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import Settings
from dfz_ray.specs.states import count_final


def open_run(folder: Path, settings: Settings, plan: SlotPlan, *batches: Batch) -> ManagerClient:
    """A new run to which batches were submitted."""
    client = ManagerClient(RunConfig(settings=settings, name="run"), folder, plan)
    try:
        for batch in batches:
            client.submit(batch, shipped_domains(batch))
    except BaseException:
        client.close()
        raise
    return client


def wait_for_end(client: ManagerClient) -> None:
    """Wait until every task of a run is in a final state."""
    while count_final(client.read_progress(client.ask_for_progress())) < client.tasks:
        pass
