from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from fleets import FLEET, LLM, MODEL, TOOLS, chat, tasks, tool
from polysilicon.catalog.fleet import Fleet, Link, OwnPrice, Pool
from polysilicon.catalog.policy import Policy, Residency, Slo
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.simulate import Result, simulate, source
from polysilicon.workload.files import read, write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload


def _same(result: Result) -> bytes:
    """Return a result without what the clock says."""
    return msgspec.json.encode(msgspec.structs.replace(result, wall_s=0.0, steps_per_s=0.0))


def _only(*pools: Pool) -> Fleet:
    return Fleet(pool=pools)


def test_a_tool_takes_its_core_seconds_at_the_speed_of_the_chip(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    work = Workload.from_records([tool("t", "1", 5.0, cpu_s=3.0, wait_s=2.0, startup_s=0.5)])
    result = simulate(
        work, _only(msgspec.structs.replace(TOOLS, offer="aws/m7g.large")), output=out
    )
    assert result.task_s.p50 == pytest.approx(5.5, rel=2e-3)
    step = next(iter(read(out).steps()))
    assert (step.ready_s, step.start_s) == (5.0, 5.0)
    assert step.end_s == pytest.approx(10.5, rel=1e-3)  # one of two busy cores slows it a little
    assert (step.pool, step.offer, step.region) == ("tools", "aws/m7g.large", "us-east-1")
    assert result.sim_s == pytest.approx(5.5, rel=1e-3)
    faster = simulate(work, _only(TOOLS))
    assert faster.task_s.p50 < result.task_s.p50


def test_tools_wait_where_all_cores_are_taken() -> None:
    pool = msgspec.structs.replace(TOOLS, offer="aws/m7g.large")  # 2 vCPUs
    work = Workload.from_records([tool(f"t{n}", "1", 0.0) for n in range(3)])
    alone = simulate(Workload.from_records([tool("t", "1", 0.0)]), _only(pool))
    crowd = simulate(work, _only(pool))
    assert crowd.wait_s.p99 == pytest.approx(crowd.kinds["tool"].p50, rel=5e-3)
    assert crowd.sim_s > 2 * alone.sim_s * 0.99
    two = simulate(work, _only(msgspec.structs.replace(pool, units=2)))
    assert two.wait_s.p99 == 0.0
    assert two.cost_usd / two.sim_s == pytest.approx(2 * crowd.cost_usd / crowd.sim_s)


def test_children_wait_for_all_parents_and_for_people() -> None:
    steps = [
        tool("t", "a", 0.0, cpu_s=1.0, start_s=0.0, end_s=1.0),
        tool("t", "b", 0.0, cpu_s=2.0, start_s=0.0, end_s=2.0),
        tool("t", "c", 0.0, cpu_s=1.0, parent_ids=("a", "b"), start_s=32.0, end_s=33.0),
    ]
    pool = msgspec.structs.replace(TOOLS, offer="aws/m7g.xlarge")
    result = simulate(Workload.from_records(steps), _only(pool))
    assert result.task_s.p50 == pytest.approx(33.0, rel=5e-3)


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_rows(tmp_path: Path) -> None:
    work = tasks(200, 4.0)
    order = np.random.default_rng(1).permutation(len(work))
    mixed = Workload(work.table.take(pa.array(order)))
    fleet = _only(TOOLS, msgspec.structs.replace(LLM, interruptions_per_hour=60.0, restart_s=5.0))
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    one = simulate(work, fleet, replications=2, seed=3, output=first)
    two = simulate(mixed, fleet, replications=2, seed=3, output=second)
    assert _same(one) == _same(two)
    assert first.read_bytes() == second.read_bytes()
    assert one.again > 0
    other = simulate(work, fleet, replications=2, seed=4)
    assert _same(other) != _same(one)


def test_what_is_simulated_is_a_workload_that_can_be_simulated(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    work = tasks(100, 2.0)
    first = simulate(work, FLEET, output=out)
    played = read(out)
    assert len(played) == len(work) == first.steps
    assert played.numbers("cost_usd").sum() == pytest.approx(
        sum(pool.steps_usd for pool in first.pools.values())
    )
    llm = ~np.isnan(played.numbers("first_token_s"))
    assert llm.sum() == 200
    start_s, end_s = played.numbers("start_s"), played.numbers("end_s")
    assert (start_s >= played.numbers("ready_s")).all()
    assert (end_s >= start_s).all()
    # Its think times are 0 and its core-seconds are those of the pool, so it takes as long again.
    second = simulate(out, FLEET)
    assert second.task_s.p50 == pytest.approx(first.task_s.p50, rel=0.01)
    assert second.task_s.p99 == pytest.approx(first.task_s.p99, rel=0.01)


def test_a_large_file_is_played_in_pieces_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.parquet"
    write(tasks(300, 3.0), path)
    whole = simulate(path, FLEET, output=tmp_path / "whole.parquet")

    def pieces(_path: Path) -> object:
        table = read(path).table
        return (table.slice(at, 101) for at in range(0, len(table), 101))

    monkeypatch.setattr(source, "MOST_ROWS", 100)
    monkeypatch.setattr(source, "tables", pieces)
    parts = simulate(path, FLEET, output=tmp_path / "parts.parquet")
    assert parts.task_s == whole.task_s
    assert parts.utilisation == pytest.approx(whole.utilisation)
    ends = [
        dict(zip(w.table["task_id"].to_pylist(), w.numbers("end_s"), strict=True))
        for w in (read(tmp_path / "whole.parquet"), read(tmp_path / "parts.parquet"))
    ]
    assert ends[0] == ends[1]


def test_tasks_of_a_large_file_must_be_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.parquet"
    write(Workload(tasks(30, 3.0).table.take(pa.array(list(range(119, -1, -1))))), path)
    monkeypatch.setattr(source, "MOST_ROWS", 100)
    monkeypatch.setattr(source, "tables", lambda p: [read(p).table.slice(0, 60),
                                                     read(p).table.slice(60)])  # fmt: skip
    with pytest.raises(InputError, match="not in the order of arrival"):
        simulate(path, FLEET)


def test_the_context_of_a_task_is_found_on_its_engine() -> None:
    steps = [
        chat("t", "1", 0.0, prompt_tokens=2000, cached_tokens=0),
        chat("t", "2", 0.0, prompt_tokens=2100, cached_tokens=2000, parent_ids=("1",)),
    ]
    kept = simulate(Workload.from_records(steps), _only(LLM))
    assert kept.prefix_reuse == pytest.approx(2000 / 4100)
    steps[1] = chat("t", "2", 0.0, prompt_tokens=2100, cached_tokens=0, parent_ids=("1",))
    lost = simulate(Workload.from_records(steps), _only(LLM))
    assert lost.prefix_reuse == 0.0
    assert lost.task_s.p50 > kept.task_s.p50


def test_an_slo_and_a_cheaper_pool_decide_where_steps_go() -> None:
    slow = msgspec.structs.replace(
        TOOLS, name="slow", offer="aws/m7g.large", price=OwnPrice(usd_per_hour=0.01)
    )
    fleet = _only(slow, TOOLS)
    work = Workload.from_records([tool(f"t{n}", "1", float(n * 10), cpu_s=4.0) for n in range(50)])
    cheap = simulate(work, fleet)
    assert cheap.pools["slow"].steps == 50
    fast = simulate(work, fleet, policy=Policy(slo=(Slo(agent="a", p99_s=3.0),)))
    assert fast.pools["tools"].steps == 50
    assert fast.slo["a"] == 1.0
    assert simulate(work, fleet, policy=Policy(objective="latency")).pools["tools"].steps == 50


def test_energy_decides_where_it_is_what_counts() -> None:
    frugal = Pool(name="frugal", offer="aws/c7a.2xlarge", region="us-east-1", serves=("tool:*",))
    thirsty = msgspec.structs.replace(
        frugal, name="thirsty", offer="aws/c7i.2xlarge", price=OwnPrice(usd_per_hour=0.001)
    )
    work = Workload.from_records([tool(f"t{n}", "1", float(n * 10)) for n in range(5)])
    assert simulate(work, _only(thirsty, frugal)).pools["thirsty"].steps == 5
    saved = simulate(work, _only(thirsty, frugal), policy=Policy(objective="energy"))
    assert saved.pools["frugal"].steps == 5
    unknown = _only(TOOLS)
    with pytest.raises(InputError, match="power is not known"):
        simulate(work, unknown, policy=Policy(objective="energy"))


def test_pauses_of_persons_do_not_count_against_an_slo() -> None:
    steps = [
        tool("t", "1", 0.0, cpu_s=1.0),
        StepRecord(task_id="t", step_id="2", name="person", kind="tool", agent="a", arrival_s=0.0,
                   wait_s=100.0, parent_ids=("1",)),
        tool("t", "3", 0.0, cpu_s=1.0, parent_ids=("2",)),
    ]  # fmt: skip
    policy = Policy(slo=(Slo(agent="a", p99_s=5.0),))
    result = simulate(Workload.from_records(steps), _only(TOOLS), policy=policy)
    assert result.slo == {"a": 1.0}
    assert result.agents["a"].p99 - result.own_s["a"].p99 == pytest.approx(100.0, rel=5e-3)


def test_who_is_in_a_hurry_takes_a_core_that_a_wider_step_cannot() -> None:
    steps = [
        tool("a", "1", 0.0, cpu_s=100.0, agent="slow"),
        tool("b", "1", 1.0, cpu_s=80.0, cores=8.0, agent="slow"),
        tool("c", "1", 2.0, cpu_s=1.0, agent="fast"),
    ]
    policy = Policy(slo=(Slo(agent="fast", p99_s=5.0, interactive=True),))
    result = simulate(Workload.from_records(steps), _only(TOOLS), policy=policy)
    assert result.slo["fast"] == 1.0


def test_machines_that_fail_before_anything_ends_are_given_up() -> None:
    pool = msgspec.structs.replace(TOOLS, interruptions_per_hour=36000.0, restart_s=0.01)
    with pytest.raises(PolysiliconError, match="a thousand times"):
        simulate(Workload.from_records([tool("t", "1", 0.0, cpu_s=1000.0)]), _only(pool))


def test_a_wait_is_in_a_queue_and_not_on_the_way() -> None:
    work = Workload.from_records([chat("t", "1", 0.0, region="eu-west-1")])
    fleet = Fleet(pool=(LLM,), link=(Link(regions=("us-east-1", "eu-west-1"), delay_s=0.5),))
    result = simulate(work, fleet)
    assert result.wait_s.p99 == 0.0
    assert result.ttft_s.p99 > 0.5


def test_data_stays_where_it_may_be() -> None:
    away = msgspec.structs.replace(
        TOOLS, name="away", offer="gcp/c4a-standard-8", region="us-central1"
    )
    fleet = _only(msgspec.structs.replace(TOOLS, price=OwnPrice(usd_per_hour=0.001)), away)
    steps = [tool(f"t{n}", "1", 0.0, data_class="personal" if n % 2 else None) for n in range(10)]
    policy = Policy(residency=(Residency(data_class="personal", regions=("us-central*",)),))
    result = simulate(Workload.from_records(steps), fleet, policy=policy)
    assert result.pools["away"].steps == 5


def test_the_way_to_another_region_takes_time() -> None:
    work = Workload.from_records([tool("t", "1", 0.0, region="eu-west-1")])
    fleet = Fleet(pool=(TOOLS,), link=(Link(regions=("us-east-1", "eu-west-1"), delay_s=0.5),))
    near, far = simulate(work, _only(TOOLS)), simulate(work, fleet)
    assert far.sim_s - near.sim_s == pytest.approx(0.5)


def test_machines_fail_and_what_ran_there_begins_again() -> None:
    pool = msgspec.structs.replace(TOOLS, units=4, interruptions_per_hour=30.0, restart_s=20.0)
    engines = msgspec.structs.replace(LLM, units=3, interruptions_per_hour=30.0, restart_s=20.0)
    work = tasks(400, 3.0)
    calm = simulate(work, FLEET)
    stormy = simulate(work, _only(pool, engines))
    assert stormy.tasks == calm.tasks == 400
    assert stormy.again > 5
    assert stormy.task_s.p99 > 0


def test_vendors_keep_to_their_shares() -> None:
    other = msgspec.structs.replace(
        TOOLS, name="other", offer="gcp/c4a-standard-8", region="us-central1"
    )
    work = Workload.from_records([tool(f"t{n:04d}", "1", float(n)) for n in range(400)])
    policy = Policy(vendor_share_max={"aws": 0.6, "gcp": 0.6})
    result = simulate(work, _only(TOOLS, other), policy=policy)
    usd = {name: pool.steps_usd for name, pool in result.pools.items()}
    assert max(usd.values()) / sum(usd.values()) < 0.61


def test_replications_have_intervals_that_hold_the_mean() -> None:
    result = simulate(tasks(100, 3.0), FLEET, replications=4)
    assert result.replications == 4
    found = result.intervals["task_s.p50"]
    assert found.low < found.mean < found.high
    assert simulate(tasks(10, 3.0), FLEET).intervals == {}


@pytest.mark.parametrize(
    ("fleet", "steps", "error"),
    [
        (_only(TOOLS), [chat("t", "1", 0.0)], f"no pool takes llm:{MODEL}: tools: it does not"),
        (_only(LLM), [chat("t", "1", 0.0, prompt_tokens=900_000)], "does not fit"),
        (_only(Pool(name="x", offer="aws/nope", serves=("tool:*",))), [tool("t", "1", 0.0)],
         "unknown offer"),
        (_only(Pool(name="x", offer="aws/m9g.large", region="moon", serves=("tool:*",))),
         [tool("t", "1", 0.0)], "no price in region"),
        (_only(TOOLS), [tool("t", "1", 0.0, offer="aws/nope")], "core speed of aws/nope"),
        (_only(TOOLS), [], "no steps"),
        (Fleet(pool=(Pool(name="here"), Pool(name="beside", engine="openai", model=MODEL))),
         [tool("t", "1", 0.0)], "engines that share the cores of one machine"),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_one_line(fleet: Fleet, steps: list, error: str) -> None:
    with pytest.raises(InputError, match=error) as caught:
        simulate(Workload.from_records(steps), fleet)
    assert "\n" not in str(caught.value)


def test_more_units_than_there_are() -> None:
    policy = Policy(supply_max={"aws/m9g.2xlarge": 0})
    with pytest.raises(InputError, match="the policy allows 0"):
        simulate(Workload.from_records([tool("t", "1", 0.0)]), FLEET, policy=policy)


def test_steps_without_work_take_the_time_that_they_took() -> None:
    steps = [tool("t", "1", 0.0, cpu_s=None, start_s=0.0, end_s=7.0)]
    result = simulate(Workload.from_records(steps), _only(TOOLS))
    assert result.task_s.p50 == pytest.approx(7.0, rel=2e-3)
    assert result.pools["tools"].steps == 0
    assert any("not told: 1;" in note for note in result.notes)


def test_figures_by_agent_and_pool_have_bands() -> None:
    steps = [*tasks(60, 1.0).steps(), tool("b0", "1", 3.0, agent="b", cpu_s=2.0)]
    result = simulate(Workload.from_records(steps), FLEET)
    chats, tools = result.pools["llm"], result.pools["tools"]
    one, other = result.agents["a"], result.agents["b"]
    assert (other.low, other.high) == pytest.approx((tools.low, tools.high))
    assert min(chats.low, tools.low) < one.low < max(chats.low, tools.low)
    assert one.ttft_s == chats.ttft_s == result.ttft_s
    assert other.ttft_s.p50 is None
    assert tools.service_s == msgspec.structs.replace(
        result.wait_s, **{q: getattr(result.kinds["tool"], q) for q in ("p50", "p90", "p99")}
    )


def test_utilisation_is_of_slots_and_busy_is_of_time() -> None:
    pool = msgspec.structs.replace(LLM, concurrency=4)
    alone = simulate(Workload.from_records([chat("t", "1", 0.0)]), _only(pool)).pools["llm"]
    assert alone.busy > 0.9  # the way there takes the rest
    assert alone.utilisation == pytest.approx(alone.busy / 4, rel=1e-6)


def test_a_vendors_share_that_cannot_be_kept_is_told() -> None:
    policy = Policy(vendor_share_max={"aws": 0.3})
    result = simulate(tasks(20, 1.0), FLEET, policy=policy)
    assert any("vendor share of aws: 100%" in note for note in result.notes)
    assert not simulate(tasks(20, 1.0), FLEET).notes


def test_clocks_that_tell_no_milliseconds_are_refused() -> None:
    with pytest.raises(InputError, match="no milliseconds"):
        simulate(Workload.from_records([tool("t", "1", 1e16)]), FLEET)
    late = Workload.from_records([tool("t", "1", 1.7e9, cpu_s=1.0)])
    soon = Workload.from_records([tool("t", "1", 0.0, cpu_s=1.0)])
    assert simulate(late, FLEET).task_s.p50 == pytest.approx(simulate(soon, FLEET).task_s.p50)


def test_intervals_of_figures_that_are_never_negative_begin_at_nothing() -> None:
    result = simulate(tasks(40, 1.0), FLEET, replications=2)
    assert min(found.low for found in result.intervals.values()) >= 0.0
