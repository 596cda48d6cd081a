"""The differences between our domains and those of the old module, as its scripts know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESULT_KEYS = {"maze": {"completion_time": "completion_time_s"}, "sorting": {"time": "time_s"}}
"""By domain: the old names of keys of a result, and ours."""
COSTLY = ("image_size", "num_categories", "augmentation", "model_type")
"""Parameters that the old module's image_classification ignored: scripts give any values, and expect an answer soon."""


def as_meant(domain: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a script; those that the old module ignored get a bound, unless the script says how much."""
    if domain != "image_classification" or "epochs" in parameters or not any(map(parameters.__contains__, COSTLY)):
        return parameters
    return {"bounded": True, **parameters}


def with_old_keys(task: Any, result: Any) -> Any:
    """The result of a script's task, with its old keys beside ours."""
    old = RESULT_KEYS.get(str(task.get("domain"))) if isinstance(task, Mapping) else None
    if old is None or not isinstance(result, dict):
        return result
    return result | {key: result[ours] for key, ours in old.items() if ours in result}
