"""Thousands of independent tasks on Ray: nothing lost, every state known.

    from dfz_ray import domain, run

    results = run("configs/sorting.yaml")

The public names are loaded when they are first used: `import dfz_ray` imports neither ray nor torch nor qiskit.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfz_ray.client import run as run
    from dfz_ray.client import submit as submit
    from dfz_ray.domains.user_domain import domain as domain
    from dfz_ray.dropin import ConcurrentCTMAbsoluteZeroPlugin as ConcurrentCTMAbsoluteZeroPlugin
    from dfz_ray.dropin import ConcurrentDFZAdapter as ConcurrentDFZAdapter
    from dfz_ray.dropin import ConcurrentTaskManager as ConcurrentTaskManager
    from dfz_ray.dropin import create_concurrent_dfz_plugin as create_concurrent_dfz_plugin
    from dfz_ray.errors import CallFailed as CallFailed
    from dfz_ray.errors import CallTimedOut as CallTimedOut
    from dfz_ray.errors import ClusterUnusable as ClusterUnusable
    from dfz_ray.errors import DfzError as DfzError
    from dfz_ray.errors import InfrastructureLost as InfrastructureLost
    from dfz_ray.errors import InvalidInput as InvalidInput
    from dfz_ray.errors import RemoteTraceback as RemoteTraceback
    from dfz_ray.errors import RunFolderRefused as RunFolderRefused
    from dfz_ray.errors import TasksFailed as TasksFailed
    from dfz_ray.execution.shared import get_shared as get_shared
    from dfz_ray.executor.executor import DFZExecutor as DFZExecutor
    from dfz_ray.handle import BatchHandle as BatchHandle
    from dfz_ray.journal.record import Record as Record
    from dfz_ray.results import Results as Results

__version__ = "0.1.0"

_HOMES = {
    "BatchHandle": "dfz_ray.handle",
    "CallFailed": "dfz_ray.errors",
    "CallTimedOut": "dfz_ray.errors",
    "ClusterUnusable": "dfz_ray.errors",
    "ConcurrentCTMAbsoluteZeroPlugin": "dfz_ray.dropin",
    "ConcurrentDFZAdapter": "dfz_ray.dropin",
    "ConcurrentTaskManager": "dfz_ray.dropin",
    "DFZExecutor": "dfz_ray.executor.executor",
    "DfzError": "dfz_ray.errors",
    "InfrastructureLost": "dfz_ray.errors",
    "InvalidInput": "dfz_ray.errors",
    "Record": "dfz_ray.journal.record",
    "RemoteTraceback": "dfz_ray.errors",
    "Results": "dfz_ray.results",
    "RunFolderRefused": "dfz_ray.errors",
    "TasksFailed": "dfz_ray.errors",
    "create_concurrent_dfz_plugin": "dfz_ray.dropin",
    "domain": "dfz_ray.domains.user_domain",
    "get_shared": "dfz_ray.execution.shared",
    "run": "dfz_ray.client",
    "submit": "dfz_ray.client",
}

logging.getLogger("dfz_ray").addHandler(logging.NullHandler())  # silent, unless the program that uses it listens

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names stand once


if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'dfz_ray' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
