"""Opens a run: plans its slots once, and makes its domains ready to travel."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.driver.input_store import SharedArrays
from dfz_ray.journal.domain_versions import refuse_other_versions
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.journal_file import roll_back_cut_off
from dfz_ray.journal.reader import JournalReader
from dfz_ray.specs.batch import Batch
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.run_config import RunConfig

if TYPE_CHECKING:  # these import Ray, which is not loaded before a run is opened
    from dfz_ray.domains.domain import Domain
    from dfz_ray.driver.manager_client import ManagerClient
    from dfz_ray.driver.slot_plan import SlotPlan
    from dfz_ray.protocol.submission import ShippedDomain

logger = logging.getLogger("dfz_ray")

NO_SECOND_ATTEMPTS = "`speculate` has no effect on tasks that share processes, on threads: none gets a second attempt"
ENDLESS = 2**31
"""The number of tasks to expect of a run that takes more batches."""


class RunOpening:
    """Opens a run at this process's manager: a new run, one that was left, or one whose manager was lost.

    `domains` are those that the registry does not have; `reports_early` is as in ManagerClient. Raises RunFolderRefused
    if the run was begun under another version of a domain, and the configuration does not accept that.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        domains: Sequence[Domain],
        has_listener: bool,
        reports_early: bool = False,
    ) -> None:
        roll_back_cut_off(RunFolder(folder))
        if not config.accept_domain_versions:
            own = {domain.name: domain for domain in domains}
            refuse_other_versions(folder, lambda name: _find_version(own.get(name) or REGISTRY.find(name)))
        self._config, self._folder, self._domains = config, folder, domains
        self._has_listener, self._reports_early = has_listener, reports_early
        self._shared = SharedArrays(config.shared)
        self._shipped: dict[str, ShippedDomain] = {}
        self._plan: SlotPlan | None = None
        self._has_warned = False
        self._driver = uuid.uuid4().hex

    @property
    def slots(self) -> int | None:
        """The number of tasks that may execute at once; None until it is known."""
        if self._plan is not None:
            return self._plan.slots
        return self._config.max_workers if isinstance(self._config.max_workers, int) else None

    def find_slots(self) -> int:
        """The slots of a run that takes more batches; this process is connected to Ray."""
        from dfz_ray.driver.slot_plan import plan_slots

        if self._plan is None:
            self._plan = plan_slots(self._config, self._expect(None)[0], ENDLESS)
        return self._plan.slots

    def open(self, first_batch: Batch | None, is_endless: bool) -> ManagerClient:
        """Open the run, or open it again; `first_batch` and `is_endless` decide on its slots the first time."""
        from dfz_ray.driver.domain_shipping import ship
        from dfz_ray.driver.manager_client import ManagerClient
        from dfz_ray.driver.slot_plan import plan_slots

        if not self._shipped:
            self._shipped = {domain.name: ship(domain) for domain in self._domains}
        if self._plan is None:
            shapes, tasks = self._expect(first_batch)
            self._plan = plan_slots(self._config, shapes, ENDLESS if is_endless else tasks)
            self._warn(self._find_speculating() if first_batch is None else first_batch.speculating())
        client = ManagerClient(
            self._config,
            self._folder,
            self._plan,
            has_listener=self._has_listener,
            domains=self._shipped,
            batch=None if is_endless else first_batch,
            driver=self._driver,
            lingers=is_endless,
            reports_early=self._reports_early,
            shared=self._shared,
        )
        self._config = dataclasses.replace(self._config, retry_failed=False)  # once, not at each manager
        return client

    def ship(self, batch: Batch) -> Mapping[str, ShippedDomain]:
        """The domains of the run so far, those of a batch included, ready to travel."""
        from dfz_ray.driver.domain_shipping import ship

        for name in batch.domains().difference(self._shipped):
            self._shipped[name] = ship(REGISTRY.get(name))
        if self._plan is not None and self._plan.width > 1 and not self._has_warned:
            self._warn(batch.speculating())
        return self._shipped

    def _warn(self, speculating: Iterable[str]) -> None:
        """Say once that tasks of these domains get no second attempt, if they are to share processes."""
        own = {domain.name: domain for domain in self._domains}
        found = [own.get(name) or REGISTRY.find(name) for name in speculating]
        if self._plan is not None and self._plan.width > 1 and any(one and not one.exclusive for one in found):
            self._has_warned = True
            logger.warning("%s", NO_SECOND_ATTEMPTS)

    def _find_speculating(self) -> set[str]:
        """The domains of those tasks of the run's journal that may get a second attempt."""
        if not RunFolder(self._folder).holds_run():
            return set()
        with JournalReader(self._folder) as journal:
            kinds = list(journal.query("read_kinds"))
        return {domain for domain, _, _, policy in kinds if Policy.model_validate_json(policy).speculate}

    def _expect(self, first_batch: Batch | None) -> tuple[list[Resources], int]:
        """The known shapes of the run's tasks, and the number of tasks."""
        if first_batch is not None:
            return first_batch.shapes(), len(first_batch.tasks)
        if not RunFolder(self._folder).holds_run():
            return [self._config.settings.resources], 0
        with JournalReader(self._folder) as journal:
            shapes = [Resources.model_validate_json(one) for one in journal.shapes()]
            return shapes, sum(journal.counts().values())


def _find_version(domain: Domain | None) -> int | None:
    return None if domain is None else domain.version
