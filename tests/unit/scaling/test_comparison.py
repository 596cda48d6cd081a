"""Two studies of one batch, compared."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.sample_study import study, summarise

from dfz_ray.cli import group
from dfz_ray.errors import InvalidInput
from dfz_ray.scaling.comparison import (
    Study,
    answers_differ,
    compare_studies,
    describe_times,
    have_equal_tasks,
    list_changes,
    overall,
)
from dfz_ray.scaling.measurement import Measurement, append_measurement
from dfz_ray.scaling.report import write_study
from dfz_ray.scaling.study_folder import PLAN, TRIALS


def slower(by: dict[int, float], repeats: int = 6) -> list[Measurement]:
    """A study whose points take longer by a factor each."""
    trials = study(repeats=repeats)
    return [dataclasses.replace(one, wall_s=one.wall_s * by.get(one.workers, 1.0)) for one in trials]


def write(folder: Path, trials: list[Measurement], count: int = 40, seed: int = 0, **batch: str) -> Study:
    write_study(folder, summarise(trials, batch={"domains": ["maze"], "count": count, **batch}, seed=seed), trials)
    for trial in trials:
        append_measurement(folder / TRIALS, trial)
    return Study.read(folder)


def test_each_point_gets_its_verdict(tmp_path: Path) -> None:
    """A point that gains less is worse, one that gains more better, and small differences are none."""
    before = write(tmp_path / "before", slower({}))
    after = write(tmp_path / "after", slower({1: 1.3, 2: 0.7, 4: 1.002}))
    found = {one.workers: (one.verdict, one.reason) for one in compare_studies(before, after)}
    assert found[0] == (None, "")
    assert found[1] == ("worse", "23 % lower speedup")
    assert found[2] == ("better", "43 % higher speedup")
    assert found[4] == ("same", "surely within 5 %")
    assert overall(compare_studies(before, after)) == "worse"
    assert overall(compare_studies(before, before)) == "same"


def test_a_machine_of_another_speed_scales_alike(tmp_path: Path) -> None:
    """Times that are halved in all programs are no verdict, and less speedup is worse on a faster machine, too."""
    before = write(tmp_path / "before", slower({}))
    faster = compare_studies(before, write(tmp_path / "faster", slower(dict.fromkeys((0, 1, 2, 4), 0.5))))
    assert overall(faster) == "same"
    assert [one.verdict for one in faster if one.workers == 0] == [None]
    words = "times differ by -50 %, which another hour of the same machine also does"
    assert [one.reason for one in faster if one.workers == 0] == [f"its {words}"]
    assert all(one.times_differ for one in faster)
    assert describe_times(one.times for one in faster) == words
    found = {one.workers: one for one in compare_studies(before, write(tmp_path / "2", slower({0: 0.5, 4: 0.8})))}
    assert found[4].verdict == "worse"
    assert found[4].times is not None
    assert found[4].times.value < 1
    assert found[4].reason == "38 % lower speedup"


def test_without_a_sequential_program_times_decide_and_say_what_they_are(tmp_path: Path) -> None:
    """Two sessions are confounded: the verdict by times says that it is one."""
    before = write(tmp_path / "before", [one for one in slower({}) if one.workers])
    after = write(tmp_path / "after", slower({1: 1.3, 2: 0.7}))
    found = {one.workers: one for one in compare_studies(before, after)}
    assert (found[1].verdict, found[2].verdict, found[4].verdict) == ("worse", "better", "same")
    assert found[1].speedups is None
    assert found[1].reason.startswith("30 % longer time (by times, which differ between two sessions")


def test_trials_that_are_left_out_are_named(tmp_path: Path) -> None:
    """Where but one trial of each study completed all tasks, the reason is not a lack of repeats alone."""
    trials = [dataclasses.replace(one, completed=39, failed=1) if one.repeat else one for one in slower({}, 8)]
    before = write(tmp_path / "before", trials)
    (found,) = [one for one in compare_studies(before, before) if one.workers == 2]
    assert found.verdict == "can't tell"
    listed = "1, 2, 3, 4, 5, 6, 7"
    words = f"repeats {listed} before, and {listed} after completed fewer than 40 tasks"
    assert f"left out: {words}" in found.reason


def test_where_the_studies_cannot_tell_they_say_so(tmp_path: Path) -> None:
    """Too few repeats, a point that one study lacks, and an interval on both sides of 1 are no verdict."""
    before = write(tmp_path / "before", slower({}, repeats=3))
    after = write(tmp_path / "after", [one for one in slower({1: 1.02}, repeats=3) if one.workers != 4])
    found = {one.workers: one for one in compare_studies(before, after)}
    assert found[1].verdict == "can't tell"
    assert found[1].reason == "it takes 5 repeats in each study"
    assert found[4].reason.endswith("before measured it")
    assert overall(list(found.values())) == "can't tell"


def test_lost_work_is_never_better(tmp_path: Path) -> None:
    """A point that fails its tasks fast is worse; where chance may have lost them, the studies can't tell."""
    before = write(tmp_path / "before", slower({}))

    def change(name: str, repeats: int, **changes: Any) -> Study:
        trials = slower({})
        hit = [one for one in trials if one.workers == 2 and one.repeat < repeats]
        return write(tmp_path / name, [dataclasses.replace(one, **changes) if one in hit else one for one in trials])

    def judged(before: Study, after: Study) -> tuple[str, str]:
        (found,) = [one for one in compare_studies(before, after) if one.workers == 2]
        return found.verdict, found.reason

    fast = change("fast", 6, completed=10, failed=30, wall_s=0.5)
    assert judged(before, fast) == ("worse", "loses 180 of 240 tasks, 0 of 240 before")
    once = change("once", 1, completed=39, failed=1, wall_s=0.5)
    assert judged(before, once) == ("can't tell", "loses 1 of 240 tasks, 0 of 240 before, which may be chance")
    slow = change("slow", 1, completed=39, failed=1)
    twice = [dataclasses.replace(one, wall_s=2 * one.wall_s) if one.workers else one for one in slow.trials]
    slow = dataclasses.replace(slow, trials=twice)
    assert judged(before, slow) == ("worse", "50 % lower speedup, and loses 1 of 240 tasks, 0 of 240 before")
    unlike = "loses 0 of 240 tasks, 180 of 240 before: no times are of the same work"
    assert judged(fast, before) == ("can't tell", unlike)
    assert judged(once, before)[0] == "same"
    dead = change("dead", 6, completed=0, failed=40, wall_s=0.5)
    assert judged(before, dead)[0] == "worse"
    assert judged(dead, dead)[0] == "can't tell"
    assert judged(fast, fast) == ("same", "surely within 5 %")


