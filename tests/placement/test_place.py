"""Fleets for small workloads: cheapest, within the policy, explained, and checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from placement_workloads import MODEL, SMALL, steps, workload
from polysilicon import catalog
from polysilicon.catalog.fleet import Fleet, Link, read_fleet, write_fleet
from polysilicon.catalog.policy import Policy, Residency, Slo, Spot
from polysilicon.errors import InfeasibleError, InputError
from polysilicon.placement import compare
from polysilicon.placement import place as placing
from polysilicon.placement.place import Question, place
from polysilicon.placement.solve import NotInTimeError
from polysilicon.placement.types import Placement, Verdict
from polysilicon.workload.workload import Workload


def ask(
    load: Workload | None = None, offers: Sequence[str] = SMALL, check: Any = None, **rules: Any
) -> tuple[Placement, Fleet]:
    made = workload() if load is None else load
    question = Question(workload=made, policy=Policy(**rules), offers=offers)
    return place(question, catalog.load(), check)


SLO = (Slo(agent="helper", p99_s=20.0),)
FEW = ("aws/m9g.2xlarge", "aws/inf2.xlarge", "gcp/g2-standard-4")


@pytest.fixture(scope="module")
def placed() -> tuple[Placement, Fleet]:
    return ask(workload(tasks=200, rate=10.3), slo=SLO)


def test_the_fleet_serves_all_within_its_caps(placed: tuple[Placement, Fleet]) -> None:
    found, fleet = placed
    proved = "optimal" if found.gap <= 1e-3 else "feasible"
    assert found.status == f"{proved}, not simulated"
    assert found.gap <= 0.05
    assert not found.checked
    assert found.cost_usd_per_hour == pytest.approx(sum(p.usd_per_hour for p in found.pools))
    assert found.low_usd_per_hour <= found.cost_usd_per_hour <= found.high_usd_per_hour
    served: dict[str, float] = defaultdict(float)
    for route in found.routing:
        served[route.class_] += route.share
    assert set(served) == {one.class_ for one in found.classes}
    assert np.allclose(list(served.values()), 1.0)
    assert all(0 < pool.utilisation <= pool.cap + 1e-6 for pool in found.pools)
    assert [pool.name for pool in fleet.pool] == [pool.name for pool in found.pools]
    assert found.slo["helper"].foreseen_s <= 20.0
    assert found.untold == {"only waits (no core-seconds)": 200}


def test_one_more_second_is_worth_what_it_saves() -> None:
    load = workload(tasks=60, rate=100.0)
    tight, _ = ask(load, FEW, slo=(Slo(agent="helper", p99_s=14.0),))
    binding = [dual for dual in tight.duals if dual.kind == "slo"]
    assert [dual.subject for dual in binding] == ["helper"]
    assert binding[0].value > 0
    loose, _ = ask(load, FEW, slo=(Slo(agent="helper", p99_s=60.0),))
    assert loose.cost_usd_per_hour < tight.cost_usd_per_hour


def test_classes_say_what_would_be_next_best(placed: tuple[Placement, Fleet]) -> None:
    found, _ = placed
    used = {route.class_: set() for route in found.routing}  # type: ignore[var-annotated]
    offer_of = {pool.name: pool.offer for pool in found.pools}
    for route in found.routing:
        used[route.class_].add(offer_of[route.pool])
    for one in found.classes:
        assert len(one.next) <= 2
        assert not {other.offer for other in one.next} & used[one.class_]
        extras = [other.extra_usd_per_1000_steps for other in one.next]
        assert extras == sorted(extras)
        assert min(extras, default=0.0) >= 0
    assert any(one.next for one in found.classes)
    for change in found.changes:
        assert 0 < change.pays_below_usd_per_hour < change.usd_per_hour


def test_a_price_at_which_an_offer_pays_makes_it_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    load = workload(tasks=100, rate=2000.0)  # so many machines that whole ones hardly matter
    found, _ = ask(load)
    change = found.changes[0]
    known = placing.sites_of

    def cheaper(share: float) -> Any:
        def sites(offers: Any, policy: Policy) -> Any:
            sites, refused = known(offers, policy)
            return [
                type(site)(
                    offer=site.offer,
                    price=site.price,
                    usd_per_hour=change.pays_below_usd_per_hour * share
                    if site.offer.name == change.offer
                    else site.usd_per_hour,
                )
                for site in sites
            ], refused

        return sites

    for share, pays in ((0.98, True), (1.02, False)):
        monkeypatch.setattr(placing, "sites_of", cheaper(share))
        taken, _ = ask(load)
        # The last machines may be of any kind, by what is left over for them.
        what = change.role, change.model
        mine = [pool for pool in taken.pools if (pool.role, pool.model) == what]
        assert (max(mine, key=lambda pool: pool.units).offer == change.offer) == pays
        monkeypatch.undo()


def test_a_fleet_that_is_simple_itself_is_its_baseline() -> None:
    found, _ = ask(slo=SLO, offers=("azure/Standard_D8ps_v6", "gcp/g2-standard-4"))
    gpu = next(one for one in found.baselines if one.name.startswith("all on the best GPU"))
    assert gpu.usd_per_hour == pytest.approx(found.cost_usd_per_hour)
    assert gpu.name == "all on the best GPU (gcp/g2-standard-4)"


def test_baselines_cost_no_less(placed: tuple[Placement, Fleet]) -> None:
    found, _ = placed
    assert len(found.baselines) == 4
    assert any(one.meets_slo for one in found.baselines), found.baselines
    for one in found.baselines:
        if one.meets_slo:
            assert one.usd_per_hour is not None
            assert one.usd_per_hour >= found.cost_usd_per_hour * (1 - 1e-3)
            assert found.baseline[one.name] == one.usd_per_hour
        else:
            assert one.note
            assert found.baseline[one.name] is None
    for other in found.alternatives:
        assert other.extra <= 0.05 + 1e-6


def test_the_fleet_file_is_read_as_it_is(placed: tuple[Placement, Fleet], tmp_path: Path) -> None:
    _, fleet = placed
    write_fleet(fleet, tmp_path / "fleet.toml")
    assert read_fleet(tmp_path / "fleet.toml") == fleet
    by_model = {pool.model: pool for pool in fleet.pool}
    assert by_model[MODEL].serves == (f"llm:{MODEL}",)
    assert by_model[None].serves == ("tool:*",)
    assert all(pool.usd_per_s is not None and pool.usd_per_s > 0 for pool in fleet.pool)
    with pytest.raises(InputError, match="toml"):
        write_fleet(fleet, tmp_path / "fleet.json")


def test_a_fleet_that_fails_its_check_grows_until_it_passes() -> None:
    seen: list[int] = []

    def check(fleet: Fleet, load: Workload) -> Verdict:
        assert len(load) == 800
        seen.append(sum(pool.units for pool in fleet.pool if pool.model))
        late = seen[-1] < seen[0] + 2
        return Verdict(p99_s={"helper": 24.0 if late else 15.0}, by="played")

    found, fleet = ask(workload(tasks=200, rate=100.0), FEW, check, slo=SLO)
    assert found.checked
    assert found.status.endswith(", played")
    assert len(seen) > 1
    assert seen[-1] >= seen[0] + 2
    assert sum(pool.units for pool in fleet.pool if pool.model) == seen[-1]
    assert found.slo["helper"].checked_s == 15.0


def test_a_fleet_that_never_passes_is_said_not_to_be_checked() -> None:
    calls = []

    def check(fleet: Fleet, _load: Workload) -> Verdict:
        calls.append(fleet)
        return Verdict(p99_s={"helper": 30.0}, by="played")

    found, fleet = ask(check=check, slo=SLO)
    assert not found.checked
    assert len(calls) <= placing.MOST_CHECKS
    assert fleet == calls[-1]


def test_an_slo_below_any_service_time_says_what_is_possible() -> None:
    with pytest.raises(InfeasibleError, match=r"SLO of helper .* least possible .* is .* on ") as e:
        ask(slo=(Slo(agent="helper", p99_s=0.05),))
    assert e.value.exit_code == 3


def test_rules_in_conflict_are_named_and_no_others() -> None:
    load = Workload.from_records(
        [*steps(data_class="personal"), *steps(agent="other", data_class="open")]
    )
    with pytest.raises(InfeasibleError) as error:
        ask(
            load,
            slo=(Slo(agent="helper", p99_s=14.0), Slo(agent="other", p99_s=1000.0)),
            residency=(Residency(data_class="personal", regions=("us-central1", "eastus")),),
            supply_max={"gcp/g2-standard-4": 10_000},
        )
    words = str(error.value)
    assert "SLO of helper" in words
    assert "residency of personal" in words
    assert "SLO of other" not in words
    assert "gcp/g2-standard-4" not in words.partition("in conflict")[0]


def test_supply_and_a_vendors_share_are_kept() -> None:
    load = workload(tasks=200, rate=100.0)
    free, _ = ask(load)
    most = max(free.pools, key=lambda pool: pool.usd_per_hour)
    assert most.units > 2
    few, _ = ask(load, supply_max={most.offer: 2})
    assert sum(pool.units for pool in few.pools if pool.offer == most.offer) <= 2
    assert few.cost_usd_per_hour >= free.cost_usd_per_hour
    assert any(dual.kind == "supply" and dual.value > 0 for dual in few.duals)
    vendor = most.offer.partition("/")[0]
    spread, _ = ask(load, vendor_share_max={vendor: 0.5})
    usd = sum(p.usd_per_hour for p in spread.pools if p.offer.startswith(vendor))
    assert usd <= 0.5 * spread.cost_usd_per_hour + 1e-9


def test_residency_keeps_classes_where_they_must_be() -> None:
    load = Workload.from_records([*steps(data_class="personal"), *steps(agent="other")])
    found, _ = ask(load, residency=(Residency(data_class="personal", regions=("us-east-1",)),))
    regions = {pool.name: pool.region for pool in found.pools}
    for route in found.routing:
        if "personal" in route.class_:
            assert regions[route.pool] == "us-east-1"


@pytest.mark.parametrize("lost", ["pool", "region", "vendor"])
def test_what_is_left_after_a_loss_serves_all(lost: str) -> None:
    found, _ = ask(redundancy=lost)
    plain, _ = ask()
    assert found.cost_usd_per_hour > plain.cost_usd_per_hour
    name = {"pool": lambda p: p.name, "region": lambda p: p.region, "vendor": lambda p: p.offer[:3]}
    for role in ("llm", "tool"):
        assert len({name[lost](pool) for pool in found.pools if pool.role == role}) > 1


@pytest.mark.parametrize(("objective", "unit"), [("latency", "mean seconds"), ("energy", "watts")])
def test_other_objectives(objective: str, unit: str) -> None:
    slo, offers = (Slo(agent="helper", p99_s=30.0),), ("aws/m7i.2xlarge", "gcp/g2-standard-4")
    found, fleet = ask(objective=objective, slo=slo, offers=offers)
    cheap, _ = ask(slo=slo, offers=offers)
    assert found.cost_usd_per_hour >= cheap.cost_usd_per_hour - 1e-9
    assert all(dual.unit == unit for dual in found.duals)
    assert all(pool.usd_per_s is None for pool in fleet.pool)
    if objective == "latency":
        assert found.slo["helper"].foreseen_s < cheap.slo["helper"].foreseen_s


def test_prices_are_the_cheapest_that_may_be_paid() -> None:
    dear, _ = ask(offers=("gcp/g2-standard-4", "gcp/c4a-*"))
    spot, _ = ask(offers=("gcp/g2-standard-4", "gcp/c4a-*"), prices=("on-demand", "spot"))
    assert spot.cost_usd_per_hour < dear.cost_usd_per_hour
    assert {pool.price for pool in spot.pools} == {"spot"}


def test_the_mean_needs_no_more_than_the_peak() -> None:
    burst = steps(tasks=400, rate=0.8)
    late = steps(tasks=60, rate=0.1, seed=1)
    late = [
        type(s)(**{**_fields(s), "task_id": f"l{s.task_id}", "arrival_s": (s.arrival_s or 0) + 500})
        for s in late
    ]
    load = Workload.from_records([*burst, *late])
    policy = Policy()
    found = {
        sizing: place(
            Question(workload=load, policy=policy, offers=SMALL, sizing=sizing), catalog.load()
        )[0]
        for sizing in ("peak", "mean")
    }
    assert found["mean"].slo["helper"].tasks_per_s < found["peak"].slo["helper"].tasks_per_s
    assert found["mean"].cost_usd_per_hour <= found["peak"].cost_usd_per_hour
    assert "busiest 60 s" in found["peak"].sized_for


def _fields(step: Any) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__struct_fields__}


def test_what_no_offer_can_serve_is_told_with_the_reasons() -> None:
    with pytest.raises(InfeasibleError, match=r"no offer can serve helper/chat .*gcp/tpu"):
        _unservable()


def _unservable() -> None:
    odd = [
        type(s)(**{**_fields(s), "model": "no-such-model" if s.kind == "llm" else None})
        for s in steps(tasks=12)
    ]
    ask(Workload.from_records(odd), offers=("gcp/tpu-v6e-16", "aws/m9g.2xlarge"))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"supply_max": {"aws/m9g.2xlarg": 3}}, "unknown offer"),
        ({"vendor_share_max": {"awss": 0.5}}, "unknown vendor"),
        ({"residency": (Residency(data_class="x", regions=("mars-*",)),)}, "no region"),
        ({"slo": (Slo(agent="helpr", p99_s=9.0),)}, "did you mean helper"),
    ],
)
def test_names_that_are_not_there_are_errors(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ask(**rules)


def test_workloads_without_traffic_are_errors() -> None:
    with pytest.raises(InputError, match="no steps"):
        ask(Workload.from_records([]))
    with pytest.raises(InputError, match="all arrive at once"):
        ask(workload(tasks=1))
    silent = [type(s)(**{**_fields(s), "arrival_s": None}) for s in steps(tasks=3)]
    with pytest.raises(InputError, match="do not say when"):
        ask(Workload.from_records(silent))
    pauses = [s for s in steps(tasks=20) if s.name == "person"]
    alone = [type(s)(**{**_fields(s), "parent_ids": ()}) for s in pauses]
    with pytest.raises(InputError, match="no step takes a machine"):
        ask(Workload.from_records(alone))
    with pytest.raises(InputError, match="no offer is named"):
        ask(offers=("aws/nothing*",))


def test_an_slo_just_above_the_least_possible_is_met() -> None:
    with pytest.raises(InfeasibleError) as refused:
        ask(workload(tasks=100, rate=5.0), slo=(Slo(agent="helper", p99_s=0.1),))
    words = str(refused.value).partition("least possible for helper is ")[2]
    least_s = float(words.split()[0])
    found, _ = ask(
        workload(tasks=100, rate=5.0), slo=(Slo(agent="helper", p99_s=round(least_s * 1.04, 2)),)
    )
    assert found.slo["helper"].foreseen_s <= least_s * 1.04
    assert "over its limits" not in found.status


def test_each_pool_has_a_machine_to_spare() -> None:
    alone, _ = ask()
    spare, _ = ask(redundancy="machine")
    assert {p.offer for p in spare.pools} == {p.offer for p in alone.pools}
    for pool in spare.pools:
        # What is left after the loss of one carries all of its work.
        assert pool.utilisation * pool.units <= pool.units - 1
    assert spare.cost_usd_per_hour > alone.cost_usd_per_hour
    assert spare.gap == pytest.approx(
        1 - alone.cost_usd_per_hour / spare.cost_usd_per_hour, abs=0.01
    )
    with pytest.raises(InfeasibleError, match="any one machine may be lost"):
        ask(redundancy="machine", supply_max=dict.fromkeys(SMALL, 1))


def test_interruptions_of_spot_machines_are_priced() -> None:
    offers = ("aws/m8g.2xlarge", "gcp/g2-standard-4")
    calm, fleet = ask(offers=offers, prices=("spot", "on-demand"))
    assert {pool.price for pool in fleet.pool} == {"spot"}
    assert all("interruptions are not counted" in pool.note for pool in calm.pools)
    stormy = Spot(interruptions_per_hour=20.0, restart_s=60.0)
    told, same = ask(offers=offers, prices=("spot",), spot=stormy)
    assert all(pool.interruptions_per_hour == 20.0 for pool in same.pool)
    assert not any("not counted" in pool.note for pool in told.pools)
    work = {p.offer: p.utilisation * p.units for p in told.pools}
    before = {p.offer: p.utilisation * p.units for p in calm.pools}
    for offer, units in work.items():
        # One in three machine-hours goes to replacing machines, and a little to beginning again.
        assert 4 / 3 < units / before[offer] < 4 / 3 * 1.2
    hopeless = Spot(interruptions_per_hour=3600.0, restart_s=3600.0)
    _, lasting = ask(offers=offers, prices=("spot", "on-demand"), spot=hopeless)
    assert {pool.price for pool in lasting.pool} == {"on-demand"}


def test_the_way_between_regions_counts() -> None:
    made = Workload.from_records(
        msgspec.structs.replace(one, region="eu-west-1") for one in steps(tasks=30)
    )
    link = Link(regions=("eu-west-1", "us-east-1"), delay_s=2.0)
    offers = ("aws/m9g.2xlarge", "aws/g6e.xlarge")
    near, _ = ask(made, offers=offers)
    far, fleet = ask(made, offers=offers, link=(link,))
    assert fleet.link == (link,)
    # Two LLM steps and a tool, each there and back.
    more_s = far.slo["helper"].foreseen_s - near.slo["helper"].foreseen_s
    assert more_s == pytest.approx(6.0, abs=0.5)
    assert far.cost_usd_per_hour == pytest.approx(near.cost_usd_per_hour)


def test_a_price_that_nothing_has_is_the_reason() -> None:
    with pytest.raises(InfeasibleError, match="no 3y price is known"):
        ask(offers=("gcp/tpu-v6e-16",), prices=("3y",))


def test_a_tight_slo_does_not_leave_pools_empty() -> None:
    load = workload(tasks=100, rate=0.2)
    with pytest.raises(InfeasibleError) as refused:
        ask(load, slo=(Slo(agent="helper", p99_s=0.1),))
    words = str(refused.value).partition("least possible for helper is ")[2]
    least_s = float(words.split()[0])
    tight, _ = ask(load, slo=(Slo(agent="helper", p99_s=round(least_s * 1.3, 2)),))
    loose, _ = ask(load, slo=(Slo(agent="helper", p99_s=least_s * 20),))
    assert tight.slo["helper"].foreseen_s <= least_s * 1.3
    assert tight.cost_usd_per_hour < 30 * loose.cost_usd_per_hour


def test_a_baseline_that_is_not_found_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any) -> Any:
        raise NotInTimeError("no whole numbers in time")

    monkeypatch.setattr(compare, "cheapest", late)
    found, _ = ask(workload(tasks=30))
    lost = [one for one in found.baselines if one.usd_per_hour is None]
    assert lost
    assert all("not found" in one.note and "in time" in one.note for one in lost)
    assert all(found.baseline[one.name] is None and not one.meets_slo for one in lost)
