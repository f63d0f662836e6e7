from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.runs import TrainRun, train_runs
from polysilicon.cost.train import (
    activation_bytes,
    efficiency,
    flops_per_token,
    placement,
    state_bytes,
    train_constants,
    train_seconds,
)
from polysilicon.errors import InputError, NoBasisError

CATALOG = catalog.load()
H100 = CATALOG.offer("aws/p5.48xlarge")
CHIP = H100.processor
ARM = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
TINY = CATALOG.model("smollm2-135m-instruct")
LLAMA8 = CATALOG.model("llama-3.1-8b-instruct")
LLAMA70 = CATALOG.model("llama-3.3-70b-instruct")


def ratio(run: TrainRun) -> float:
    """Return the law's seconds of a published run over the measured ones."""
    chip = CATALOG.processor(run.processor)
    model = replace(
        TINY,
        parameters=run.parameters,
        active_parameters=run.parameters,
        layers=run.layers,
        hidden=run.hidden,
        heads=1,
        head_dim=run.hidden,
    )
    flops = flops_per_token(model, run.method, run.sequence_tokens, recompute=run.recompute)
    return flops / (chip.peak_flops("bf16") * efficiency(chip).share) * run.tokens_per_s


def test_the_law_fits_its_runs():
    errors = [abs(ratio(run) - 1) for run in train_runs() if run.used_for == "fit"]
    assert len(errors) == 209
    assert median(errors) < 0.05
    assert float(np.mean(errors)) < 0.07


def test_runs_of_other_software_are_within_the_band():
    """Never fitted: other frameworks, other models, adapters, up to 256 GPUs."""
    law = train_constants()["law"]
    ratios = [ratio(run) for run in train_runs() if run.used_for == "held-out"]
    covered = [law["low"] <= 1 / r <= law["high"] for r in ratios]
    assert sum(covered) >= 0.8 * len(covered)
    assert median(abs(r - 1) for r in ratios) < 0.2


def test_one_gpu_trains_adapters_of_an_8b_as_published():
    """12,473 tokens/s on one H100 (NVIDIA NeMo AutoModel, 4,096 tokens, not fitted)."""
    offer = replace(H100, accelerators=1)
    found = train_seconds(1e6, LLAMA8, offer, CATALOG, method="lora", sequence_tokens=4096)
    assert 1e6 / found.service_s == pytest.approx(12_473, rel=0.1)
    assert found.low_s < 1e6 / 12_473 < found.high_s
    assert found.basis == "calibrated"


def test_time_is_in_proportion_to_tokens():
    found = train_seconds(np.array([1e5, 2e5]), TINY, H100, CATALOG)
    assert found.service_s[1] == pytest.approx(2 * found.service_s[0])
    assert found.share == 1 / 8


def test_what_fits_decides_how_many_chips():
    assert placement(TINY, CHIP, 8, "full", 2048) == (1, False)
    assert placement(LLAMA8, CHIP, 8, "full", 2048) == (2, False)
    assert placement(LLAMA8, CHIP, 8, "lora", 2048) == (1, False)
    assert placement(LLAMA8, CHIP, 8, "lora", 65_536)[1]
    assert placement(LLAMA70, CHIP, 6, "lora", 4096) == (4, True)
    assert placement(LLAMA70, CHIP, 64, "full", 2048)[0] == 32
    with pytest.raises(NoBasisError, match="does not fit into the accelerators' memory"):
        placement(LLAMA70, CHIP, 8, "full", 2048)


def test_memory_by_hand():
    assert state_bytes(TINY, "full") == 16 * TINY.parameters
    assert state_bytes(TINY, "lora") == pytest.approx(2.16 * TINY.parameters)
    token = 2048 * TINY.hidden
    assert activation_bytes(TINY, 2048, recompute=False) == 34 * TINY.layers * token
    assert activation_bytes(TINY, 2048, recompute=True) == (2 * TINY.layers + 34) * token


def test_passes_by_hand():
    full = flops_per_token(LLAMA8, "full", 2048, recompute=False)
    assert flops_per_token(LLAMA8, "full", 2048, recompute=True) == pytest.approx(full * 8 / 6)
    assert flops_per_token(LLAMA8, "lora", 2048, recompute=False) == pytest.approx(full * 4 / 6)
    assert full > 6 * LLAMA8.active_parameters
    # Of a mixture of experts only those that a token uses count.
    sparse = replace(LLAMA8, active_parameters=LLAMA8.active_parameters // 4)
    assert flops_per_token(sparse, "full", 2048, recompute=False) < 0.32 * full


def test_chips_without_a_run():
    unknown = efficiency(CATALOG.processor("NVIDIA L4"))
    assert unknown.basis == "roofline"
    assert unknown.high / unknown.low > efficiency(CHIP).high / efficiency(CHIP).low
    assert efficiency(CATALOG.processor("AWS Trainium1")).basis == "calibrated"
    with pytest.raises(NoBasisError, match="no training run on AWS Inferentia2"):
        efficiency(CATALOG.processor("AWS Inferentia2"))


def test_cpus_train_small_models_slowly():
    found = train_seconds(1e4, TINY, ARM, CATALOG)
    gpu = train_seconds(1e4, TINY, H100, CATALOG)
    assert found.service_s > 100 * gpu.service_s
    assert (found.basis, found.accelerators) == ("roofline", 0)
    large = CATALOG.offer("aws/m7g.16xlarge", "us-east-1")
    assert train_seconds(1e4, TINY, large, CATALOG).share == 8 / 64
    lean = CATALOG.offer("aws/c7g.16xlarge", "us-east-1")
    adapters = train_seconds(1e3, LLAMA8, lean, CATALOG, method="lora")
    # Memory is the scarcer resource here: 33 of 137 GB, against 8 of 64 vCPUs.
    assert adapters.share == pytest.approx(0.25, abs=0.02)
    with pytest.raises(NoBasisError, match="does not fit into the machine's memory"):
        train_seconds(1e3, LLAMA70, ARM, CATALOG)
    unsized = train_seconds(1e3, LLAMA70, replace(ARM, memory_bytes=None), CATALOG)
    assert unsized.share == 1.0


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        (replace(H100, accelerators=None), "how much of"),
        (
            replace(
                H100, processor=replace(CHIP, bf16_tflops=None, fp16_tflops=None, fp8_tflops=None)
            ),
            "no peak bf16 or fp16 rate",
        ),
        (replace(H100, processor=replace(CHIP, memory_gb=None)), "memory of NVIDIA H100"),
        (replace(ARM, vcpus=None), "how many vCPUs"),
    ],
)
def test_missing_facts_are_refused(offer, text):
    with pytest.raises(NoBasisError, match=text):
        train_seconds(100.0, TINY, offer, CATALOG)


def test_impossible_tokens_are_refused():
    with pytest.raises(InputError, match="no tokens"):
        train_seconds(0.0, TINY, H100, CATALOG)
    with pytest.raises(InputError, match="no tokens"):
        train_seconds(1.0, TINY, H100, CATALOG, sequence_tokens=0)
