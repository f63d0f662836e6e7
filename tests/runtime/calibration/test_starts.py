from __future__ import annotations

import asyncio

import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.calibration.starts import RUNS, sandbox_start, search_speed


def test_a_sandbox_is_timed_without_its_first_run():
    found = asyncio.run(sandbox_start("monty", 2))
    assert found.run_s.repeats == found.startup_s.repeats == RUNS
    assert 0 < found.run_s.low <= found.run_s.high < 5
    assert found.first_s > 0


def test_one_that_is_not_there_is_named():
    with pytest.raises(InputError, match="no sandbox 'mont'"):
        asyncio.run(sandbox_start("mont", 2))


def test_a_query_is_timed():
    found = search_speed(50)
    assert found.documents == 50
    assert 0 < found.query_s.median < 1
