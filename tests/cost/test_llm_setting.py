from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.llm.setting import (
    Need,
    check_parallelism,
    engine_of,
    engines,
    family_of,
    setting_of,
    split_for,
    usual_precisions,
)
from polysilicon.cost.llm.work import sequences_that_fit, weights_per_gpu
from polysilicon.cost.types import Serving
from polysilicon.errors import InputError, NoBasisError

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
SEVENTY = CATALOG.models["llama-3.3-70b-instruct"]
MIXTRAL = CATALOG.models["mixtral-8x7b-instruct-v0.1"]
DEEPSEEK = CATALOG.models["deepseek-r1"]
GPT_OSS = CATALOG.models["gpt-oss-120b"]
H100 = CATALOG.processor("NVIDIA H100 SXM5 80GB")
A100 = CATALOG.processor("NVIDIA A100 SXM4 80GB")
L4 = CATALOG.processor("NVIDIA L4")
TPU = CATALOG.processor("Google TPU v6e (Trillium)")
TRAINIUM = CATALOG.processor("AWS Trainium1")


def setting(model=LLAMA, chip=H100, available=8, concurrency=1, tokens=2048, **serving):
    need = Need(concurrency=concurrency, tokens=tokens)
    return setting_of(model, chip, available, Serving(**serving), need, CATALOG.precisions)


@pytest.mark.parametrize(
    ("chip", "family", "engine"),
    [
        ("NVIDIA L4", "gpu", "vllm"),
        ("AMD Instinct MI300X", "gpu", "vllm"),
        ("AWS Trainium1", "neuron", "neuron"),
        ("AWS Inferentia2", "neuron", "neuron"),
        ("Google TPU v6e (Trillium)", "tpu", "vllm"),
        ("Intel Gaudi 2", "gaudi", "deepspeed"),
        ("Microsoft Maia 200", "", "vllm"),
    ],
)
def test_families_and_their_usual_engines(chip, family, engine):
    processor = CATALOG.processor(chip)
    assert family_of(processor) == family
    assert engine_of(processor, "").engine == engine


def test_engines_have_sources():
    assert {"vllm", "sglang", "trtllm", "neuron"} <= engines().keys()
    assert all(engine.source and engine.date for engine in engines().values())


@pytest.mark.parametrize(
    ("asked", "mend"), [("vlm", "did you mean vllm"), ("triton-xyz", "known: vllm, sglang, trtllm")]
)
def test_an_unknown_engine(asked, mend):
    with pytest.raises(InputError, match=mend) as caught:
        setting(engine=asked)
    assert f"unknown engine {asked!r} on NVIDIA H100" in str(caught.value)


@pytest.mark.parametrize(
    ("chip", "engine"),
    [
        ("NVIDIA H100 SXM5 80GB", "neuron"),
        ("AMD Instinct MI300X", "trtllm"),
        ("AMD Instinct MI300X", "deepspeed-mii"),
        ("AWS Trainium1", "sglang"),
        ("AWS Inferentia2", "trtllm"),
        ("Google TPU v6e (Trillium)", "trtllm"),
        ("Google TPU v6e (Trillium)", "deepspeed"),
        ("Intel Gaudi 2", "sglang"),
        ("Intel Gaudi 2", "deepspeed-mii"),
        ("Microsoft Maia 200", "sglang"),
    ],
)
def test_engines_that_do_not_run_on_a_chip_are_refused(chip, engine):
    with pytest.raises(NoBasisError) as caught:
        engine_of(CATALOG.processor(chip), engine)
    assert str(caught.value) == f"{engine} does not run on {chip}"


