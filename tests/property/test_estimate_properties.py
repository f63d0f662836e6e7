"""What must hold of every estimate, whatever is asked."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.cost.estimate import one_of
from polysilicon.cost.estimates import COLUMNS
from polysilicon.cost.llm.serving import COEFFICIENTS, serve
from polysilicon.cost.llm.work import Split, work_of
from polysilicon.workload.record import StepRecord

CATALOG = catalog.load()
MODELS = (
    "smollm2-135m-instruct",
    "llama-3.1-8b-instruct",
    "llama-3.3-70b-instruct",
    "gpt-oss-120b",
    "deepseek-v3",
    "qwen3-30b-a3b",
)
OFFERS = (
    "aws/p5.48xlarge",
    "aws/g6.12xlarge",
    "gcp/a2-highgpu-1g",
    "gcp/tpu-v6e-16",
    "aws/trn1.32xlarge",
    "aws/m8g.4xlarge",
)
H100 = CATALOG.processor("NVIDIA H100 SXM5 80GB")
ANY = settings(deadline=None, max_examples=60)

tokens = st.integers(1, 30_000)
outputs = st.integers(0, 4000)
many = st.sampled_from([1, 2, 8, 32, 128])


def llm(model, prompt, cached, output, step_id="1"):
    return StepRecord(
        task_id="t",
        step_id=step_id,
        name="chat",
        kind="llm",
        model=model,
        prompt_tokens=prompt,
        cached_tokens=min(cached, prompt),
        output_tokens=output,
    )


def estimate(step, offer, load):
    """Return the estimate, or None where it is refused, which is done in one line."""
    found = cost.estimate_all(cost.batch_of([step]), offer, load, CATALOG)
    if found.basis[0] == cost.REFUSED:
        assert found.note(0)
        assert "\n" not in found.note(0)
        return None
    return one_of(found, 0, offer)


@ANY
@given(
    model=st.sampled_from(MODELS), offer=st.sampled_from(OFFERS), concurrency=many,
    prompt=tokens, cached=st.integers(0, 30_000), output=outputs,
)  # fmt: skip
def test_bands_hold_their_estimate_and_parts_add_up(
    model, offer, concurrency, prompt, cached, output
):
    place = CATALOG.offer(offer)
    load = cost.Load(concurrency=concurrency)
    guess = estimate(llm(model, prompt, cached, output), place, load)
    assume(guess is not None)
    assert 0 < guess.low_s <= guess.service_s <= guess.high_s < np.inf
    assert 0 < guess.ttft_low_s <= guess.ttft_s <= guess.ttft_high_s
    assert 0 < guess.tpot_low_s <= guess.tpot_s <= guess.tpot_high_s
    later = max(output - 1, 0)
    assert np.isclose(guess.service_s, guess.ttft_s + later * guess.tpot_s)
    # A step never pays for more than the whole machine.
    assert 0 < guess.cost_usd <= place.usd_per_hour() / 3600 * guess.service_s * (1 + 1e-12)
    assert guess.energy_j is None or guess.energy_j > 0
    assert guess.note


@ANY
@given(
    model=st.sampled_from(MODELS), offer=st.sampled_from(OFFERS), concurrency=many,
    prompt=tokens, output=outputs, more=st.integers(1, 2000),
)  # fmt: skip
# Whole requests of two shapes, with others at once, seem to say that longer ones decode faster.
@example("llama-3.1-8b-instruct", "aws/m8g.4xlarge", 8, 1, 1101, 1017)
def test_more_output_takes_longer(model, offer, concurrency, prompt, output, more):
    place = CATALOG.offer(offer)
    # As many accelerators for both: a longer step may be given more of them.
    count = {"aws/p5.48xlarge": 8, "aws/g6.12xlarge": 4, "gcp/tpu-v6e-16": 16}.get(offer)
    load = cost.Load(concurrency=concurrency, serving=cost.Serving(count=count))
    short = estimate(llm(model, prompt, 0, max(output, 1)), place, load)
    long = estimate(llm(model, prompt, 0, max(output, 1) + more), place, load)
    assume(short is not None and long is not None)
    # Another law may hold for what is longer than was measured on the offer itself.
    assume(short.note == long.note)
    assert long.service_s > short.service_s


@ANY
@given(
    kind=st.sampled_from(["llm", "tool"]), offer=st.sampled_from(OFFERS),
    factor=st.floats(1.01, 100), prompt=tokens,
)  # fmt: skip
def test_cost_is_proportional_to_the_price(kind, offer, factor, prompt):
    place = CATALOG.offer(offer)
    step = llm("llama-3.1-8b-instruct", prompt, 0, 50)
    if kind == "tool":
        step = StepRecord(
            task_id="t", step_id="1", name="code", kind="tool", cpu_s=1.0, offer="aws/m7g.large"
        )
    dear = replace(place, on_demand_usd_per_hour=place.usd_per_hour() * factor)
    one, other = (estimate(step, where, cost.Load()) for where in (place, dear))
    assume(one is not None)
    assert np.isclose(other.cost_usd, one.cost_usd * factor)
    assert other.service_s == one.service_s


@ANY
@given(
    offer=st.sampled_from(OFFERS), concurrency=many,
    asked=st.lists(
        st.tuples(st.sampled_from(MODELS[:2]), st.integers(1025, 1900), st.integers(0, 100)),
        min_size=1, max_size=12,
    ),
)  # fmt: skip
def test_a_step_is_the_same_alone_and_among_others(offer, concurrency, asked):
    place = CATALOG.offer(offer)
    load = cost.Load(concurrency=concurrency)
    steps = [llm(m, p, 0, o, str(i)) for i, (m, p, o) in enumerate(asked)]
    together = cost.estimate_all(cost.batch_of(steps), place, load, CATALOG)
    for i, step in enumerate(steps):
        alone = cost.estimate_all(cost.batch_of([step]), place, load, CATALOG)
        assert alone.basis[0] == together.basis[i]
        for name in COLUMNS:
            assert np.array_equal(alone[name][0], together[name][i], equal_nan=True)


shares = st.floats(0.05, 1.0)
seconds = st.floats(0.0, 1e-3)


@ANY
@given(
    model=st.sampled_from(MODELS), gpus=st.sampled_from([1, 2, 8]), new=tokens,
    cached=st.integers(0, 30_000), output=outputs, concurrency=many,
    more=st.integers(1, 5000),
    c=st.fixed_dictionaries(
        {
            "compute": shares, "memory": shares, "cache": shares, "link": shares,
            "message_s": seconds, "layer_s": seconds, "sequence": st.floats(0, 1),
            "request_s": seconds, "iteration": st.floats(0, 2), "interference": shares,
            "wait": shares, "wait_power": shares, "overlap": st.floats(0.0, 1.0),
            "queue": shares,
        }
    ),
)  # fmt: skip
def test_the_law_without_corrections_is_monotone(
    model, gpus, new, cached, output, concurrency, more, c
):
    assert set(c) == set(COEFFICIENTS)
    split = Split(gpus=gpus, weight_bytes=2.0, rest_bytes=2.0, usable_bytes=1e14)

    def served(new=new, cached=cached, output=output, concurrency=concurrency, chip=H100):
        columns = tuple(np.array([float(n)]) for n in (new, cached, output))
        return serve(work_of(CATALOG.models[model], chip, split, "bf16", concurrency, columns), c)

    base = served()
    assert served(new=new + more).ttft_s > base.ttft_s
    assert served(cached=cached + more).iteration_s >= base.iteration_s
    # The first token comes with the prompt, so that one token takes as long as none.
    assert served(output=max(output, 1) + more).cycle_s > base.cycle_s
    assert served(output=1).cycle_s >= served(output=0).cycle_s * (1 - 1e-12)
    # All prompts of a cycle are computed in it, and all its iterations.
    prompts_s = base.batch_s - c["request_s"] - output * base.iteration_s - base.prefill_s
    least_s = prompts_s + max(output - 1, 0) * base.iteration_s
    assert base.cycle_s >= least_s * (1 - 1e-9)
    assert served(concurrency=2 * concurrency).iteration_s > base.iteration_s
    assert served(concurrency=2 * concurrency).cycle_s >= base.cycle_s * (1 - 1e-12)
    # What a cache holds need not be computed.
    kept = min(more, new - 1)
    assert served(new=new - kept, cached=cached + kept).prefill_s <= base.prefill_s
    for fact in ("bf16_tflops", "memory_bandwidth_peak_gbs", "link_gbs"):
        faster = replace(
            H100, **{fact: 2 * getattr(H100, fact)}, memory_bandwidth_measured_gbs=None
        )
        plain = replace(H100, memory_bandwidth_measured_gbs=None)
        assert served(chip=faster).cycle_s <= served(chip=plain).cycle_s * (1 + 1e-12)
