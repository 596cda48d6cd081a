"""No task can end another one's run: a minute of tests/hostile.py."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hostile_tasks import all_deeds
from support.hostile_trial import GOOD, HostileCluster, Trial, draw_trials

TELLING = (
    Trial(("leave_a_repeating_timer", "patch_json", "a_group_with_shared_members"), False),
    Trial(("leave_an_alarm", "a_mapping_that_changes_when_it_is_returned", "a_forged_cancellation"), True),
    Trial(("files_of_no_size", "clear_every_suspended_frame", "a_forged_reason_that_is_no_text"), False),
    Trial(("mask_every_permission", "patch_signal", "truncate_the_marks"), True),
    Trial(("leave_an_alarm_with_a_handler_that_raises", "truncate_the_marks", "trace_and_raise"), False),
    Trial(("two_gib_of_address_space", "patch_os_files", "end_with_3"), False),
    Trial(("become_nobody", "a_list_that_grows_when_it_is_returned", "compute_for_ever"), True),
    Trial(("work_in_a_removed_folder", "warnings_are_errors", "sum_for_ever"), False),
)
"""The trials that always run."""
SLOW = frozenset({"audit_and_raise", "no_modules"})
"""Tasks after which a worker can't speak any more: it ends itself after 30 s of silence, and the next ones, too."""
STRAY = frozenset({"change_its_folder_later", "patch_the_rest_after_a_chunk"})
"""Tasks that harm their worker at a moment at which others look guilty."""
BUDGET_S = 60.0
"""After so many seconds no further trial begins."""


def more_trials() -> Iterator[Trial]:
    """Trials drawn from the light hostile tasks, with processes; tests/hostile.py tries all, on threads, too."""
    light = {name for name, deed in all_deeds().items() if not deed.is_heavy} - SLOW - STRAY
    return (trial for trial in draw_trials(1, [False]) if light.issuperset(trial.names))


def test_good_tasks_notice_nothing_of_hostile_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside hostile tasks each good one completes with its own result, uncharged; the audits are OK, and runs end."""
    cluster = HostileCluster()
    begun, trials, violations = time.monotonic(), 0, []
    try:
        for trial in itertools.chain(TELLING, more_trials()):
            if trials >= len(TELLING) and time.monotonic() - begun > BUDGET_S:
                break
            end = cluster.run(trial, tmp_path / str(trials))
            violations += [f"{trial} with seed {trial.seed}: {text}" for text in end.violations]
            trials += 1
    finally:
        cluster.close()
    with capsys.disabled():
        print(f"\n{trials} trials of three hostile tasks among {GOOD} good ones", file=sys.stderr)
    assert not violations, "\n".join(violations)
