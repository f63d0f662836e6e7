from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon.cost.durations import POINTS, durations_of, tool_durations
from polysilicon.cost.tools import SAME, Host, by_ratio
from polysilicon.errors import InputError
from polysilicon.workload.record import StepRecord

PLAIN = Host(vcpus=4, cores=4)


def step(number: int, seconds: float | None = None, **fields) -> StepRecord:
    times = {} if seconds is None else {"start_s": 10.0, "end_s": 10.0 + seconds}
    given = {"task_id": "t", "step_id": str(number), "name": "code", "kind": "tool"}
    return StepRecord(**(given | times | fields))


def coding_agent(count: int, seed: int) -> list[StepRecord]:
    """Steps of two kinds: most are over at once, some compile or test for half a minute."""
    rng = np.random.default_rng(seed)
    short = rng.lognormal(np.log(0.04), 0.7, count)
    long = rng.lognormal(np.log(22.0), 0.2, count)
    times = np.where(rng.random(count) < 0.85, short, long)
    return [step(i, t, cpu_s=float(0.8 * t)) for i, t in enumerate(times)]


def test_few_steps_are_kept_as_they_are():
    found = tool_durations([step(i, t) for i, t in enumerate([5.0, 1.0, 3.0])])["code"]
    assert found.service_s == pytest.approx((1.0, 3.0, 5.0))
    assert found.levels == (0.0, 0.5, 1.0)
    assert (found.count, found.mean_s) == (3, pytest.approx(3.0))
    assert found.quantile(0.5) == pytest.approx(3.0)
    assert found.quantile([0.0, 1.0]) == pytest.approx([1.0, 5.0])
    assert found.quantile(0.25) == pytest.approx(np.sqrt(3.0))


def test_one_step_is_a_distribution_too():
    found = tool_durations([step(1, 2.0, cpu_s=1.0)])["code"]
    assert found.quantile([0.0, 0.3, 1.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert found.on(by_ratio(3.0), PLAIN).mean_s == pytest.approx(4.0)


def test_many_steps_keep_both_modes_both_tails_and_the_mean():
    steps = coding_agent(20_000, seed=3)
    times = np.array([s.end_s - s.start_s for s in steps])
    found = tool_durations(steps)["code"]
    assert len(found.levels) <= POINTS
    assert found.service_s[0] == pytest.approx(times.min())
    assert found.service_s[-1] == pytest.approx(times.max())
    assert found.mean_s == pytest.approx(times.mean())
    for level in (0.01, 0.1, 0.5, 0.9, 0.99, 0.999):
        assert found.quantile(level) == pytest.approx(np.quantile(times, level), rel=0.05)
    drawn = found.sample(np.random.default_rng(5), 50_000)
    # Nothing between the modes, and the same share of long steps.
    assert np.mean((drawn > 1.0) & (drawn < 8.0)) < 0.001
    assert np.mean(drawn > 8.0) == pytest.approx(np.mean(times > 8.0), abs=0.01)


def test_only_work_scales_to_another_processor():
    waits = [step(i, 10.0, startup_s=1.0, wait_s=8.0, cpu_s=1.0) for i in range(3)]
    works = [step(i + 3, 10.0, cpu_s=10.0, name="build") for i in range(3)]
    found = tool_durations([*waits, *works])
    half = by_ratio(0.5)
    assert found["code"].on(half, PLAIN).quantile(0.5) == pytest.approx(9.5)
    assert found["build"].on(half, PLAIN).quantile(0.5) == pytest.approx(5.0)
    assert found["build"].on(half, PLAIN).mean_s == pytest.approx(5.0)
    assert found["build"].on(SAME, PLAIN, utilisation=7 / 4).quantile(0.5) == pytest.approx(20.0)


def test_steps_that_change_places_stay_in_order():
    """A step that waits is overtaken where work is slow."""
    found = tool_durations([step(1, 2.0, cpu_s=2.0), step(2, 3.0, wait_s=3.0)])["code"]
    slow = found.on(by_ratio(4.0), PLAIN)
    assert slow.service_s == pytest.approx((3.0, 8.0))
    assert slow.wait_s == pytest.approx((3.0, 0.0))


def test_unexplained_time_counts_as_waiting():
    found = tool_durations([step(1, 10.0, startup_s=1.0, cpu_s=2.0)])["code"]
    assert found.wait_s == pytest.approx((7.0,))
    assert found.on(by_ratio(2.0), PLAIN).service_s == pytest.approx((12.0,))


def test_core_seconds_of_several_cores():
    # Eight core-seconds within two seconds: four cores, although one was told.
    found = tool_durations([step(1, 2.0, cpu_s=8.0)])["code"]
    assert found.cores == pytest.approx((4.0,))
    assert found.on(SAME, PLAIN).service_s == pytest.approx((2.0,))
    assert found.on(SAME, Host(vcpus=2, cores=2)).service_s == pytest.approx((4.0,))


def test_parts_stand_in_for_times_that_are_not_known():
    parts = [step(1, cpu_s=4.0, cores=2.0, wait_s=1.0, startup_s=0.5), step(2, wait_s=2.0)]
    found = tool_durations([*parts, step(3), step(4, 1.0, kind="llm"), step(5, startup_s=1.0)])
    assert found["code"].count == 2
    assert found["code"].service_s == pytest.approx((2.0, 3.5))


def test_steps_of_no_time_are_kept():
    found = tool_durations([step(1, 0.0), step(2, 0.0), step(3, 1.0)])["code"]
    assert found.quantile(0.0) == 0.0
    assert found.quantile(1.0) == pytest.approx(1.0)
    assert found.on(SAME, PLAIN).mean_s == pytest.approx(1 / 3)


def test_unknown_names_and_levels_are_refused():
    found = tool_durations([step(1, 1.0)])
    assert durations_of("code", found).count == 1
    with pytest.raises(InputError, match="did you mean code"):
        durations_of("cod", found)
    for level in (-0.1, 1.1, [0.5, 2.0]):
        with pytest.raises(InputError, match="level"):
            found["code"].quantile(level)


def test_a_sketch_goes_through_a_file():
    found = tool_durations(coding_agent(500, seed=1))["code"]
    text = msgspec.json.encode(found)
    assert msgspec.json.decode(text, type=type(found)) == found