@pytest.mark.parametrize("points", [4, 8])
def test_of_equal_studies_few_are_found_different(points: int) -> None:
    """However many points two equal studies have, any of them is better or worse in at most 5 % of all comparisons."""
    random = np.random.default_rng(points)
    comparisons = 300
    trials = study(workers=tuple(range(points + 1)), repeats=6)

    def draw() -> Study:
        noisy = [dataclasses.replace(one, wall_s=one.wall_s * random.lognormal(0, 0.1)) for one in trials]
        return Study(Path("drawn"), {"batch": {"domains": ["maze"], "count": 40}}, noisy)

    def session() -> Study:
        """A study at a time of its own, in which the machine is slower or faster as a whole."""
        drawn, speed = draw(), random.lognormal(0, 0.05)
        return dataclasses.replace(
            drawn, trials=[dataclasses.replace(one, wall_s=speed * one.wall_s) for one in drawn.trials]
        )

    wrong = sum(overall(compare_studies(session(), session())) in ("worse", "better") for _ in range(comparisons))
    assert wrong / comparisons <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / comparisons)


@pytest.mark.long
def test_studies_of_different_batches_are_refused(tmp_path: Path) -> None:
    """The error names what differs."""
    before, after = write(tmp_path / "before", slower({})), write(tmp_path / "after", slower({}), count=41)
    with pytest.raises(InvalidInput, match="count"):
        compare_studies(before, after)


