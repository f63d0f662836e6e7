from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.cost.constants import constants, read_constants
from polysilicon.cost.bulk import here, reference
from polysilicon.errors import InputError, NoBasisError
from polysilicon.workload.record import StepRecord

CATALOG = catalog.load()


def llm(**values):
    asked = {"model": "smollm2-135m-instruct", "prompt_tokens": 1, "output_tokens": 128} | values
    return StepRecord(task_id="t", step_id="1", name="chat", kind="llm", **asked)


def tool(**values):
    asked = {"cpu_s": 1.0, "offer": "aws/m7g.large"} | values
    return StepRecord(task_id="t", step_id="1", name="code", kind="tool", **asked)


def test_a_measured_rate_is_returned_as_it_was_measured():
    offer = CATALOG.offer("aws/m9g.2xlarge", "us-east-1")
    (rate,) = [
        r for r in CATALOG.rates[offer.name] if r.model == "smollm-135m" and r.engine == "llama.cpp"
    ]
    guess = cost.estimate(llm(), offer)
    assert guess.basis == "measured"
    assert guess.tpot_s == pytest.approx(1 / rate.decode_128_tokens_per_s, rel=1e-3)
    prompt = cost.estimate(llm(prompt_tokens=512, output_tokens=1), offer)
    assert prompt.ttft_s == pytest.approx(512 / rate.prefill_512_tokens_per_s)
    assert prompt.service_s == prompt.ttft_s
    assert "smollm-135m (same tensor shapes)" in guess.note
    assert rate.date in guess.note


def test_the_sum_of_first_and_later_tokens():
    guess = cost.estimate(
        llm(prompt_tokens=300, output_tokens=50), CATALOG.offer("aws/m8a.2xlarge")
    )
    assert guess.service_s == pytest.approx(guess.ttft_s + 49 * guess.tpot_s)
    assert guess.low_s < guess.service_s < guess.high_s


def test_cached_tokens_cost_no_prefill():
    offer = CATALOG.offer("aws/m9g.2xlarge")
    cold = cost.estimate(llm(prompt_tokens=400, output_tokens=1), offer)
    warm = cost.estimate(llm(prompt_tokens=400, cached_tokens=399, output_tokens=1), offer)
    every = cost.estimate(llm(prompt_tokens=400, cached_tokens=400, output_tokens=1), offer)
    assert warm.ttft_s == pytest.approx(cold.ttft_s / 400)
    assert every.ttft_s == warm.ttft_s


def test_dollars_and_joules_of_an_llm_step():
    offer = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
    guess = cost.estimate(llm(), offer)
    assert guess.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * guess.service_s)
    chip = offer.processor
    assert guess.energy_j == pytest.approx(chip.tdp_w * 8 / 64 * guess.service_s)
    assert cost.estimate(llm(), CATALOG.offer("aws/m9g.2xlarge")).energy_j is None  # TDP unknown


def test_a_tool_step_scales_by_core_speed():
    offer = CATALOG.offer("aws/m9g.large", "us-east-1")
    guess = cost.estimate(tool(startup_s=0.2, wait_s=0.3), offer)
    ratio = 1.0 / offer.processor.core_speed
    assert guess.service_s == pytest.approx(0.5 + ratio)
    assert guess.low_s < guess.service_s < guess.high_s
    assert guess.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * ratio / 2)
    assert (guess.basis, guess.ttft_s, guess.tpot_s) == ("calibrated", None, None)


def test_a_tool_step_uses_the_cores_that_it_can():
    offer = CATALOG.offer("aws/m7g.2xlarge")
    one = cost.estimate(tool(cpu_s=8.0), offer)
    four = cost.estimate(tool(cpu_s=8.0, cores=4.0), offer)
    many = cost.estimate(tool(cpu_s=8.0, cores=64.0), offer)
    assert (one.service_s, four.service_s, many.service_s) == (8.0, 2.0, 1.0)
    assert one.cost_usd == four.cost_usd
    assert (one.low_s, one.high_s) == (8.0, 8.0)  # the same chip