def test_engines_run_on_the_chips_that_their_table_names():
    everywhere = ("NVIDIA L4", "AWS Trainium1", "Intel Gaudi 2", "Microsoft Maia 200")
    assert all(engine_of(CATALOG.processor(c), "vllm").engine == "vllm" for c in everywhere)
    assert engine_of(TPU, "sglang").engine == "sglang"
    assert engine_of(CATALOG.processor("AMD Instinct MI300X"), "sglang").engine == "sglang"
    for name in ("trtllm", "deepspeed-mii"):  # by the maker, not the family
        assert engine_of(L4, name).engine == name
    for chip in CATALOG.processors.values():
        if chip.kind != "cpu":
            usual = engine_of(chip, "")
            assert engine_of(chip, usual.engine) == usual


@pytest.mark.parametrize("chip", [H100, TPU, TRAINIUM], ids=lambda c: c.name)
def test_llamacpp_has_no_law_on_accelerators(chip):
    with pytest.raises(NoBasisError, match=r"no law of llama\.cpp on accelerators is fitted"):
        setting(chip=chip, engine="llama.cpp")


def test_an_unknown_precision():
    with pytest.raises(InputError, match="unknown precision 'fp9'; did you mean fp8"):
        setting(precision="fp9")


def test_a_model_takes_the_fewest_accelerators_that_hold_it():
    assert setting().split.gpus == 1
    assert setting(SEVENTY).split.gpus == 2
    assert setting(SEVENTY, chip=L4).split.gpus == 8
    assert setting(MIXTRAL, available=3).split.gpus == 2
    assert setting(SEVENTY, chip=CATALOG.processor("AWS Inferentia2"), available=6).split.gpus == 6


def test_more_steps_at_once_take_more_accelerators_until_there_are_no_more():
    alone = setting(SEVENTY, concurrency=1, tokens=8192)
    many = setting(SEVENTY, concurrency=32, tokens=8192)
    assert (alone.split.gpus, many.split.gpus) == (2, 4)
    room = sequences_that_fit(SEVENTY, many.split, np.array([8192.0]))
    assert room >= 32
    # What is too much for all waits for memory.
    assert setting(SEVENTY, concurrency=10_000, tokens=8192).split.gpus == 8


def test_a_narrower_precision_is_taken_where_the_published_one_does_not_fit():
    assert setting(SEVENTY, available=1).precision == "fp8"
    assert setting(SEVENTY, chip=L4, available=2).precision == "fp4"
    assert setting(SEVENTY, chip=L4, available=8).precision == "bf16"
    with pytest.raises(NoBasisError, match="141 GB of weights on 80 GB of NVIDIA H100"):
        setting(SEVENTY, available=1, precision="bf16")


def test_chips_take_the_precisions_that_they_can():
    assert usual_precisions(LLAMA, H100) == ["bf16", "fp8", "fp4"]
    assert usual_precisions(LLAMA, A100) == ["bf16", "fp8", "fp4"]  # widened as they are read
    assert usual_precisions(LLAMA, TPU) == ["bf16"]
    assert usual_precisions(LLAMA, TRAINIUM) == ["bf16", "fp8"]
    assert usual_precisions(DEEPSEEK, H100) == ["fp8", "fp4"]
    assert usual_precisions(GPT_OSS, H100) == ["fp4"]
    # A chip that computes in neither holds the widened weights.
    assert usual_precisions(GPT_OSS, TPU) == ["bf16"]
    assert usual_precisions(DEEPSEEK, TPU) == ["bf16"]
    seventh = CATALOG.processor("Google TPU v7 (Ironwood)")
    assert usual_precisions(DEEPSEEK, seventh) == ["fp8"]
    assert setting(GPT_OSS, chip=TPU, available=16).precision == "bf16"


def test_what_was_asked_for_is_taken():
    asked = {"count": 8, "dp": 8, "ep": 8, "precision": "fp4", "engine": "sglang"}
    found = setting(DEEPSEEK, chip=CATALOG.processor("NVIDIA B200"), **asked)
    assert (found.engine, found.precision) == ("sglang", "fp4")
    split = found.split
    assert (split.gpus, split.ranks, split.experts) == (8, 8, 8)
    # The rest of a mixture with four-bit experts stays wide; the cache is narrow.
    assert (split.weight_bytes, split.rest_bytes, split.cache_bytes) == (0.5625, 2.0, 1.0)
    assert setting(tp=4).split.gpus == 4
    assert setting(DEEPSEEK, ep=8, precision="fp4").split.experts == 8


