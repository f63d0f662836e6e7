from __future__ import annotations

from types import SimpleNamespace

import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.policy import Policy
from polysilicon.runtime.known import Known
from polysilicon.runtime.pools import RunningPool

pytest.importorskip("ray")
from polysilicon.runtime.cluster.opening import _follow


@pytest.mark.parametrize("unit_w", [100.0, None])
def test_dollars_and_watts_of_a_core_stay_as_machines_go_and_come(unit_w: float | None) -> None:
    pool = Pool(name="a", serves=("tool:*",), units=4)
    running = RunningPool(pool, None, 8, lambda cpu_s, service_s: (0.0, None), 1.0, unit_w)
    known = Known([running], Policy())
    machine = SimpleNamespace(hello=SimpleNamespace(cores=8))
    for count in (4, 1, 3):
        _follow(running, SimpleNamespace(members=[machine] * count), 1.0, unit_w)
        assert known.watts_a_slot("cpu").tolist() == [(unit_w or 0.0) / 8]
        assert running.usd_per_s == count
        assert running.watts == (None if unit_w is None else unit_w * count)
