from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon import catalog
from polysilicon.catalog.rates import LlmRate
from polysilicon.cost.measured import Tokens, _of_llamacpp, _of_vllm, measured_timing

CATALOG = catalog.load()
MODEL = CATALOG.models["smollm-135m"]
CPU = CATALOG.offer("aws/m9g.2xlarge")
GPU = CATALOG.offer("gcp/a2-highgpu-1g")


def rate(**values):
    return LlmRate(
        offer="x", model=MODEL.name, engine="llama.cpp", precision="q4_k_m", date="2026", **values
    )


FULL = rate(
    prefill_512_tokens_per_s=500.0,
    prefill_4096_tokens_per_s=250.0,
    decode_128_tokens_per_s=100.0,
    decode_512_tokens_per_s=80.0,
)


@pytest.mark.parametrize(("prompt", "per_s"), [(512, 500.0), (4096, 250.0), (100, 500.0)])
def test_prompts_of_the_measured_lengths(prompt, per_s):
    timing = _of_llamacpp(Tokens(new=prompt, cached=0, output=1), MODEL, FULL, CATALOG)
    assert timing.ttft_s == pytest.approx(prompt / per_s)


def test_seconds_of_a_prompt_token_grow_linearly():
    middle = _of_llamacpp(Tokens(new=2304, cached=0, output=1), MODEL, FULL, CATALOG)
    assert middle.ttft_s / 2304 == pytest.approx((1 / 500 + 1 / 250) / 2)


@pytest.mark.parametrize(("output", "cached", "per_s"), [(128, 0, 100.0), (510, 0, 80.0)])
def test_decode_at_the_measured_contexts(output, cached, per_s):
    timing = _of_llamacpp(Tokens(new=1, cached=cached, output=output), MODEL, FULL, CATALOG)
    assert timing.tpot_s == pytest.approx(1 / per_s, rel=5e-3)


def test_long_contexts_are_calibrated_and_slower():
    near = _of_llamacpp(Tokens(new=512, cached=0, output=10), MODEL, FULL, CATALOG)
    far = _of_llamacpp(Tokens(new=3000, cached=0, output=10), MODEL, FULL, CATALOG)
    assert (near.basis, far.basis) == ("measured", "calibrated")
    assert far.tpot_s > near.tpot_s


def test_an_unmeasured_long_prompt_has_a_wider_band():
    short_only = rate(prefill_512_tokens_per_s=500.0, decode_128_tokens_per_s=100.0)
    tokens = Tokens(new=4096, cached=0, output=1)
    known = _of_llamacpp(tokens, MODEL, FULL, CATALOG)
    grown = _of_llamacpp(tokens, MODEL, short_only, CATALOG)
    assert grown.basis == "calibrated"
    assert grown.ttft_s == pytest.approx(4096 / 500 * 1.81)
    assert grown.high_s / grown.service_s > known.high_s / known.service_s


def test_half_a_measurement_is_none():
    tokens = Tokens(new=10, cached=0, output=10)
    assert _of_llamacpp(tokens, MODEL, rate(decode_128_tokens_per_s=9.0), CATALOG) is None
    assert _of_llamacpp(tokens, MODEL, rate(prefill_512_tokens_per_s=9.0), CATALOG) is None
    assert _of_vllm(tokens, rate(output_256_128_tokens_per_s=9.0), GPU) is None


def test_output_rates_are_split_into_first_and_later_tokens():
    # 0.1 s to the first token and 10 ms for each later one.
    both = rate(
        output_256_128_tokens_per_s=128 / (0.1 + 127 * 0.01),
        output_1024_256_tokens_per_s=256 / (0.1 + 255 * 0.01),
    )
    timing = _of_vllm(Tokens(new=300, cached=0, output=11), both, GPU)
    assert timing.ttft_s == pytest.approx(0.1)
    assert timing.tpot_s == pytest.approx(0.01)
    assert timing.service_s == pytest.approx(0.2)
    assert _of_vllm(Tokens(new=300, cached=0, output=11), both, CPU) is None
    assert _of_vllm(Tokens(new=9000, cached=0, output=11), both, GPU) is None


def test_rates_that_cannot_be_split_count_all_tokens_alike():
    odd = rate(output_256_128_tokens_per_s=100.0, output_1024_256_tokens_per_s=400.0)
    timing = _of_vllm(Tokens(new=300, cached=0, output=10), odd, GPU)
    assert timing.ttft_s == timing.tpot_s == pytest.approx(0.01)


def test_accelerators_prefer_vllm_and_this_very_model():
    model = CATALOG.models["smollm2-135m-instruct"]
    timing = measured_timing(Tokens(new=300, cached=0, output=10), model, GPU, CATALOG)
    assert timing.note.startswith("vllm, bf16")
    long = measured_timing(Tokens(new=3000, cached=0, output=10), model, GPU, CATALOG)
    assert "llama.cpp" in long.note


def test_nothing_measured_is_none():
    model = CATALOG.models["qwen3-32b"]
    assert measured_timing(Tokens(new=1, cached=0, output=1), model, CPU, CATALOG) is None


@given(
    new=st.integers(1, 20_000), cached=st.integers(0, 20_000), output=st.integers(0, 5000),
    offer=st.sampled_from([CPU, GPU, CATALOG.offer("azure/Standard_D8ps_v6")]),
)  # fmt: skip
def test_bands_hold_the_estimate_and_more_work_takes_longer(new, cached, output, offer):
    model = CATALOG.models["smollm2-135m-instruct"]
    first = measured_timing(Tokens(new=new, cached=cached, output=output), model, offer, CATALOG)
    assert first is not None
    assert 0 < first.low_s <= first.service_s <= first.high_s
    more = Tokens(new=new, cached=cached, output=output + 500)
    assert measured_timing(more, model, offer, CATALOG).service_s > first.service_s
