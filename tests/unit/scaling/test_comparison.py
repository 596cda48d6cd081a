"""Two studies of one batch, compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.sample_study import study, summarise

from dfz_ray.cli import group
from dfz_ray.errors import InvalidInput
from dfz_ray.scaling.comparison import Study, compare_studies, overall
from dfz_ray.scaling.measurement import Measurement, append_measurement
from dfz_ray.scaling.report import write_study
from dfz_ray.scaling.study_folder import TRIALS


def slower(by: dict[int, float], repeats: int = 6) -> list[Measurement]:
    """A study whose points take longer by a factor each."""
    trials = study(repeats=repeats)
    return [dataclasses.replace(one, wall_s=one.wall_s * by.get(one.workers, 1.0)) for one in trials]


def write(folder: Path, trials: list[Measurement], count: int = 40) -> Study:
    write_study(folder, summarise(trials, batch={"domains": ["maze"], "count": count}), trials)
    for trial in trials:
        append_measurement(folder / TRIALS, trial)
    return Study.read(folder)


def test_each_point_gets_its_verdict(tmp_path: Path) -> None:
    """A point that takes longer is worse, one that takes less time better, and small differences are none."""
    before = write(tmp_path / "before", slower({}))
    after = write(tmp_path / "after", slower({1: 1.3, 2: 0.7, 4: 1.002}))
    found = {one.workers: (one.verdict, one.reason) for one in compare_studies(before, after)}
    assert found[0] == ("same", "surely within 5 %")
    assert found[1] == ("worse", "takes 30 % longer")
    assert found[2] == ("better", "takes 30 % less time")
    assert found[4][0] == "same"
    assert overall(compare_studies(before, after)) == "worse"
    assert overall(compare_studies(before, before)) == "same"


def test_where_the_studies_cannot_tell_they_say_so(tmp_path: Path) -> None:
    """Too few repeats, a point that one study lacks, and an interval on both sides of 1 are no verdict."""
    before = write(tmp_path / "before", slower({}, repeats=3))
    after = write(tmp_path / "after", [one for one in slower({1: 1.02}, repeats=3) if one.workers != 4])
    found = {one.workers: one for one in compare_studies(before, after)}
    assert found[1].verdict == "can't tell"
    assert found[1].reason == "it takes 4 repeats in each study"
    assert found[4].reason.endswith("before measured it")
    assert overall(list(found.values())) == "can't tell"


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
