from __future__ import annotations

import pytest

from polysilicon.runtime.calibration.speed import (
    PROGRAMS,
    core_speed,
    memory_bandwidth,
    reference,
)


def test_the_reference_has_the_programs_that_run_here():
    assert set(reference()) == set(PROGRAMS)


def test_core_speed_is_told_alone_together_and_against_the_catalog():
    found = core_speed(2, 100_000)
    assert found.one_mbs.repeats == 3
    assert found.all_mbs.repeats == 6
    assert 0 < found.one_mbs.low <= found.one_mbs.median <= found.one_mbs.high
    assert found.relative_low < found.relative < found.relative_high
    assert found.relative_high / found.relative == pytest.approx(1.2)


def test_memory_bandwidth_counts_what_is_read_and_written():
    found = memory_bandwidth(2, 4 * 2**20)
    assert found.threads == 2
    assert found.copy_gbs.median > 0.1
    assert found.triad_gbs.repeats == 3
