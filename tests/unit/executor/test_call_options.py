"""The options of calls: every one of them is typed, and a wrong one is refused with what there is."""

from __future__ import annotations

import pytest

from dfz_ray import InvalidInput
from dfz_ray.executor.call_options import NAMES, CallOptions, treat
from dfz_ray.executor.call_run import Treatment
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources

DEFAULT = Treatment(Resources(), Policy())


def test_checkers_know_every_option() -> None:
    """The options that type checkers accept are those that are taken."""
    assert set(CallOptions.__annotations__) == set(NAMES)


def test_an_unknown_option() -> None:
    """An unknown option is refused with the one that was meant, and with all that there are, of both kinds."""
    with pytest.raises(InvalidInput, match="options: cpu: found an unknown option; expected one of") as caught:
        treat(DEFAULT, {"cpu": 2, "cpus": 1})
    text = str(caught.value)
    assert "did you mean 'cpus'?" in text
    assert all(name in text for name in NAMES)


def test_options_change_what_they_name() -> None:
    """An option changes itself alone."""
    changed = treat(DEFAULT, {"cpus": 2, "timeout_s": 1.5, "backoff": {"first_s": 1.0}})
    assert changed.resources == Resources(cpus=2.0)
    assert (changed.policy.timeout_s, changed.policy.backoff.first_s, changed.policy.max_attempts) == (1.5, 1.0, 3)
    with pytest.raises(InvalidInput, match="gpus: found"):
        treat(DEFAULT, {"gpus": -1})