@pytest.mark.long
def test_the_command_has_an_exit_code_and_a_line(tmp_path: Path) -> None:
    """The last line is the verdict; the exit code is 1 where something is worse."""
    for name, by in (("before", {}), ("worse", {2: 1.3}), ("better", {2: 0.7})):
        write(tmp_path / name, slower(by))
    for after, code in (("before", 0), ("worse", 1), ("better", 0)):
        done = CliRunner().invoke(
            group, ["compare", str(tmp_path / "before"), str(tmp_path / after)], standalone_mode=False
        )
        assert done.output.splitlines()[-1] == ("same" if after == "before" else after)
        assert done.return_value == code


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"batch": 3}', "{", ""])
def test_what_is_no_study_is_refused(content: str, tmp_path: Path) -> None:
    """A folder whose summary is that of no study is refused with one message."""
    write(tmp_path / "study", slower({}))
    (tmp_path / "study" / "summary.json").write_text(content)
    with pytest.raises(InvalidInput, match="expected the folder of a study that has ended"):
        Study.read(tmp_path / "study")


def test_a_trial_that_was_cut_off_is_not_compared(tmp_path: Path) -> None:
    """A line that was not written to its end is left out, and any other damage is refused."""
    whole = write(tmp_path / "study", slower({}))
    path = tmp_path / "study" / TRIALS
    path.write_bytes(path.read_bytes()[:-7])
    assert Study.read(whole.folder).trials == whole.trials[:-1]
    path.write_bytes(b"{}\n")
    with pytest.raises(InvalidInput, match="the folder of a study that has ended"):
        Study.read(whole.folder)


def test_a_crash_never_passes(tmp_path: Path) -> None:
    """A trial that fails as a whole has lost all of its tasks: all of them are worse, and some are never the same."""

    def crashing(name: str, repeats: int, crashes: int) -> Study:
        trials = slower({}, repeats)
        dead = {"error": "the node died", "completed": 0, "digest": None}
        hit = [one for one in trials if one.workers == 4 and one.repeat < crashes]
        return write(tmp_path / name, [dataclasses.replace(one, **dead) if one in hit else one for one in trials])

    def judged(before: Study, after: Study) -> tuple[str, str]:
        (found,) = [one for one in compare_studies(before, after) if one.workers == 4]
        return found.verdict, found.reason

    for repeats in (1, 12):
        before, after = crashing(f"before-{repeats}", repeats, 0), crashing(f"after-{repeats}", repeats, repeats)
        assert judged(before, after) == ("worse", "every trial fails, and none did before")
        assert judged(after, before)[0] == "can't tell"
        assert judged(after, after)[0] == "can't tell"
    some = crashing("some", 12, 5)
    lost = "loses 200 of 480 tasks, 0 of 480 before, which may be chance"
    assert judged(before, some) == ("can't tell", lost)
    assert judged(before, crashing("most", 12, 10))[0] == "worse"


def test_studies_of_other_seeds_are_of_another_batch_unless_their_tasks_are_equal(tmp_path: Path) -> None:
    """Studies whose tasks differ are refused, whatever their seeds; without digests their seeds decide."""
    trials = slower({})
    mine = [write(tmp_path / f"mine-{seed}", trials, seed=seed, tasks_digest="ab") for seed in (0, 7)]
    theirs = write(tmp_path / "theirs", trials, tasks_digest="cd")
    old = [write(tmp_path / f"old-{seed}", trials, seed=seed) for seed in (0, 7)]
    assert overall(compare_studies(*mine)) == "same"  # the seed of a study of one file is that of the order alone
    assert [have_equal_tasks(mine[0], other) for other in (mine[1], theirs, old[0])] == [True, False, None]
    for one in mine:
        with pytest.raises(
            InvalidInput, match=r"tasks_digest: found 'cd' in .*theirs; expected 'ab', as in .*compare one"
        ):
            compare_studies(one, theirs)
    arguments = ["compare", str(mine[0].folder), str(theirs.folder)]
    assert isinstance(CliRunner().invoke(group, arguments, standalone_mode=False).exception, InvalidInput)
    with pytest.raises(InvalidInput, match="seed: found 7"):
        compare_studies(*old)
    assert overall(compare_studies(old[0], mine[0])) == "same"


