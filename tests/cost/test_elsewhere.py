from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.cost.elsewhere import MAX_TASKS, companion, critical_path_s, default_offers
from polysilicon.errors import InputError
from polysilicon.workload.record import StepRecord

CATALOG = catalog.load()
GRAVITON3 = CATALOG.offer("aws/m7g.large", "us-east-1")


def step(task_id, step_id, parents=(), **values):
    asked = {"name": "code", "kind": "tool", "cpu_s": 1.0, "offer": "aws/m7g.large"} | values
    return StepRecord(task_id=task_id, step_id=step_id, parent_ids=tuple(parents), **asked)


def chat(task_id, step_id, parents=(), **values):
    asked = {
        "name": "chat", "kind": "llm", "cpu_s": None, "model": "smollm2-135m-instruct",
        "prompt_tokens": 200, "output_tokens": 20,
    }  # fmt: skip
    return step(task_id, step_id, parents, **(asked | values))


#      a(1) ── b(5) ── d(1)
#         └─── c(2) ──┘      e(3) alone
DIAMOND = [
    step("t", "d", "bc"),
    step("t", "a"),
    step("t", "b", "a", cpu_s=5.0),
    step("t", "c", "a", cpu_s=2.0),
    step("t", "e", cpu_s=3.0),
]


def test_the_longest_path_of_a_diamond():
    seconds = {s.step_id: s.cpu_s for s in DIAMOND}
    assert critical_path_s(DIAMOND, seconds) == 7.0
    assert critical_path_s(DIAMOND, seconds | {"c": 9.0}) == 11.0
    assert critical_path_s(DIAMOND, seconds | {"e": 20.0}) == 20.0


def test_a_parent_that_is_not_there_counts_as_done():
    assert critical_path_s([step("t", "x", ["gone"])], {"x": 2.0}) == 2.0


def test_a_circle_is_named():
    ring = [step("ring", "a", "b"), step("ring", "b", "a")]
    with pytest.raises(InputError, match="ring: steps a, b wait for each other"):
        critical_path_s(ring, {"a": 1.0, "b": 1.0})


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.data())
def test_the_longest_path_is_between_the_longest_step_and_the_sum(seconds, data):
    steps = []
    for i, _ in enumerate(seconds):
        parents = data.draw(st.sets(st.integers(0, max(i - 1, 0)), max_size=3)) if i else set()
        steps.append(step("t", str(i), [str(p) for p in parents]))
    path = critical_path_s(steps, {str(i): s for i, s in enumerate(seconds)})
    assert max(seconds) <= path * (1 + 1e-9) + 1e-12
    assert path <= sum(seconds) * (1 + 1e-9) + 1e-12


def test_median_and_dollars_of_tasks_on_an_offer():
    other = [step(f"u{i}", "a", cpu_s=float(i)) for i in (1, 20)]
    (row,), refused = cost.elsewhere([*DIAMOND, *other], CATALOG, [GRAVITON3])
    assert refused == []
    # One process on two vCPUs is slowed by next to nothing.
    assert row.p50_s == pytest.approx(7.0, rel=1e-3)
    usd = cost.share_usd(GRAVITON3, 12.0 + 21.0)
    assert row.usd_per_1000_tasks == pytest.approx(usd / 3 * 1000, rel=1e-3)
    assert (row.offer, row.region, row.basis) == ("aws/m7g.large", "us-east-1", "calibrated")
    assert row.low_s <= row.p50_s <= row.high_s


def test_dollars_are_the_sum_of_the_steps():
    steps = [chat("t", "1"), step("t", "2", "1"), chat("t", "3", "2", prompt_tokens=900)]
    offer = CATALOG.offer("aws/m9g.2xlarge", "us-east-1")
    (row,), _ = cost.elsewhere(steps, CATALOG, [offer])
    guesses = [cost.estimate(s, offer) for s in steps]
    assert row.usd_per_1000_tasks == pytest.approx(1000 * sum(g.cost_usd for g in guesses))
    assert row.p50_s == pytest.approx(sum(g.service_s for g in guesses))
    assert row.basis == "calibrated"


