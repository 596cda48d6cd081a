"""No task can end another one's run: the telling trials of tests/hostile.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.hostile_trial import GOOD, HostileCluster, Trial

TELLING = (
    Trial(("leave_a_repeating_timer", "clear_every_suspended_frame", "a_forged_reason_that_is_no_text"), False),
    Trial(("files_of_no_size", "patch_the_rest_after_a_chunk", "no_modules"), False),
    Trial(("leave_an_alarm", "a_mapping_that_changes_when_it_is_returned", "patch_signal"), True),
    Trial(("two_gib_of_address_space", "mask_every_permission", "truncate_the_marks"), True),
)
"""They take few seconds each: in none of them a worker has to be waited for. The whole takes 20 minutes."""


@pytest.mark.parametrize("trials", [TELLING[::2], pytest.param(TELLING[1::2], marks=pytest.mark.long)])
def test_good_tasks_notice_nothing_of_hostile_ones(
    trials: tuple[Trial, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside hostile tasks each good one completes with its own result, uncharged; the audits are OK, and runs end."""
    cluster = HostileCluster()
    violations = []
    try:
        for number, trial in enumerate(trials):
            end = cluster.run(trial, tmp_path / str(number))
            violations += [f"{trial} with seed {trial.seed}: {text}" for text in end.violations]
    finally:
        cluster.close()
    with capsys.disabled():
        print(f"\n{len(trials)} trials of three hostile tasks among {GOOD} good ones", file=sys.stderr)
    assert not violations, "\n".join(violations)
