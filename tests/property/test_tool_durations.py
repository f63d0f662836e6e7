from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysilicon.cost.durations import tool_durations
from polysilicon.cost.tools import SAME, Host, by_ratio
from polysilicon.workload.record import StepRecord

SECONDS = st.floats(0.0, 1e4, allow_subnormal=False)
MACHINE = Host(vcpus=64, cores=64)


@st.composite
def tool_steps(draw) -> list[StepRecord]:
    rows = draw(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=1, max_size=30))
    return [
        StepRecord(
            task_id="t",
            step_id=str(i),
            name="x",
            kind="tool",
            startup_s=startup_s,
            wait_s=wait_s,
            cpu_s=cpu_s,
        )
        for i, (startup_s, wait_s, cpu_s) in enumerate(rows)
    ]


@settings(max_examples=40, deadline=None)
@given(tool_steps())
def test_quantiles_rise_and_stay_between_the_extremes(steps):
    found = tool_durations(steps)["x"]
    values = found.quantile(np.linspace(0.0, 1.0, 101))
    assert np.all(np.diff(values) >= -1e-9 * values[1:])
    assert values[0] == pytest.approx(found.service_s[0])
    assert values[-1] == pytest.approx(found.service_s[-1])
    assert found.service_s[0] <= found.mean_s * (1 + 1e-9) + 1e-12
    assert found.mean_s <= found.service_s[-1] * (1 + 1e-9) + 1e-12


@settings(max_examples=40, deadline=None)
@given(tool_steps(), st.floats(0.1, 10.0))
def test_another_processor_and_back_is_where_we_were(steps, ratio):
    found = tool_durations(steps)["x"]
    same = found.on(SAME, MACHINE)
    assert same.service_s == pytest.approx(found.service_s, abs=1e-9)
    back = found.on(by_ratio(ratio), MACHINE).on(by_ratio(1 / ratio), MACHINE)
    assert back.service_s == pytest.approx(found.service_s, abs=1e-6)
    assert back.mean_s == pytest.approx(found.mean_s, rel=1e-6, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(tool_steps(), st.floats(1.0, 10.0))
def test_a_slower_processor_is_never_faster(steps, ratio):
    found = tool_durations(steps)["x"]
    slow = found.on(by_ratio(ratio), MACHINE)
    assert np.all(np.asarray(slow.service_s) >= np.asarray(found.service_s) - 1e-9)