def test_the_facts_that_differ_are_named(tmp_path: Path) -> None:
    """Host, versions and commit that differ are told with both values, and that the settings do."""
    facts = [{"settings": "ab"}, {"settings": "cd"}]
    hosts = [{"hostname": "here", "commit": "old", "versions": {"ray": one}} for one in ("2.40", "2.41")]
    studies = []
    for number, (fact, host) in enumerate(zip(facts, hosts, strict=True)):
        trials = [dataclasses.replace(one, study=fact) for one in slower({})]
        folder = tmp_path / str(number)
        write_study(folder, summarise(trials, batch={"domains": ["maze"], "count": 40}, host=host), trials)
        for trial in trials:
            append_measurement(folder / TRIALS, trial)
        studies.append(Study.read(folder))
    assert list_changes(*studies) == ["ray: 2.41, before 2.40", "settings: others than before"]
    assert list_changes(studies[0], studies[0]) == []
    arguments = ["compare", *(str(one.folder) for one in studies)]
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert "differs: ray: 2.41, before 2.40\n" in done.stderr


def test_the_speedups_of_both_are_beside_the_times(tmp_path: Path) -> None:
    """A faster machine may gain less from workers than before: the sequential program is a third faster, 2 are not."""
    before, after = write(tmp_path / "0", slower({})), write(tmp_path / "1", slower({0: 2 / 3, 1: 2 / 3, 4: 2 / 3}))
    first, second = (study.find_speedup(2, "processes") for study in (before, after))
    assert first is not None
    assert second == pytest.approx(first * 2 / 3)
    assert before.find_speedup(4, "processes") == pytest.approx(after.find_speedup(4, "processes"))
    assert before.find_speedup(0, None) is None
    done = CliRunner().invoke(group, ["compare", str(tmp_path / "0"), str(tmp_path / "1")], standalone_mode=False)
    assert f" {first:.3g}, {second:.3g} " in done.output
    titles, *rows = done.output.splitlines()[:4]
    assert titles.split() == ["Workers", "Speedups", "After", "/", "before", "95", "%", "Verdict", "Times", "95", "%"]
    assert "…" not in "".join(rows)  # 80 columns, as where the output is no terminal


def test_answers_differ_only_where_both_are_known(tmp_path: Path) -> None:
    """A study without a digest of all answers has no other answers than another one."""
    trials = slower({})
    known = write(tmp_path / "known", trials)
    unknown = write(tmp_path / "unknown", [dataclasses.replace(one, digest=None) for one in trials])
    changed = write(tmp_path / "changed", [dataclasses.replace(one, digest="cd" * 32) for one in trials])
    assert [answers_differ(known, other) for other in (known, unknown, changed)] == [False, False, True]


def test_reasons_are_whole_on_a_narrow_terminal(tmp_path: Path) -> None:
    """The reason of each verdict has a line of its own, of which nothing is cut off."""
    before = write(tmp_path / "before", slower({}, repeats=2))
    told = CliRunner().invoke(group, ["compare", str(before.folder), str(before.folder)], env={"COLUMNS": "40"}).output
    assert "\n2 processes: it takes 5 repeats in each study\n" in told
    assert "\N{HORIZONTAL ELLIPSIS}" not in told


def test_a_study_that_was_edited_is_refused(tmp_path: Path) -> None:
    """A trial or a point that is none is named; of a study that has not ended the error says how it goes on."""
    before = write(tmp_path / "before", slower({}))
    file, summary_file = before.folder / TRIALS, before.folder / "summary.json"
    lines, summary = file.read_text(), summary_file.read_text()
    file.write_text(lines.replace('"wall_s": ', '"wall_s": "1", "busy_s": ', 1))
    with pytest.raises(InvalidInput, match="wall_s: found '1'"):
        Study.read(before.folder)
    file.write_text(lines)
    for edited in ('"speedup_of_old": ', '"speedup": "fast", "x": '):
        summary_file.write_text(summary.replace('"speedup": ', edited))
        with pytest.raises(InvalidInput, match="speedup"):
            Study.read(before.folder)
    summary_file.unlink()
    (before.folder / PLAN).touch()
    with pytest.raises(InvalidInput, match="dfz scale --resume"):
        Study.read(before.folder)


def test_a_study_without_trials_has_no_other_settings(tmp_path: Path) -> None:
    """Settings that are not known are not said to differ."""
    before = write(tmp_path / "before", slower({}))
    after = write(tmp_path / "after", slower({}))
    assert list_changes(before, dataclasses.replace(after, trials=[])) == []
