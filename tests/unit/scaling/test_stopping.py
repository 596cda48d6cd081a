"""The number of repeats: as many as the verdict needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.sample_study import study, trial

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.scaling.estimate import Estimate, estimate_ratio
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.stopping import Stopping, repeats_to_tell
from dfz_ray.scaling.study import find_verdict
from dfz_ray.scaling.study_plan import StudyPlan
from dfz_ray.specs.batch_checks import read_batch

NARROW, WIDE, HOPELESS = Estimate(2.0, (1.95, 2.05)), Estimate(2.0, (1.85, 2.15)), Estimate(2.0, (0.5, 4.0))


def test_there_are_at_least_as_many_repeats_as_an_interval_needs() -> None:
    """However narrow the interval, four repeats are made; then it ends the study."""
    assert Stopping().why_end(3, NARROW) == ""
    assert Stopping().why_end(4, NARROW) == "the interval is within 5 %"


def test_repeats_go_on_while_they_help_and_end_where_they_do_not() -> None:
    """A wide interval asks for more, up to the most; a hopeless one ends sooner, and says what it would take."""
    assert Stopping().why_end(14, WIDE) == ""
    assert Stopping().why_end(15, WIDE) == "15 repeats are the most"
    assert Stopping().why_end(6, HOPELESS) == "the machine is too noisy: 1838 repeats would be needed"


def test_a_study_without_a_verdict_ends_early() -> None:
    """Where nothing can be compared, a further repeat changes nothing."""
    assert Stopping().why_end(3, None) == ""
    assert Stopping().why_end(4, None) == "there is nothing to compare, however many repeats follow"


def ends_after(trials: list[Measurement]) -> tuple[int, str]:
    """The repeats after which a study of four points ends, and why."""
    plan, stopping = StudyPlan(read_batch([{"domain": "maze"}], REGISTRY), (1, 2, 4), 0), Stopping(5)
    for repeats in range(1, 16):
        if why := stopping.why_end(repeats, find_verdict(trials, repeats - 1, plan, 4)):
            return repeats, why
    return 16, ""


def test_a_study_whose_tasks_all_fail_ends_early() -> None:
    """If no task completes, or every trial fails, the least number of repeats is enough."""
    nothing = "there is nothing to compare, however many repeats follow"
    assert ends_after(study(repeats=15, completed=0, failed=40)) == (5, nothing)
    assert ends_after(study(repeats=15, completed=0, error="the node died")) == (5, nothing)


def test_a_study_without_a_usable_baseline_ends_by_the_gain_of_more_workers() -> None:
    """If the sequential program always loses tasks, the ratio that the verdict rests on decides about the end."""
    lossy = [one if one.workers else replace(one, completed=30, failed=10) for one in study(repeats=15)]
    assert ends_after(lossy) == (5, "the interval is within 5 %")
    noise = np.random.default_rng(3)
    noisy = [replace(one, wall_s=one.wall_s * noise.lognormal(0, 0.08)) for one in lossy]
    assert ends_after(noisy)[0] > 5
    alone = [one for one in lossy if one.workers in (0, 2)]
    assert ends_after(alone)[0] == 5


def test_a_fixed_number_of_repeats_is_just_that() -> None:
    """Where least and most are the same, nothing else matters, and the reason is that number."""
    fixed = Stopping(7, 7)
    assert [fixed.why_end(n, NARROW) for n in (6, 7)] == ["", "7 repeats were asked for"]
    assert [fixed.why_end(n, WIDE) for n in (6, 7)] == ["", "7 repeats were asked for"]
    assert fixed.why_end(7, None) == "7 repeats were asked for"
    assert Stopping(1, 1).why_end(1, None) == "1 repeat was asked for"


def test_the_repeats_that_would_tell_are_about_right() -> None:
    """With as many repeats as were predicted the interval leaves 1 out in most studies, with a quarter in few."""
    random = np.random.default_rng(4)

    def tells(repeats: int) -> float:
        made = [
            estimate_ratio(1.1 * random.lognormal(0, 0.1, repeats), random.lognormal(0, 0.1, repeats))
            for _ in range(300)
        ]
        return sum(one.ci95 is not None and one.ci95[0] > 1 for one in made) / len(made)

    predicted = repeats_to_tell(8, Estimate(1.1, (1.1 / 1.12, 1.1 * 1.12)))
    assert predicted is not None
    assert tells(2 * predicted) > 0.7
    assert tells(predicted // 3) < 0.4
    assert repeats_to_tell(5, Estimate(1.0, (0.9, 1.1))) is None


def test_a_study_that_goes_on_ends_where_it_would_have_ended() -> None:
    """Trials of a later repeat, which a study that was interrupted has already, don't change what earlier ones say."""
    plan = StudyPlan(read_batch([{"domain": "maze"}], REGISTRY), (1, 2, 4), 0)
    until = study(repeats=5)
    begun = [trial(0, 5, 20, wall_s=80.0), trial(4, 5, 21, wall_s=0.2)]
    assert find_verdict([*until, *begun], 4, plan, 4) == find_verdict(until, 4, plan, 4)
    assert find_verdict([*until, *begun], 5, plan, 4) != find_verdict(until, 4, plan, 4)