@pytest.mark.parametrize(
    ("engine", "precision", "cache"),
    [("vllm", "fp8", 2.0), ("sglang", "fp8", 1.0), ("sglang", "bf16", 2.0), ("trtllm", "fp4", 1.0)],
)
def test_engines_differ_in_how_they_cache(engine, precision, cache):
    found = setting(engine=engine, precision=precision)
    assert found.split.cache_bytes == cache
    assert found.split.rest_bytes == found.split.weight_bytes


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"tp": 3, "count": 8}, "tp=3 on 8; each must divide 8"),
        ({"tp": 3}, "tp=3 of 32 heads of llama-3.1-8b-instruct; in vllm tp divides them"),
        ({"tp": 16}, "16 of 8 accelerators; at most 8"),
        ({"count": 9}, "9 of 8 accelerators"),
        ({"tp": 8, "count": 4}, "tp=8 on 4; none is more than 4"),
        ({"dp": 3, "count": 8}, "dp=3 on 8; each must divide 8"),
        ({"dp": 16, "count": 8}, "dp=16 on 8; none is more than 8"),
        ({"ep": 2, "count": 8}, "llama-3.1-8b-instruct has no experts to spread; leave out ep"),
        ({"tp": 0}, "0 accelerators; at least 1"),
        ({"count": -2}, "-2 accelerators; at least 1"),
        ({"dp": 0, "count": 2}, "dp=0 on 2; each is at least 1"),
        ({"pp": 0}, "pp=0 on 1; each is at least 1"),
    ],
)
def test_impossible_parallelism(serving, words):
    with pytest.raises(InputError) as caught:
        setting(**serving)
    assert str(caught.value).startswith(("impossible parallelism", "NVIDIA H100 SXM5 80GB: imp"))
    assert words in str(caught.value)


def test_engines_that_pad_heads_take_any_number():
    qwen = CATALOG.models["qwen2-7b"]
    assert setting(qwen, tp=8, engine="deepspeed").split.gpus == 8
    with pytest.raises(InputError, match="tp=8 of 28 heads"):
        setting(qwen, tp=8)
    # With ranks of its own the attention is not cut by tp.
    assert setting(qwen, tp=8, dp=8).split.ranks == 8


def test_pipelines_are_refused():
    with pytest.raises(NoBasisError, match="pipeline parallelism was not measured"):
        setting(pp=2, count=8)


def test_an_unknown_memory_is_refused():
    with pytest.raises(NoBasisError, match="the memory of NVIDIA H100 SXM5 80GB is not known"):
        setting(chip=replace(H100, memory_gb=None))


def test_models_that_do_not_fit_are_refused_alike():
    reasons = set()
    for concurrency, tokens in ((1, 10), (64, 8192)):
        with pytest.raises(NoBasisError) as caught:
            setting(DEEPSEEK, chip=L4, concurrency=concurrency, tokens=tokens)
        reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert reasons.pop().endswith("GB of weights on 192 GB of NVIDIA L4")


def test_a_gpu_counts_its_memory_without_what_engines_leave():
    split = split_for(LLAMA, L4, engine_of(L4, ""), 2.0, Serving(), 1)
    assert split.usable_bytes == pytest.approx(0.95 * 24e9)
    assert weights_per_gpu(LLAMA, split) == LLAMA.parameters * 2


@pytest.mark.parametrize(
    ("model", "serving"),
    [
        (DEEPSEEK, Serving(tp=8, ep=8)),
        (DEEPSEEK, Serving(tp=8, dp=8, ep=8)),
        (LLAMA, Serving(pp=1, ep=1)),
    ],
)
def test_parallelism_that_can_be(model, serving):
    assert check_parallelism(model, serving, 8) is None
