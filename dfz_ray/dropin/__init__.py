"""The DFZ concurrency interface, with real work behind it: change the import line, keep the script."""

from __future__ import annotations

from dfz_ray.dropin.adapter import ConcurrentDFZAdapter
from dfz_ray.dropin.concurrent_task_manager import ConcurrentTaskManager
from dfz_ray.dropin.plugin import ConcurrentCTMAbsoluteZeroPlugin, create_concurrent_dfz_plugin

__all__ = [
    "ConcurrentCTMAbsoluteZeroPlugin",
    "ConcurrentDFZAdapter",
    "ConcurrentTaskManager",
    "create_concurrent_dfz_plugin",
]
