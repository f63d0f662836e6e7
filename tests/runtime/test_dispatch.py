"""Where steps go: by price, deadline, cache, health and policy; and what is told of it."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from polysilicon import schedule
from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.policy import Policy, Residency
from polysilicon.errors import EngineError, InputError, PolicyError, StepError
from polysilicon.runtime.attempts import _first_to_succeed
from polysilicon.runtime.dispatch import Decision, Dispatcher, load_rules, written
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.runtime.lengths import Lengths
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import Scope, StepCall, TaskState, Usage
from polysilicon.runtime.steps import StepRunner
from polysilicon.workload.record import StepRecord

CALL = StepCall(kind="llm", name="chat", model="m", resource="engine", timeout_s=5.0)
PERSONAL = Residency(data_class="personal", regions=("eu-*", "local"))


def pool(
    name: str, offer: str = "local", usd_per_s: float = 1.0, *, region: str = "", **more: Any
) -> RunningPool:
    given = Pool(name=name, offer=offer, region=region, concurrency=1, **more)
    engine = SimpleNamespace(model="m")

    def price(_cpu_s: float | None, service_s: float) -> tuple[float, None]:
        return usd_per_s * service_s, None

    return RunningPool(given, engine, 0, price, usd_per_s)


def here_and_there() -> tuple[RunningPool, RunningPool]:
    """A dear pool at home, and a cheap one far away."""
    return pool("home", usd_per_s=2.0), pool("away", "aws/x", 1.0, region="us-east-1")


def task(**more: Any) -> TaskState:
    return TaskState("t", "agent", 0.0, random.Random(1), **more)


def taken(dispatcher: Dispatcher, state: TaskState, **more: Any) -> str | None:
    found = dispatcher.choose(CALL, state, **more)
    if found is None:
        return None
    dispatcher.tell(found, state, "s", 0)
    dispatcher.settle(found, None)
    return found.pool.name


def busy(of: RunningPool, seconds: float) -> None:
    """Let a step of some seconds be under way."""
    of.gates["engine"].mean_s = seconds
    of.gates["engine"].running = 1


def test_the_cheapest_takes_it_and_why_is_told() -> None:
    told: list[Decision] = []
    home, away = here_and_there()
    dispatcher = Dispatcher([home, away], tell=told.append)
    assert taken(dispatcher, task()) == "away"
    (decision,) = told
    assert (decision.task_id, decision.step_id, decision.pool) == ("t", "s", "away")
    scores = {c.pool: c.score_usd for c in decision.why}
    # A second of work, priced, and a millionth of a thousandth of a dollar for the waiting.
    assert scores == {"home": pytest.approx(2.0), "away": pytest.approx(1.0)}
    assert min(scores, key=lambda name: scores[name]) == decision.pool


def test_what_is_loaded_before_the_first_step_is_what_steps_ask() -> None:
    rules: list[Any] = [schedule.allowed, schedule.choose, schedule.usual_s, schedule.level]
    assert taken(Dispatcher(here_and_there()), task()) == "away"
    lengths = Lengths()
    lengths.ended("coder", 1.0)
    lengths.level("coder", 0.5)
    asked = [list(rule.signatures) for rule in rules]
    load_rules(choosing=False)
    load_rules(choosing=True)
    assert [list(rule.signatures) for rule in rules] == asked


def test_a_deadline_buys_a_dearer_pool_that_is_free() -> None:
    home, away = pool("home", usd_per_s=0.002), pool("away", "aws/x", 0.001)
    busy(away, 30.0)
    away.gates["engine"].leave(30.0, "chat")
    home.gates["engine"].running = 1
    home.gates["engine"].leave(30.0, "chat")
    busy(away, 30.0)
    dispatcher = Dispatcher([home, away])
    assert taken(dispatcher, task()) == "away"
    assert taken(dispatcher, task(deadline_s=time.monotonic() + 40.0)) == "home"


def test_latency_as_the_objective_forgets_prices() -> None:
    home, away = pool("home", usd_per_s=9.0), pool("away", "aws/x", 1.0)
    busy(away, 3.0)
    assert taken(Dispatcher([home, away]), task()) == "away"
    assert taken(Dispatcher([home, away], Policy(objective="latency")), task()) == "home"


def test_energy_as_the_objective_needs_known_power() -> None:
    home, away = here_and_there()
    with pytest.raises(InputError, match="pool 'home': its power is not known"):
        Dispatcher([home, away], Policy(objective="energy"))
    home.watts, away.watts = 10.0, 300.0
    assert taken(Dispatcher([home, away], Policy(objective="energy")), task()) == "home"


def test_a_prompt_in_the_cache_draws_the_next_step() -> None:
    home, away = pool("home", usd_per_s=1.1), pool("away", "aws/x", 1.0)
    for each in (home, away):
        each.prefilled(1000, 0.5)
    dispatcher = Dispatcher([home, away])
    assert taken(dispatcher, task()) == "away"
    assert taken(dispatcher, task(prompts={"home": 800})) == "home"


def test_data_stays_where_it_may_be() -> None:
    told: list[Decision] = []
    home, away = here_and_there()
    dispatcher = Dispatcher([home, away], Policy(residency=(PERSONAL,)), told.append)
    assert taken(dispatcher, task(data_class="personal")) == "home"
    assert told[0].why[1].refused == "the data may not be in region 'us-east-1'"
    assert taken(dispatcher, task(data_class="public")) == "away"
    alone = Dispatcher([away], Policy(residency=(PERSONAL,)))
    assert taken(alone, task(data_class="personal")) is None
    why = str(alone.refusal(CALL, task(data_class="personal")))
    assert why.startswith("the policy lets no pool take llm:m: away: the data may not be in")


def test_a_vendor_over_its_share_gets_nothing_until_it_is_not() -> None:
    home, away = here_and_there()
    dispatcher = Dispatcher([home, away], Policy(vendor_share_max={"aws": 0.5}))
    spent = {"home": 0.0, "away": 0.0}
    for _ in range(100):
        name = taken(dispatcher, task())
        assert name is not None
        usd = 2.0 if name == "home" else 1.0
        spent[name] += usd
        dispatcher.spend("local" if name == "home" else "aws/x", usd)
    assert 0.45 < spent["away"] / sum(spent.values()) < 0.52


def test_steps_under_way_count_for_the_share_of_their_vendor() -> None:
    home, away = here_and_there()
    dispatcher = Dispatcher([home, away], Policy(vendor_share_max={"aws": 0.25}))
    found = [dispatcher.choose(CALL, task()) for _ in range(60)]  # none of them has ended
    at = [choice.pool for choice in found if choice is not None]
    assert len(at) == 60
    # A second of work is guessed for each: a dollar away, two at home.
    assert 0.2 < at.count(away) / (at.count(away) + 2 * at.count(home)) < 0.3
    for choice in found:
        assert choice is not None
        dispatcher.settle(choice, None)
    assert taken(dispatcher, task()) == "away"


def test_a_share_of_nothing_is_kept_from_the_first_step_on() -> None:
    home, away = here_and_there()
    policy = Policy(vendor_share_max={"aws": 0.0})
    assert taken(Dispatcher([home, away], policy), task()) == "home"
    assert taken(Dispatcher([away], policy), task()) is None


def test_a_fleet_over_its_supply_is_refused() -> None:
    pools = [pool("home"), pool("one", "aws/x", units=2), pool("two", "aws/x")]
    with pytest.raises(InputError, match="fleet: it has 3 units of aws/x; the policy allows 2"):
        Dispatcher(pools, Policy(supply_max={"aws/x": 2}))
    assert taken(Dispatcher(pools, Policy(supply_max={"aws/x": 3})), task()) is not None


def test_pools_that_failed_are_passed_over_and_rather_used_than_none() -> None:
    home, away = here_and_there()
    dispatcher = Dispatcher([home, away])
    assert taken(dispatcher, task(), without=[away]) == "home"
    assert taken(dispatcher, task(), without=[away, home]) is None
    for _ in range(3):
        away.gates["engine"].health.failed(time.monotonic())
    assert taken(dispatcher, task()) == "home"
    for _ in range(3):
        home.gates["engine"].health.failed(time.monotonic())
    assert taken(dispatcher, task()) == "away"


def test_no_pool_for_a_step_is_told() -> None:
    other = StepCall(kind="llm", name="chat", model="n", resource="engine", timeout_s=5.0)
    with pytest.raises(InputError, match="no pool serves llm:n; add it to `serves`"):
        Dispatcher(list(here_and_there())).choose(other, task())


def test_decisions_are_written_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    for _ in range(2):  # a run that is resumed goes on in the same file
        with written(path) as tell:
            taken(Dispatcher(list(here_and_there()), tell=tell), task())
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [line["pool"] for line in lines] == ["away", "away"]
    assert lines[0]["why"][0]["pool"] == "home"


def steps(
    folder: Path, pools: list[RunningPool], answers: dict[str, list[Any]], **call: Any
) -> tuple[Any, list[Any], list[Decision]]:
    """Run a step whose engine answers so, pool by pool; what came, the records, the decisions."""
    told: list[Decision] = []

    async def work(of: RunningPool, usage: Usage) -> str:
        answer = answers[of.name].pop(0)
        if isinstance(answer, Exception):
            raise answer
        usage.prompt_tokens = 7
        return answer

    async def main() -> Any:
        journal = SqliteJournal(folder)
        begin_s = time.monotonic()
        runner = StepRunner(
            journal, Dispatcher(pools, tell=told.append), lambda: time.monotonic() - begin_s
        )
        try:
            given = StepCall(
                kind="llm", name="chat", model="m", resource="engine", timeout_s=5.0, **call
            )
            return await runner.run(Scope(task()), given, work, str)
        except StepError as error:
            return error
        finally:
            journal.close()

    found = asyncio.run(main())
    journal = SqliteJournal(folder)
    records = list(journal.steps())
    journal.close()
    return found, records, told


def test_the_next_best_pool_takes_what_one_failed(tmp_path: Path) -> None:
    pools = list(here_and_there())
    answers = {"away": [EngineError("gone")], "home": ["yes"]}
    found, (record,), told = steps(tmp_path, pools, answers)
    assert (found, record.pool, record.outcome) == ("yes", "home", "ok")
    assert [(d.attempt, d.pool) for d in told] == [(0, "away"), (1, "home")]
    assert told[1].why[1].refused == "it failed for this step"
    assert [p.gates["engine"].health.failures for p in pools] == [0, 1]
    assert pools[1].load("engine", "chat")[1] == 1.0  # how fast it failed says nothing of its speed


def test_where_all_fail_the_error_is_the_last_one(tmp_path: Path) -> None:
    answers = {"away": [EngineError("gone")], "home": [EngineError("also gone")]}
    found, (record,), _ = steps(tmp_path, list(here_and_there()), answers)
    assert str(found) == "also gone"
    assert (record.pool, record.outcome) == ("home", "error")


def test_a_retry_begins_with_all_pools_again(tmp_path: Path) -> None:
    gone = EngineError("gone")
    answers = {"away": [gone, "yes"], "home": [gone]}
    found, (record,), told = steps(tmp_path, list(here_and_there()), answers, retries=1)
    assert (found, record.pool) == ("yes", "away")
    assert [d.pool for d in told] == ["away", "home", "away"]


def test_a_request_that_nobody_would_answer_is_not_the_pools_fault(tmp_path: Path) -> None:
    pools = list(here_and_there())
    answers = {"away": [EngineError("HTTP 400", of_request=True)], "home": ["never asked"]}
    found, (record,), _ = steps(tmp_path, pools, answers)
    assert str(found) == "HTTP 400"
    assert (record.pool, pools[1].gates["engine"].health.failures) == ("away", 0)


def test_who_waits_for_a_pool_that_fails_goes_elsewhere(tmp_path: Path) -> None:
    home, away = here_and_there()

    async def work(of: RunningPool, usage: Usage) -> str:
        if of is away:
            await asyncio.sleep(0.01)
            raise EngineError("gone")
        return of.name

    async def main() -> list[str]:
        journal = SqliteJournal(tmp_path)
        runner = StepRunner(journal, Dispatcher([home, away]), time.monotonic)
        home.gates["engine"].mean_s = 1e6  # so that all of them would rather wait for the other
        scopes = [Scope(task()) for _ in range(6)]
        try:
            return await asyncio.gather(*(runner.run(one, CALL, work, str) for one in scopes))
        finally:
            journal.close()

    assert asyncio.run(main()) == ["home"] * 6
    assert away.gates["engine"].health.failures == 3  # the others did not try it any more


def test_a_step_is_tried_once_a_pool_where_all_fail_over_and_over(tmp_path: Path) -> None:
    """One pool is drained, the other fails for this step only: they must not take turns."""
    home, away = here_and_there()
    for _ in range(3):
        home.gates["engine"].health.failed(time.monotonic())
    answers = {"away": [EngineError("500")] * 9, "home": [EngineError("gone")] * 9}
    found, (record,), told = steps(tmp_path, [home, away], answers)
    assert str(found) == "gone"
    assert [d.pool for d in told] == ["away", "home"]
    assert record.pool == "home"
    assert [p.gates["engine"].running for p in (home, away)] == [0, 0]


def test_each_attempt_is_priced_by_its_own_pool(tmp_path: Path) -> None:
    home, away = pool("home", usd_per_s=100.0), pool("away", "aws/x", 0.01)
    now_s = 0.0

    async def work(of: RunningPool, _usage: Usage) -> str:
        nonlocal now_s
        if of is away:
            now_s += 0.25
            raise EngineError("gone")
        now_s += 0.5
        return "yes"

    async def main() -> None:
        journal = SqliteJournal(tmp_path)
        await StepRunner(journal, Dispatcher([home, away]), lambda: now_s).run(
            Scope(task()), CALL, work, str
        )
        journal.close()

    asyncio.run(main())
    journal = SqliteJournal(tmp_path)
    (record,) = journal.steps()
    journal.close()
    assert record.pool == "home"
    assert record.cost_usd == pytest.approx(0.25 * 0.01 + 0.5 * 100.0)


def test_core_seconds_of_an_attempt_are_its_own_and_a_price_that_fails_keeps_no_slot(
    tmp_path: Path,
) -> None:
    """An engine in this process tells its core-seconds when it fails; the next one knows none."""
    home, away = pool("home", usd_per_s=100.0), pool("away", "aws/x", 0.01)
    priced: list[float | None] = []

    def price(cpu_s: float | None, _service_s: float) -> tuple[float, None]:
        priced.append(cpu_s)
        return 1.0 if len(priced) < 3 else 1 / 0, None

    home.price = away.price = price

    async def work(of: RunningPool, usage: Usage) -> str:
        if of is away:
            usage.cpu_s = 0.25
            raise EngineError("gone")
        return "yes"

    async def main() -> None:
        journal = SqliteJournal(tmp_path)
        runner = StepRunner(journal, Dispatcher([home, away]), time.monotonic)
        await runner.run(Scope(task()), CALL, work, str)
        with pytest.raises(ZeroDivisionError):
            await runner.run(Scope(task(only=frozenset(["home"]))), CALL, work, str)
        (record,) = [step for step in journal.steps() if step.outcome == "ok"]
        assert (record.cpu_s, record.cost_usd) == (0.25, 2.0)
        journal.close()

    asyncio.run(main())
    assert priced == [0.25, None, None]
    assert [p.gates["engine"].running for p in (home, away)] == [0, 0]


def test_what_no_pool_may_take_is_a_step_that_failed(tmp_path: Path) -> None:
    away = here_and_there()[1]

    async def work(_pool: RunningPool, _usage: Usage) -> str:
        raise AssertionError("it must not run")

    async def once() -> str:
        journal = SqliteJournal(tmp_path)
        dispatcher = Dispatcher([away], Policy(residency=(PERSONAL,)))
        runner = StepRunner(journal, dispatcher, time.monotonic)
        state = task(data_class="personal", history=await journal.history("t"))
        try:
            with pytest.raises(PolicyError, match="the data may not be in region") as caught:
                await runner.run(Scope(state), CALL, work, str)
        finally:
            journal.close()
        return str(caught.value)

    assert asyncio.run(once()) == asyncio.run(once())  # the second is read from the journal
    journal = SqliteJournal(tmp_path)
    (record,) = journal.steps()
    journal.close()
    assert (record.pool, record.outcome, record.cost_usd) == (None, "error", None)


def test_a_full_disk_ends_the_telling_only() -> None:
    with written(Path("/dev/full")) as tell:
        dispatcher = Dispatcher(list(here_and_there()), tell=tell)
        assert [taken(dispatcher, task()) for _ in range(3)] == ["away"] * 3


def test_a_retry_after_a_time_out_goes_elsewhere(tmp_path: Path) -> None:
    home, away = here_and_there()

    async def work(of: RunningPool, _usage: Usage) -> str:
        if of is away:
            await asyncio.sleep(60)
        return of.name

    async def main() -> str:
        journal = SqliteJournal(tmp_path)
        call = StepCall(
            kind="llm", name="chat", model="m", resource="engine", timeout_s=0.05, retries=1
        )
        runner = StepRunner(journal, Dispatcher([home, away]), time.monotonic)
        try:
            return await runner.run(Scope(task()), call, work, str)
        finally:
            journal.close()

    assert asyncio.run(main()) == "home"
    assert away.gates["engine"].health.failures == 1


def test_tools_say_nothing_of_an_engine(tmp_path: Path) -> None:
    given = Pool(name="home", concurrency=1)
    home = RunningPool(given, SimpleNamespace(model="m"), 2, lambda _c, _s: (None, None), 1.0)
    for _ in range(3):
        home.gates["engine"].health.failed(time.monotonic())
    tool = StepCall(kind="tool", name="add", timeout_s=5.0)

    async def work(_pool: RunningPool, _usage: Usage) -> int:
        return 1

    async def main() -> int:
        journal = SqliteJournal(tmp_path)
        runner = StepRunner(journal, Dispatcher([home]), time.monotonic)
        try:
            return await runner.run(Scope(task()), tool, work, int)
        finally:
            journal.close()

    assert asyncio.run(main()) == 1
    assert home.gates["engine"].health.drained


def test_a_step_waits_for_an_engine_that_had_answered(tmp_path: Path) -> None:
    away = [EngineError("refused", down=True)] * 3
    only = pool("home")
    only.gates["engine"].health.succeeded()
    found, (record,), told = steps(tmp_path, [only], {"home": [*away, "yes"]})
    assert (found, record.outcome, len(told)) == ("yes", "ok", 4)
    assert record.wait_s is not None
    assert record.wait_s > 0.3  # 0.1, 0.2 and 0.4 s, half as long at least


def test_a_request_that_breaks_its_engine_over_and_over_is_given_up(tmp_path: Path) -> None:
    only = pool("home")
    only.gates["engine"].health.succeeded()
    answers = [EngineError("broke off", down=True, broke=True)] * 9
    found, (record,), told = steps(tmp_path, [only], {"home": answers})
    assert (str(found), record.outcome, len(told)) == ("broke off", "error", 3)


def test_an_engine_that_never_answered_is_not_waited_for(tmp_path: Path) -> None:
    down = EngineError("refused", down=True)
    found, (record,), told = steps(tmp_path, [pool("home")], {"home": [down, "yes"]})
    assert (str(found), record.outcome, len(told)) == ("refused", "error", 1)


@pytest.mark.parametrize(("usd_per_s", "hedges"), [(1e-8, 1), (100.0, 0)])
def test_a_second_pool_is_asked_where_that_pays(
    tmp_path: Path, usd_per_s: float, hedges: int
) -> None:
    home, away = pool("home", usd_per_s=1e-9), pool("away", "aws/x", usd_per_s)
    away.gates["engine"].mean_s = 0.01
    for seconds in [10.0] * 2 + [0.01] * 60:
        home.gates["engine"].running += 1
        home.gates["engine"].leave(seconds, "chat")
    asked: list[str] = []

    async def work(of: RunningPool, usage: Usage) -> str:
        asked.append(of.name)
        if of is home:  # it hangs, this once
            await asyncio.sleep(60 if hedges else 0.5)
        usage.prompt_tokens = 5
        return of.name

    async def main() -> tuple[str, int, StepRecord]:
        journal = SqliteJournal(tmp_path)
        runner = StepRunner(journal, Dispatcher([home, away]), time.monotonic)
        call = replace(CALL, hedge=True)
        try:
            found = await runner.run(Scope(task()), call, work, str)
            [record] = journal.steps()
            return found, runner.hedged, record
        finally:
            journal.close()

    found, hedged, record = asyncio.run(main())
    assert hedged == hedges
    assert asked == ["home", "away"][: 1 + hedges]
    assert (found, record.pool) == (("away", "away") if hedges else ("home", "home"))
    assert record.prompt_tokens == 5
    assert [p.gates["engine"].running for p in (home, away)] == [0, 0]


async def hedged(
    folder: Path, pools: list[RunningPool], work: Any, steps: int = 1, **call: Any
) -> list[Any]:
    """Run steps that may be hedged, after services of 10 ms with a tail on all pools."""
    for each in pools:
        for seconds in [1.0] * 2 + [0.01] * 60:
            each.gates["engine"].running += 1
            each.gates["engine"].leave(seconds, "chat")
    journal, found = SqliteJournal(folder), list[Any]()
    runner = StepRunner(journal, Dispatcher(pools), time.monotonic)
    given = replace(CALL, hedge=True, **call)
    try:
        for _ in range(steps):
            try:
                found.append(await runner.run(Scope(task()), given, partial(work, runner), str))
            except StepError as error:
                found.append(error)
    finally:
        journal.close()
    return found


def three() -> list[RunningPool]:
    return [pool(name, usd_per_s=1e-9 * n) for n, name in enumerate("abc", 1)]


def test_of_two_that_end_at_once_the_one_that_succeeds_counts() -> None:
    async def ends(failure: StepError | None) -> tuple[bytes, StepError | None]:
        return b"", failure

    async def scenario() -> None:
        for _ in range(20):
            good = asyncio.create_task(ends(None))
            bad = asyncio.create_task(ends(EngineError("gone")))
            await asyncio.sleep(0)
            assert await _first_to_succeed([bad, good]) is good

    asyncio.run(scenario())


def test_each_pool_is_asked_once_where_hedges_fail_too(tmp_path: Path) -> None:
    asked: list[str] = []

    async def work(_runner: StepRunner, of: RunningPool, _usage: Usage) -> str:
        asked.append(of.name)
        await asyncio.sleep(0.05 if of.name == "a" else 0.0)
        raise EngineError(of.name)

    pools = three()
    (error,) = asyncio.run(hedged(tmp_path, pools, work))
    assert (sorted(asked), str(error)) == (["a", "b", "c"], "c")
    assert [p.gates["engine"].running for p in pools] == [0, 0, 0]


def test_a_pool_that_hangs_is_drained_by_the_races_that_it_loses(tmp_path: Path) -> None:
    asked: list[str] = []

    async def work(_runner: StepRunner, of: RunningPool, _usage: Usage) -> str:
        asked.append(of.name)
        await asyncio.sleep(60.0 if of.name == "a" else 0.02)
        return of.name

    pools = three()[:2]
    assert asyncio.run(hedged(tmp_path, pools, work, steps=4)) == ["b"] * 4
    assert asked == ["a", "b"] * 3 + ["b"]
    assert pools[0].gates["engine"].health.drained
    assert pools[0].gates["engine"].service_s("chat") > 0.015


def test_a_step_keeps_its_pool_where_a_reload_leaves_none(tmp_path: Path) -> None:
    async def work(runner: StepRunner, of: RunningPool, _usage: Usage) -> str:
        other = pool("other")
        other.engine = SimpleNamespace(model="another")
        runner.dispatch_by(Dispatcher([other, other]))
        await asyncio.sleep(0.05)
        return of.name

    pools = three()[:2]
    found = asyncio.run(hedged(tmp_path, pools, work))
    assert found == ["a"]
    assert [p.gates["engine"].running for p in pools] == [0, 0]


def test_a_dispatcher_that_is_refused_leaves_the_one_before_as_it_was() -> None:
    """Its pools are those of the gateway's whose reload was refused: they stay in use."""
    near, far = pool("near"), pool("far", usd_per_s=1.5)
    dispatcher = Dispatcher([near, far])
    assert taken(dispatcher, task(klass=schedule.INTERACTIVE)) == "near"
    for refused in (Policy(objective="energy"), Policy(supply_max={"local": 1})):
        with pytest.raises(InputError):
            Dispatcher([near, far], refused)
    near.gates["engine"].running += 1
    near.gates["engine"].leave(500.0, "chat")
    assert taken(dispatcher, task(klass=schedule.INTERACTIVE)) == "far"