def test_accelerators_have_a_cpu_offer_beside_them():
    h100 = CATALOG.offer("aws/p5.4xlarge", "us-east-1")
    beside = companion(h100, CATALOG)
    assert (beside.cloud, beside.kind) == ("aws", "cpu")
    steps = [chat("t", "1"), step("t", "2", "1")]
    (row,), _ = cost.elsewhere(steps, CATALOG, [h100])
    by_hand = cost.estimate(steps[0], h100).cost_usd + cost.estimate(steps[1], beside).cost_usd
    assert row.usd_per_1000_tasks == pytest.approx(1000 * by_hand)
    assert row.basis == "calibrated"
    assert f"tools on {beside.name}" in row.note
    (alone,), _ = cost.elsewhere(steps[:1], CATALOG, [h100])
    assert "tools on" not in alone.note


def test_the_basis_is_the_weakest_of_the_steps():
    h100 = CATALOG.offer("aws/p5.4xlarge", "us-east-1")
    unlike = replace(h100, processor=replace(h100.processor, isa="Unheard-of"))
    steps = [chat("t", "1"), step("t", "2", "1")]
    (row,), _ = cost.elsewhere(steps, CATALOG, [unlike])
    assert row.basis == "roofline"
    recorded = step("t", "1", start_s=0.0, end_s=2.0, region="us-east-1")
    (same,), _ = cost.elsewhere([recorded], CATALOG, [GRAVITON3])
    assert (same.basis, same.p50_s) == ("measured", 2.0)
    (both,), _ = cost.elsewhere([recorded, step("t", "2", "1")], CATALOG, [GRAVITON3])
    assert both.basis == "calibrated"


def test_bands_of_tasks_hold_their_median():
    steps = [chat("t", "1"), step("t", "2", "1"), chat("t", "3", "2", prompt_tokens=900)]
    for name in ("aws/m8a.2xlarge", "aws/p5.4xlarge"):
        offer = CATALOG.offer(name, "us-east-1")
        (row,), _ = cost.elsewhere(steps, CATALOG, [offer], concurrency=4)
        assert row.low_s < row.p50_s < row.high_s
        load = cost.Load(concurrency=4)
        first = cost.estimate(steps[0], offer, load)
        assert row.p50_s > first.service_s


def test_a_cloud_without_comparison_accelerators_uses_its_cpu_offer():
    gpu = CATALOG.offer("azure/Standard_NC40ads_H100_v5")
    assert companion(gpu, CATALOG).name == "azure/Standard_D8ps_v6"


def test_an_offer_that_cannot_be_estimated_is_told_apart():
    steps = [chat("t", str(i), model="qwen3-32b") for i in range(3)]
    rows, (refused,) = cost.elsewhere([*steps, step("t", "9")], CATALOG, [GRAVITON3])
    assert rows == []
    assert (refused.offer, refused.count) == ("aws/m7g.large", 3)
    assert refused.reason.startswith("it does not fit")


def test_the_default_offers():
    steps = [chat("t", "1", start_s=0.0, end_s=2.0, cost_usd=1e-5, offer="local"), step("t", "2")]
    rows, refused = cost.elsewhere(steps, CATALOG)
    assert refused == []
    assert len(rows) == len(default_offers(CATALOG)) >= 9
    assert rows[0].offer == "local"
    assert rows[0].note.startswith("priced as ")
    chips = {CATALOG.offer(row.offer).processor.name for row in rows[1:]}
    assert "AWS Graviton5" in chips
    assert "NVIDIA H100 SXM5 80GB" in chips
    assert chips & {"AWS Trainium1", "AWS Inferentia2"}
    assert "Google TPU v6e (Trillium)" in chips


def test_failed_steps_without_figures_do_not_count():
    dead = chat("t", "9", prompt_tokens=None, output_tokens=None, outcome="timeout")
    unrun = step("u", "1", cpu_s=None, outcome="cancelled")
    with_it, refused = cost.elsewhere([step("t", "1"), dead, unrun], CATALOG, [GRAVITON3])
    without, _ = cost.elsewhere([step("t", "1")], CATALOG, [GRAVITON3])
    assert refused == []
    assert with_it == without


def test_no_steps_no_rows():
    assert cost.elsewhere([], CATALOG) == ([], [])


def test_many_tasks_are_sampled_evenly():
    steps = [step(f"t{i}", "1", cpu_s=1.0 + i % 2) for i in range(2 * MAX_TASKS)]
    (row,), _ = cost.elsewhere(steps, CATALOG, [GRAVITON3])
    assert f"{MAX_TASKS} of {2 * MAX_TASKS} tasks" in row.note
