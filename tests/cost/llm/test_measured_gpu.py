from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.rates import LlmRate
from polysilicon.cost.llm.measured_gpu import _of_llamacpp, _of_vllm, measured_gpu_law
from polysilicon.cost.types import BASES, Serving
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
MODEL = CATALOG.models["smollm-135m"]
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


def ask(law, new, cached=0, output=1):
    says = law.seconds(*(np.array([float(n)]) for n in (new, cached, output)))
    columns = msgspec.structs.asdict(says).items()
    found = {name: value[0] for name, value in columns if isinstance(value, np.ndarray)}
    return found | {"basis": BASES[found["basis"]]}


def llamacpp(**values):
    return _of_llamacpp(MODEL, msgspec.structs.replace(FULL, **values), CATALOG)


@pytest.mark.parametrize(("prompt", "per_s"), [(512, 500.0), (4096, 250.0), (100, 500.0)])
def test_prompts_of_the_measured_lengths(prompt, per_s):
    assert ask(llamacpp(), prompt)["ttft_s"] == pytest.approx(prompt / per_s)


def test_seconds_of_a_prompt_token_grow_linearly():
    assert ask(llamacpp(), 2304)["ttft_s"] / 2304 == pytest.approx((1 / 500 + 1 / 250) / 2)


def test_decode_at_the_measured_context():
    assert ask(llamacpp(), 1, 0, 510)["tpot_s"] == pytest.approx(1 / 80)
    short = llamacpp(decode_512_tokens_per_s=None)
    assert ask(short, 1, 0, 126)["tpot_s"] == pytest.approx(1 / 100)


def test_long_contexts_are_calibrated_and_slower():
    near, far = ask(llamacpp(), 512, 0, 10), ask(llamacpp(), 3000, 0, 10)
    assert (near["basis"], far["basis"]) == ("measured", "calibrated")
    assert far["tpot_s"] > near["tpot_s"]


def test_an_unmeasured_long_prompt_has_a_wider_band():
    known, grown = ask(llamacpp(), 4096), ask(llamacpp(prefill_4096_tokens_per_s=None), 4096)
    assert grown["ttft_s"] == pytest.approx(4096 / 500 * 1.81)
    assert grown["ttft_high_s"] / grown["ttft_s"] > known["ttft_high_s"] / known["ttft_s"]


def test_half_a_measurement_is_none():
    assert _of_llamacpp(MODEL, rate(decode_128_tokens_per_s=9.0), CATALOG) is None
    assert _of_llamacpp(MODEL, rate(prefill_512_tokens_per_s=9.0), CATALOG) is None
    assert _of_vllm(MODEL, rate(output_256_128_tokens_per_s=9.0), CATALOG) is None


def test_output_rates_are_split_into_first_and_later_tokens():
    # 0.1 s to the first token and 10 ms for each later one.
    both = rate(
        output_256_128_tokens_per_s=128 / (0.1 + 127 * 0.01),
        output_1024_256_tokens_per_s=256 / (0.1 + 255 * 0.01),
    )
    says = ask(_of_vllm(MODEL, both, CATALOG), 300, 0, 11)
    assert says["ttft_s"] == pytest.approx(0.1)
    assert says["tpot_s"] == pytest.approx(0.01)
    assert says["basis"] == "measured"


def test_rates_that_cannot_be_split_count_all_tokens_alike():
    odd = rate(output_256_128_tokens_per_s=100.0, output_1024_256_tokens_per_s=400.0)
    says = ask(_of_vllm(MODEL, odd, CATALOG), 300, 0, 10)
    assert says["ttft_s"] == says["tpot_s"] == pytest.approx(0.01)


def test_vllm_comes_first_and_a_model_of_the_same_shapes_stands_for_another():
    model = CATALOG.models["smollm2-135m-instruct"]
    law = measured_gpu_law(model, GPU, Serving(), 1, CATALOG)
    assert law.note.startswith("vllm, bf16")
    asked = Serving(engine="llama.cpp")
    other = measured_gpu_law(model, GPU, asked, 1, CATALOG)
    assert other.note.startswith("smollm-135m (same tensor shapes), llama.cpp")
    assert law.largest_tokens < other.largest_tokens


@pytest.mark.parametrize(
    ("model", "offer", "serving", "concurrency", "reason"),
    [
        ("qwen3-32b", GPU, Serving(), 1, "not measured on this offer"),
        ("smollm-135m", GPU, Serving(engine="sglang"), 1, "not measured on this offer"),
        ("smollm-135m", GPU, Serving(), 4, "one request at a time only"),
        ("smollm-135m", GPU, Serving(count=8), 1, "all accelerators only"),
        ("smollm-135m", CATALOG.offer("aws/m9g.2xlarge"), Serving(), 1, "not measured on this"),
    ],
)
def test_what_was_not_measured_is_refused(model, offer, serving, concurrency, reason):
    with pytest.raises(NoBasisError, match=reason):
        measured_gpu_law(CATALOG.models[model], offer, serving, concurrency, CATALOG)
