"""Parameters that mean less in scripts of the old module than they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COSTLY = ("image_size", "num_categories", "augmentation", "model_type")
"""Parameters that the old module's image_classification ignored: scripts give any values, and expect an answer soon."""


def as_meant(domain: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a script; those that the old module ignored get a bound, unless the script says how much."""
    if domain != "image_classification" or "epochs" in parameters or not any(map(parameters.__contains__, COSTLY)):
        return parameters
    return {"bounded": True, **parameters}
