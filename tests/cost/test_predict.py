from __future__ import annotations

import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.llm.law import Passes, Seconds
from polysilicon.cost.predict import (
    Prediction,
    Refusal,
    Shipped,
    from_seconds,
    offer_of,
    predict,
    question,
)
from polysilicon.errors import InputError, NoBasisError

KNOWN = catalog.load()


def gpu(**values_):
    told = {
        "processor": "h100_sxm", "count": 8, "engine": "vllm", "model": "meta-llama/Llama-3.1-70B",
        "precision": "fp8", "tp": 8, "concurrency": 16.0, "prompt_tokens": 1024,
        "output_tokens": 128, "ttft_ms": 100.0, "tpot_ms": 10.0,
    }  # fmt: skip
    return Measurement(row=2, **(told | values_))


def cpu(**values_):
    told = {
        "instance": "aws/m9g.4xlarge", "processor": "AWS Graviton5", "count": 16,
        "engine": "llama.cpp", "engine_version": "llama.cpp build 4753 CPU",
        "model": "gemma-2b.Q4_K_M.gguf", "precision": "Q4_K_M", "concurrency": 1.0,
        "prompt_tokens": 512, "output_tokens": 0, "prefill_tokens_per_s": 100.0,
    }  # fmt: skip
    return Measurement(row=2, **(told | values_))


def seconds(ttft_s, tpot_s, wide=1.5):
    one = np.ones(1)
    return Seconds(
        ttft_s=ttft_s * one, ttft_low_s=ttft_s / wide * one, ttft_high_s=ttft_s * wide * one,
        tpot_s=tpot_s * one, tpot_low_s=tpot_s / wide * one, tpot_high_s=tpot_s * wide * one,
        basis=np.zeros(1, dtype=np.int8),
        passes=Passes(prompt_s=one, decode_s=one, alone_s=one, batches=one),
    )  # fmt: skip


def test_a_row_on_bare_accelerators_becomes_a_question():
    asked = question(gpu(), KNOWN)
    assert asked.step.model == "llama-3.1-70b"
    assert (asked.step.prompt_tokens, asked.step.output_tokens) == (1024, 128)
    assert asked.offer.processor.name == "NVIDIA H100 SXM5 80GB"
    assert (asked.offer.kind, asked.offer.accelerators, asked.offer.region) == ("gpu", 8, "")
    serving = asked.load.serving
    assert (serving.engine, serving.precision, serving.count) == ("vllm", "fp8", 8)
    assert asked.load.concurrency == 16


def test_a_row_on_a_cpu_becomes_a_question():
    asked = question(cpu(concurrency=0.8, prompt_tokens=0, output_tokens=128), KNOWN)
    assert (asked.offer.name, asked.offer.kind) == ("aws/m9g.4xlarge", "cpu")
    assert asked.offer.vcpus == 16
    # A prompt has at least one token, a machine at least one request.
    assert (asked.step.prompt_tokens, asked.load.concurrency) == (1, 1)
    assert asked.load.serving.precision == "q4_k_m"


def test_offers_of_rows():
    host = offer_of(cpu(instance="gcp/a2-highgpu-1g", processor="Intel(R) Xeon(R) CPU"), KNOWN)
    assert (host.kind, host.vcpus, host.accelerators) == ("cpu", 16, None)
    named = offer_of(gpu(instance="aws/p5.48xlarge"), KNOWN)
    assert (named.name, named.accelerators) == ("aws/p5.48xlarge", 8)
    unnamed = offer_of(gpu(instance="aws/p5.48xlarge", processor=""), KNOWN)
    assert unnamed.processor.name == "NVIDIA H100 SXM5 80GB"
    elsewhere = offer_of(cpu(instance="vultr/x", processor="Some CPU"), KNOWN)
    assert (elsewhere.processor, elsewhere.vcpus, elsewhere.memory_bytes) == (None, 16, 2**50)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (gpu(model="no/such-thing"), "unknown model 'no/such-thing'"),
        (gpu(precision="fp9"), "unknown precision 'fp9'"),
        (gpu(processor="Tesla M60"), "unknown accelerator 'Tesla M60'"),
        (cpu(processor="odd", engine_version="x CUDA"), "unknown accelerator 'odd'"),
        (gpu(processor="", instance="no/where"), "the processor is not told"),
        (gpu(prompt_tokens=None), "prompt_tokens or output_tokens are not told"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_same_reason(row, reason):
    with pytest.raises(NoBasisError, match=reason):
        question(row, KNOWN)
    answer = predict(row, KNOWN)
    assert isinstance(answer, Refusal)
    assert reason in answer.reason


def test_impossible_parallelism_is_refused():
    with pytest.raises(InputError, match="impossible parallelism"):
        question(gpu(count=4, tp=3), KNOWN)
    assert "impossible parallelism" in predict(gpu(count=4, tp=3), KNOWN).reason


def test_seconds_in_the_metrics_of_a_row():
    said = from_seconds(gpu(), seconds(0.2, 0.01))
    assert {m: v.value for m, v in said.items()} == {"ttft_ms": 200.0, "tpot_ms": 10.0}
    assert said["ttft_ms"].high == pytest.approx(300.0)
    said = from_seconds(cpu(), seconds(0.2, 0.01))
    assert set(said) == {"prefill_tokens_per_s"}
    assert said["prefill_tokens_per_s"].value == pytest.approx(512 / 0.2)
    assert said["prefill_tokens_per_s"].low == pytest.approx(512 / 0.3)
    alone = cpu(
        prompt_tokens=0, output_tokens=128, prefill_tokens_per_s=None, decode_tokens_per_s=9.0
    )
    assert from_seconds(alone, seconds(0.2, 0.01))["decode_tokens_per_s"].value == pytest.approx(
        100
    )


@pytest.mark.parametrize(("at_once", "requests"), [(8.5, 8.5), (0.8, 1.0), (None, 1.0)])
def test_served_load_counts_the_output_of_all_requests(at_once, requests):
    row = gpu(ttft_ms=None, tpot_ms=None, concurrency=at_once, decode_tokens_per_s=1.0)
    said = from_seconds(row, seconds(0.73, 0.01))["decode_tokens_per_s"]
    assert said.value == pytest.approx(requests * 128 / 2.0)
    assert said.low < said.value < said.high


def test_a_step_larger_than_the_memory_is_refused():
    answer = predict(gpu(prompt_tokens=10**9), KNOWN)
    assert answer.reason == "it does not fit: a step is larger than the memory"


def test_shipped_laws_predict_real_rows_in_the_order_of_the_rows():
    told = []
    rows = [cpu(), gpu(model="no/such"), cpu(prompt_tokens=4096)]
    found = Shipped(KNOWN, told.append).predict(rows)
    assert told == [1, 2, 3]
    assert [answer.row for answer in found] == rows
    assert isinstance(found[0], Prediction)
    assert found[0].values["prefill_tokens_per_s"].value > 0
    assert isinstance(found[1], Refusal)


def test_rows_of_this_machine_are_asked_of_local():
    row = Measurement(
        row=2,
        instance="local",
        processor="any",
        count=2,
        engine="llama.cpp",
        model="smollm2-135m-instruct",
        concurrency=1.0,
        prompt_tokens=100,
        output_tokens=0,
        prefill_tokens_per_s=300.0,
    )
    assert question(row, catalog.load()).offer.name == "local"
