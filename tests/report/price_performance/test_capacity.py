from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.offers import Offer
from polysilicon.cost import Load, Serving, estimate
from polysilicon.errors import NoBasisError
from polysilicon.report.price_performance.capacity import (
    groups_of,
    llm_capacities,
    tool_answers,
    tool_capacity,
)
from polysilicon.report.price_performance.studies import MIXES, SLOS, TASK, ToolTask
from polysilicon.workload.record import StepRecord

MIX, STRICT, LAX = MIXES[0], *SLOS


@pytest.fixture(scope="module")
def known():
    return catalog.load()


def step(model, mix=MIX):
    return StepRecord(
        task_id="t",
        step_id="1",
        name="chat",
        kind="llm",
        model=model,
        prompt_tokens=mix.prompt,
        output_tokens=mix.output,
    )


def test_groups_hold_each_priced_offer_once(known):
    groups = groups_of(known)
    names = [offer.name for group in groups for offer in group]
    assert len(names) == len(set(names))
    priced = {offer.name for offer in known.offers if offer.on_demand_usd_per_hour is not None}
    assert set(names) == priced
    for group in groups:
        assert len({(o.kind, o.vcpus if o.kind == "cpu" else o.accelerators) for o in group}) == 1
        dollars = [offer.usd_per_hour() for offer in group]
        assert dollars == sorted(dollars)


@pytest.mark.parametrize("offer", ["aws/c8i.8xlarge", "gcp/g2-standard-4"])
def test_a_laxer_slo_serves_no_less_and_bands_are_around_the_best(known, offer):
    name = "smollm2-135m-instruct"
    found = llm_capacities(known.model(name), known.offer(offer), known)
    for mix in MIXES:
        strict, lax = (found[mix.name, slo.name] for slo in SLOS)
        assert lax.per_s >= strict.per_s
        assert lax.per_s > 0
        assert strict.slow_per_s <= strict.per_s <= strict.fast_per_s
        assert strict.first_s <= STRICT.ttft_s
        assert strict.later_s <= STRICT.tpot_s


def test_a_full_gpu_is_the_estimate_at_that_load(known):
    offer = known.offer("gcp/g2-standard-4")
    found = llm_capacities(known.model("llama-3.2-1b"), offer, known)[MIX.name, LAX.name]
    load = Load(concurrency=found.at_once, serving=Serving(count=1))
    said = estimate(step("llama-3.2-1b"), offer, load, known)
    assert found.per_s == pytest.approx(found.at_once / said.service_s, rel=0.02)
    assert offer.usd_per_hour() / 3600 / found.per_s == pytest.approx(said.cost_usd, rel=0.02)


def test_prompts_on_cpus_are_never_faster_than_one_after_another(known):
    offer = known.offer("azure/Standard_D16as_v7")
    model = known.model("llama-3.1-8b-instruct")
    found = llm_capacities(model, offer, known)[MIX.name, LAX.name]
    alone = [
        estimate(step(model.name), offer, Load(serving=Serving(engine=engine)), known).ttft_s
        for engine in ("llama.cpp", "vllm")
    ]
    assert 0 < found.per_s <= 1 / min(alone) * (1 + 1e-9)


def test_what_does_not_fit_is_refused(known):
    model = known.model("llama-3.3-70b-instruct")
    for offer in ("gcp/g2-standard-4", "aws/m9g.large"):
        with pytest.raises(NoBasisError, match="does not fit"):
            llm_capacities(model, known.offer(offer), known)


def test_an_offer_of_unknown_size_is_refused(known):
    chip = known.processor("NVIDIA L40S")
    offer = Offer(name="x/y", region="here", kind="gpu", processor=chip)
    with pytest.raises(NoBasisError, match="is not known"):
        llm_capacities(known.model("llama-3.1-8b"), offer, known)


def test_a_tool_machine_does_as_many_runs_as_it_has_cores(known):
    offer = known.offer("aws/m7g.large")
    found = tool_capacity(TASK, offer, STRICT, known)
    ideal = offer.vcpus / (TASK.runs * TASK.cpu_s)
    assert 0.8 * ideal <= found.per_s <= ideal * (1 + 1e-9)
    assert found.slow_per_s <= found.per_s <= found.fast_per_s
    twice = tool_capacity(msgspec.structs.replace(TASK, runs=2 * TASK.runs), offer, STRICT, known)
    assert twice.per_s == pytest.approx(found.per_s / 2)


def test_a_run_that_is_too_long_is_not_served(known):
    long = ToolTask(runs=1, cpu_s=100.0, offer=TASK.offer)
    assert tool_capacity(long, known.offer("aws/m7g.large"), STRICT, known).per_s == 0


def test_refusals_of_tool_work_are_counted_by_two_reasons(known):
    answers = tool_answers(TASK, known)
    assert set(answers.refused) == {
        "how many vCPUs it has is not known",
        "the core speed of its CPUs is not known",
    }
    groups = len(groups_of(known))
    for capacities in answers.capacities.values():
        assert len(capacities) + sum(answers.refused.values()) == groups
        assert np.isfinite([capacity.per_s for capacity in capacities]).all()
