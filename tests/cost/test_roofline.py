from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.cost.constants import constants
from polysilicon.cost.measured import Tokens
from polysilicon.cost.roofline import (
    chips_needed,
    decode_s,
    family_of,
    prefill_s,
    roofline_timing,
    weight_bytes,
)
from polysilicon.errors import NoBasisError
from polysilicon.workload.record import StepRecord

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
MIXTRAL = CATALOG.models["mixtral-8x7b-instruct-v0.1"]
H100 = CATALOG.offer("aws/p5.4xlarge")
IDEAL = {
    "compute_efficiency": 1.0,
    "bandwidth_efficiency": 1.0,
    "layer_overhead_s": 0.0,
    "request_overhead_s": 0.0,
}
PLENTY = 1e30


def test_long_prefill_is_arithmetic():
    n = 2000
    flops = 2 * LLAMA.active_parameters * n + 4 * 32 * n * (n / 2) * 4096
    tokens = Tokens(new=n, cached=0, output=1)
    assert prefill_s(tokens, LLAMA, 1e15, PLENTY, 2, IDEAL) == pytest.approx(flops / 1e15)


def test_cached_tokens_are_attended_to():
    tokens = Tokens(new=100, cached=1000, output=1)
    flops = 2 * LLAMA.active_parameters * 100 + 4 * 32 * 100 * 1050 * 4096
    assert prefill_s(tokens, LLAMA, 1e15, PLENTY, 2, IDEAL) == pytest.approx(flops / 1e15)


def test_short_prefill_reads_the_weights():
    read = (LLAMA.parameters - 128256 * 4096) * 2
    tokens = Tokens(new=1, cached=0, output=1)
    assert prefill_s(tokens, LLAMA, PLENTY, 1e12, 2, IDEAL) == pytest.approx(read / 1e12)


def test_decode_reads_weights_and_cache():
    read = (LLAMA.parameters - 128256 * 4096) * 2 + 8 * 500 * 131072
    assert decode_s(500, LLAMA, 8, (PLENTY, 1e12), 2, IDEAL) == pytest.approx(read / 1e12)
    flops = 8 * (2 * LLAMA.active_parameters + 4 * 32 * 500 * 4096)
    assert decode_s(500, LLAMA, 8, (1e12, PLENTY), 2, IDEAL) == pytest.approx(flops / 1e12)


def test_overheads_add_up():
    slow = IDEAL | {"layer_overhead_s": 0.001, "request_overhead_s": 0.5}
    tokens = Tokens(new=1, cached=0, output=1)
    assert prefill_s(tokens, LLAMA, PLENTY, PLENTY, 2, slow) == pytest.approx(0.532)
    assert decode_s(1, LLAMA, 1, (PLENTY, PLENTY), 2, slow) == pytest.approx(0.032)


def test_a_mixture_reads_the_experts_that_tokens_touch():
    inputs = 32000 * 4096
    assert weight_bytes(MIXTRAL, 1, 2) == pytest.approx(2 * (MIXTRAL.active_parameters - inputs))
    assert weight_bytes(MIXTRAL, 10_000, 2) == pytest.approx(
        2 * (MIXTRAL.parameters - inputs), rel=1e-6
    )
    assert weight_bytes(MIXTRAL, 1, 2) < weight_bytes(MIXTRAL, 4, 2) < weight_bytes(MIXTRAL, 64, 2)


def test_estimate_on_an_accelerator_is_the_law_with_the_fitted_constants():
    step = StepRecord(
        task_id="t", step_id="1", name="chat", kind="llm", model=LLAMA.name,
        prompt_tokens=1000, output_tokens=101,
    )  # fmt: skip
    guess = cost.estimate(step, H100, cost.Load(concurrency=4))
    fitted, chip = constants()["gpu"], H100.processor
    peak, bandwidth = chip.bf16_tflops * 1e12, chip.memory_bandwidth_peak_gbs * 1e9
    tokens = Tokens(new=1000, cached=0, output=101)
    ttft = prefill_s(tokens, LLAMA, peak, bandwidth, 2, fitted)
    tpot = decode_s(1050.5, LLAMA, 4, (peak, bandwidth), 2, fitted)
    assert guess.ttft_s == pytest.approx(ttft)
    assert guess.tpot_s == pytest.approx(tpot)
    assert guess.service_s == pytest.approx(ttft + 100 * tpot)
    assert guess.basis == "roofline"
    assert guess.cost_usd == pytest.approx(H100.usd_per_hour() / 3600 * guess.service_s / 4)
    assert guess.energy_j == pytest.approx(700 * guess.service_s / 4)
    assert guess.high_s / guess.low_s > 2


def test_a_step_pays_for_the_accelerators_that_it_needs():
    big = CATALOG.offer("aws/p5.48xlarge")
    tokens = Tokens(new=100, cached=0, output=10)
    assert roofline_timing(tokens, LLAMA, big, 1, 2).share == pytest.approx(1 / 8)
    assert roofline_timing(tokens, MIXTRAL, big, 2, 2).share == pytest.approx(2 / 8 / 2)
    seventy = CATALOG.models["llama-3.3-70b-instruct"]
    assert roofline_timing(tokens, seventy, big, 1, 2).share == pytest.approx(2 / 8)


def test_chips_needed_are_powers_of_two_or_all():
    six = CATALOG.offer("aws/inf2.24xlarge")
    usable = 32e9 * 0.9
    assert [chips_needed(six, usable * n) for n in (0.5, 1, 1.5, 3, 5)] == [1, 1, 2, 4, 6]
    with pytest.raises(NoBasisError, match="does not fit"):
        chips_needed(six, usable * 6.1)


def test_missing_facts_are_refused():
    tokens = Tokens(new=100, cached=0, output=10)
    chip = H100.processor
    for change, words in (
        ({"bf16_tflops": None, "fp16_tflops": None}, "no peak bf16"),
        ({"memory_bandwidth_peak_gbs": None}, "no memory bandwidth"),
        ({"memory_gb": None}, "the memory of NVIDIA H100"),
        ({"kind": "asic"}, "no peak rate"),
    ):
        offer = replace(H100, processor=replace(chip, **change))
        with pytest.raises(NoBasisError, match=words):
            roofline_timing(tokens, LLAMA, offer, 1, 2)


@pytest.mark.parametrize(
    ("chip", "family"),
    [
        ("NVIDIA L4", "gpu"),
        ("AMD Instinct MI300X", "gpu"),
        ("AWS Trainium1", "neuron"),
        ("Google TPU v6e (Trillium)", "tpu"),
        ("Intel Gaudi 3", ""),
        ("AWS Graviton5", ""),
    ],
)
def test_families(chip, family):
    assert family_of(CATALOG.processor(chip)) == family
    assert family_of(None) == ""


@given(
    new=st.integers(1, 8000), output=st.integers(1, 500), many=st.integers(1, 32),
    offer=st.sampled_from(["aws/p5.4xlarge", "aws/trn1.32xlarge", "gcp/tpu-v6e-16"]),
)  # fmt: skip
def test_sharing_is_slower_but_never_dearer(new, output, many, offer):
    place = CATALOG.offer(offer)
    tokens = Tokens(new=new, cached=0, output=output)
    alone = roofline_timing(tokens, LLAMA, place, 1, 2)
    shared = roofline_timing(tokens, LLAMA, place, many, 2)
    assert shared.service_s >= alone.service_s * 0.49  # more chips may be taken for the cache
    assert 0 < shared.low_s <= shared.service_s <= shared.high_s
    if many > 1 and shared.share * many == alone.share:
        assert shared.service_s * shared.share < alone.service_s * alone.share