def test_waiting_is_paid_by_memory():
    offer = CATALOG.offer("aws/m7g.large", "us-east-1")
    idle = cost.estimate(tool(cpu_s=0.0, wait_s=10.0), offer)
    half = cost.estimate(tool(cpu_s=0.0, wait_s=10.0, memory_bytes=offer.memory_bytes // 2), offer)
    assert idle.cost_usd == 0
    assert half.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * 10 / 2)


def test_embedding_goes_as_a_tool_step():
    step = replace(tool(), kind="embed", name="embed")
    assert cost.estimate(step, CATALOG.offer("aws/m7g.large")).service_s == 1.0


def test_what_was_recorded_on_the_offer_is_the_estimate():
    offer = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
    step = llm(
        offer="aws/m7g.2xlarge", start_s=1.0, first_token_s=1.5, end_s=3.5, output_tokens=5,
        cost_usd=0.25, energy_j=7.0,
    )  # fmt: skip
    guess = cost.estimate(step, offer)
    assert (guess.service_s, guess.low_s, guess.high_s, guess.basis) == (2.5, 2.5, 2.5, "measured")
    assert (guess.ttft_s, guess.tpot_s) == (0.5, 0.5)
    assert (guess.cost_usd, guess.energy_j) == (0.25, 7.0)
    unpriced = cost.estimate(replace(step, cost_usd=None, energy_j=None), offer)
    assert unpriced.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * 2.5)
    shared = cost.estimate(replace(step, cost_usd=None), offer, cost.Load(concurrency=5))
    assert shared.cost_usd == pytest.approx(unpriced.cost_usd / 5)
    by_cores = cost.estimate(replace(step, cost_usd=None, energy_j=None, cpu_s=1.0), offer)
    assert by_cores.cost_usd == pytest.approx(cost.share_usd(offer, 1.0))
    assert by_cores.energy_j == pytest.approx(220 / 64)
    elsewhere = cost.estimate(replace(step, region="eu-west-1"), offer)
    assert elsewhere.note != "as recorded"


def test_core_seconds_of_local_are_those_of_the_offer_it_is_priced_as():
    priced_as = here(CATALOG).processor
    assert reference(tool(offer="local"), CATALOG) == priced_as
    offer = CATALOG.offer("aws/m7g.large")
    guess = cost.estimate(tool(offer="local"), offer)
    assert guess.service_s == pytest.approx(priced_as.core_speed)


@pytest.mark.parametrize(
    ("step", "offer", "words"),
    [
        (llm(prompt_tokens=None), "aws/m9g.large", "needs model, prompt_tokens"),
        (llm(model="gpt-17"), "aws/m9g.large", "unknown model 'gpt-17'"),
        (llm(model="qwen2.5-7b-instruct"), "aws/m9g.large", "no peak rate of AWS Graviton5"),
        (llm(model="qwen2.5-7b-instruct"), "aws/g5.xlarge", "no peak bf16 or fp16 rate of NVIDIA"),
        (llm(model="llama-3.3-70b-instruct"), "aws/g6.xlarge", "does not fit: 141 GB"),
        (llm(model="qwen2.5-7b-instruct"), "aws/g6f.xlarge", "how much of NVIDIA L4"),
        (llm(model="qwen3-32b"), "gcp/n4-standard-8", "rate of the processor of gcp/n4-"),
        (tool(cpu_s=None), "aws/m9g.large", "needs cpu_s"),
        (tool(offer=None), "aws/m9g.large", "not named"),
        (tool(offer="aws/nowhere"), "aws/m9g.large", "core speed of aws/nowhere"),
        (tool(), "aws/g6.xlarge", "core speed of aws/g6.xlarge"),
        (tool(), "gcp/tpu-v6e-16", "how many vCPUs"),
        (tool(memory_bytes=2**50), "aws/m9g.large", "does not fit"),
        (replace(tool(), kind="train", name="tune"), "aws/m9g.large", "training"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_refused_with_the_reason(step, offer, words):
    with pytest.raises(NoBasisError) as caught:
        cost.estimate(step, CATALOG.offer(offer))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rate_at_one_request_says_nothing_of_eight():
    with pytest.raises(NoBasisError, match="not measured with 8 at a time"):
        cost.estimate(llm(), CATALOG.offer("aws/m9g.2xlarge"), cost.Load(concurrency=8))


def test_concurrency_must_be_one_or_more():
    with pytest.raises(InputError, match="at least 1"):
        cost.estimate(llm(), CATALOG.offer("aws/m9g.large"), cost.Load(concurrency=0))


def test_an_unknown_price_is_refused():
    offer = replace(CATALOG.offer("aws/m7g.large"), on_demand_usd_per_hour=None)
    with pytest.raises(NoBasisError, match="no on-demand price"):
        cost.estimate(tool(), offer)


def test_every_constant_has_a_source(tmp_path):
    assert constants()["gpu"]["bandwidth_efficiency"] == 0.85
    file = tmp_path / "c.csv"
    file.write_text("family,constant,value,source,date\ngpu,x,1,,2026\n", "utf-8")
    with pytest.raises(InputError, match="row 2, source"):
        read_constants(file)
