"""The fluid mode beside the exact one, on fleets that both can play."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fleets import FLEET, LLM, MODEL, TOOLS, chat, tasks, tool
from polysilicon.catalog.fleet import Fleet, Link, OwnPrice, Pool
from polysilicon.catalog.policy import Policy, Slo
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.simulate import Result, exact, simulate, source
from polysilicon.workload.files import read, write
from polysilicon.workload.workload import Workload


def _with(pool: Pool, **changes: object) -> Pool:
    return msgspec.structs.replace(pool, **changes)


def _both(work: Workload, fleet: Fleet, policy: Policy | None = None) -> tuple[Result, Result]:
    """Return what exact play and the fluid mode say."""
    one, two = (simulate(work, fleet, policy=policy, mode=mode) for mode in ("exact", "fluid"))
    assert (one.mode, two.mode) == ("exact", "fluid")
    assert (one.tasks, one.steps) == (two.tasks, two.steps)
    return one, two


def _tools(
    count: int, rate_per_s: float, *, alike: bool = False, agent: str | None = None
) -> Workload:
    """Return tasks; of those of nobody nothing is expected: they go first come, first served."""
    rng = np.random.default_rng(2)
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, count))
    work_s = np.ones(count) if alike else rng.exponential(1.0, count)
    return Workload.from_records(
        tool(f"t{n:06d}", "1", at, cpu_s=cpu, agent=agent)
        for n, (at, cpu) in enumerate(zip(arrivals.tolist(), work_s.tolist(), strict=True))
    )


def test_tasks_of_engines_and_tools_agree() -> None:
    fleet = Fleet(pool=(TOOLS, _with(LLM, units=8)))
    policy = Policy(slo=(Slo(agent="a", p99_s=12.0),))
    one, two = _both(tasks(1500, 4.0), fleet, policy)
    assert two.sim_s == pytest.approx(one.sim_s, rel=0.01)
    assert two.cost_usd == pytest.approx(one.cost_usd, rel=0.01)
    assert two.utilisation == pytest.approx(one.utilisation, rel=0.03)
    assert two.slo["a"] == pytest.approx(one.slo["a"], abs=0.03)
    assert two.prefix_reuse == pytest.approx(one.prefix_reuse, rel=0.02)
    for name in ("task_s", "ttft_s", "tpot_s"):
        for share in ("p50", "p90"):
            exactly = getattr(getattr(one, name), share)
            # A fluid engine has one batch in a window, so that times between tokens vary less.
            assert getattr(getattr(two, name), share) == pytest.approx(exactly, rel=0.1), name
    assert two.task_s.p99 == pytest.approx(one.task_s.p99, rel=0.06)
    assert two.agents["a"].p90 == pytest.approx(one.agents["a"].p90, rel=0.05)
    # Outputs are of few lengths, so that a small shift moves the median from one to the next.
    assert two.kinds["llm"].p50 == pytest.approx(one.kinds["llm"].p50, rel=0.15)
    assert two.basis == one.basis
    assert "fluid mode" in two.notes[-1]


@pytest.mark.parametrize(
    ("units", "waits"), [(24, 0.3), (16, 0.1)], ids=["nearly full", "overloaded"]
)
def test_queues_of_tools_agree(units: int, waits: float) -> None:
    fleet = Fleet(pool=(_with(TOOLS, units=units),))
    one, two = _both(_tools(20_000, 300.0), fleet)
    assert two.utilisation["tools"] == pytest.approx(one.utilisation["tools"], rel=0.01)
    assert two.cost_usd == pytest.approx(one.cost_usd, rel=0.01)
    for share in ("p50", "p90", "p99"):
        expected, found = getattr(one.wait_s, share), getattr(two.wait_s, share)
        assert found == pytest.approx(expected, rel=waits, abs=0.05)
    assert two.task_s.p99 == pytest.approx(one.task_s.p99, rel=0.05)


def test_steps_spill_to_the_dear_pool_where_the_cheap_one_is_late() -> None:
    cheap = _with(TOOLS, name="cheap", units=8, price=OwnPrice(usd_per_hour=0.1))
    dear = _with(TOOLS, name="dear", units=12, price=OwnPrice(usd_per_hour=1.0))
    policy = Policy(slo=(Slo(agent="a", p99_s=2.0),))
    one, two = _both(
        _tools(20_000, 200.0, alike=True, agent="a"), Fleet(pool=(cheap, dear)), policy
    )
    for name in ("cheap", "dear"):
        assert two.pools[name].steps == pytest.approx(one.pools[name].steps, rel=0.1)
        assert two.utilisation[name] == pytest.approx(one.utilisation[name], rel=0.1)
    assert min(pool.steps for pool in two.pools.values()) > 2000
    idle = simulate(
        _tools(2000, 10.0, agent="a"), Fleet(pool=(cheap, dear)), policy=policy, mode="fluid"
    )
    assert idle.pools["dear"].steps == 0


def test_failures_cost_as_much_again() -> None:
    spot = _with(TOOLS, units=8, interruptions_per_hour=120.0, restart_s=10.0)
    one, two = _both(_tools(20_000, 20.0), Fleet(pool=(spot,)))
    assert two.again == pytest.approx(one.again, rel=0.2)
    assert two.again > 200
    assert two.utilisation["tools"] == pytest.approx(one.utilisation["tools"], rel=0.05)
    hopeless = _with(spot, interruptions_per_hour=1e6)
    with pytest.raises(PolysiliconError, match="before their machines fail"):
        simulate(_tools(10, 1.0), Fleet(pool=(hopeless,)), mode="fluid")


def test_a_fleet_beyond_events_is_played_as_a_fluid() -> None:
    machines = 10**9
    fleet = Fleet(pool=(_with(TOOLS, units=machines), _with(LLM, units=machines)))
    work = tasks(100, 2.0)
    found = simulate(work, fleet)
    assert found.mode == "fluid"
    small = simulate(work, Fleet(pool=(_with(TOOLS, units=100), _with(LLM, units=1000))))
    assert small.mode == "exact"
    assert found.task_s.p50 == pytest.approx(small.task_s.p50, rel=0.05)
    assert found.cost_usd / found.sim_s == pytest.approx(
        sum(p.units * c for p, c in ((fleet.pool[0], _usd(small, "tools", 100)),
                                     (fleet.pool[1], _usd(small, "llm", 1000))))
    )  # fmt: skip
    with pytest.raises(InputError, match="take the fluid mode"):
        simulate(work, fleet, mode="exact")


def _usd(result: Result, pool: str, units: int) -> float:
    return result.pools[pool].cost_usd / result.sim_s / units


def test_too_many_steps_in_flight_are_played_as_a_fluid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_OPEN", 100)
    found = simulate(tasks(50, 2.0), FLEET)
    assert found.mode == "fluid"
    assert any("steps in flight" in note for note in found.notes)
    assert simulate(tasks(50, 2.0), FLEET, mode="exact").mode == "exact"


def test_pieces_and_seeds_and_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.parquet"
    write(tasks(300, 0.6), path)
    fleet = Fleet(pool=(TOOLS, _with(LLM, units=3)))
    whole = simulate(path, fleet, mode="fluid", output=tmp_path / "whole.parquet")
    again = simulate(path, fleet, mode="fluid", output=tmp_path / "again.parquet")
    same = {"wall_s": 0.0, "steps_per_s": 0.0}
    assert _with(whole, **same) == _with(again, **same)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()
    played = read(tmp_path / "whole.parquet")
    start_s, end_s = played.numbers("start_s"), played.numbers("end_s")
    assert (end_s > start_s).all()
    assert set(played.table["pool"].to_pylist()) == {"tools", "llm"}

    def pieces(_path: Path) -> object:
        table = read(path).table
        return (table.slice(at, 101) for at in range(0, len(table), 101))

    monkeypatch.setattr(source, "MOST_ROWS", 100)
    monkeypatch.setattr(source, "tables", pieces)
    parts = simulate(path, fleet, mode="fluid")
    assert parts.task_s.p50 == pytest.approx(whole.task_s.p50, rel=0.05)
    assert parts.utilisation == pytest.approx(whole.utilisation, rel=0.06)


def test_people_children_and_ways_between_regions() -> None:
    steps = [
        tool("t", "a", 0.0, cpu_s=1.0, region="eu-west-1", start_s=0.0, end_s=1.0),
        tool("t", "b", 0.0, cpu_s=2.0, region="eu-west-1", start_s=0.0, end_s=2.0),
        tool("t", "c", 0.0, cpu_s=1.0, region="eu-west-1", parent_ids=("a", "b"),
             start_s=32.0, end_s=33.0),
        chat("u", "a", 40.0, region="us-east-1"),
    ]  # fmt: skip
    link = Link(regions=("us-east-1", "eu-west-1"), delay_s=0.5)
    fleet = Fleet(pool=(_with(TOOLS, offer="aws/m7g.xlarge"), LLM), link=(link,))
    one, two = _both(Workload.from_records(steps), fleet)
    assert two.task_s.p99 == pytest.approx(one.task_s.p99, rel=0.01)
    assert two.ttft_s.p50 == pytest.approx(one.ttft_s.p50, rel=0.01)
    assert two.wait_s.p99 == pytest.approx(0.0, abs=1e-6)
    assert MODEL
