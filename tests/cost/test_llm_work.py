from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.llm.work import (
    Split,
    Work,
    cache_spread,
    sequences_that_fit,
    weights_per_gpu,
    work_of,
)
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
MIXTRAL = CATALOG.models["mixtral-8x7b-instruct-v0.1"]
DEEPSEEK = CATALOG.models["deepseek-r1"]
H100 = CATALOG.processor("NVIDIA H100 SXM5 80GB")


def split(**changes):
    fields = {"gpus": 1, "weight_bytes": 2.0, "rest_bytes": 2.0, "usable_bytes": 76e9}
    return Split(**(fields | changes))


def numbers(*values):
    return np.array(values, dtype=np.float64)


def work(model=LLAMA, chip=H100, concurrency=1, tokens=(1000, 0, 100), **changes):
    columns = tuple(np.atleast_1d(np.asarray(t, dtype=np.float64)) for t in tokens)
    return work_of(model, chip, split(**changes), "bf16", concurrency, columns)


def test_experts_are_cut_over_all_and_the_rest_over_the_gpus_of_a_rank():
    routed = MIXTRAL.routed_parameters
    rest = MIXTRAL.parameters - routed
    assert weights_per_gpu(MIXTRAL, split(gpus=4)) == MIXTRAL.parameters * 2 / 4
    whole = split(gpus=4, ranks=4, weight_bytes=0.5)
    assert weights_per_gpu(MIXTRAL, whole) == pytest.approx(routed * 0.5 / 4 + rest * 2)
    paired = split(gpus=4, ranks=2)
    assert weights_per_gpu(MIXTRAL, paired) == pytest.approx(routed * 2 / 4 + rest * 2 / 2)


@pytest.mark.parametrize(
    ("model", "gpus", "ranks", "spread"),
    [(LLAMA, 1, 1, 1), (LLAMA, 4, 1, 4), (LLAMA, 16, 1, 8), (LLAMA, 8, 4, 2), (DEEPSEEK, 8, 1, 1)],
)
def test_the_cache_is_spread_by_whole_heads(model, gpus, ranks, spread):
    assert cache_spread(model, split(gpus=gpus, ranks=ranks)) == spread


def test_a_narrow_cache_holds_twice_as_many():
    wide, narrow = (
        sequences_that_fit(LLAMA, split(cache_bytes=size), numbers(500, 5000))
        for size in (2.0, 1.0)
    )
    assert narrow == pytest.approx(2 * wide)
    assert wide[0] == pytest.approx(10 * wide[1])


def test_all_columns_have_the_shape_of_the_steps():
    found = work(tokens=([10, 20, 30], [0, 5, 0], [1, 2, 3]), concurrency=4)
    assert {getattr(found, name).shape for name in Work.__struct_fields__} == {(3,)}
    assert found.new.tolist() == [10, 20, 30]
    assert found.output.tolist() == [1, 2, 3]


def test_one_accelerator_has_nobody_to_talk_to():
    alone = work()
    assert alone.link == np.inf
    assert alone.messages == 0
    assert alone.prefill_link_bytes == alone.decode_link_bytes == 0
    two = work(gpus=2)
    assert two.link == 450e9
    assert two.messages == 2 * 32


def test_cached_tokens_are_attended_to_but_not_computed():
    cold, warm = work(tokens=(100, 0, 1)), work(tokens=(100, 1000, 1))
    more = LLAMA.attention_flops(100.0, 1000.0)
    assert warm.prefill_flops - cold.prefill_flops == pytest.approx(more)
    assert warm.cache_bytes - cold.cache_bytes == pytest.approx(1000 * 131_072)
    assert warm.prefill_bytes == cold.prefill_bytes


def test_no_more_run_at_once_than_the_memory_holds():
    found = work(concurrency=64, usable_bytes=8_030_261_248 * 2 + 8 * 1050 * 131_072)
    assert found.sequences == pytest.approx(8)
    assert found.waiting == pytest.approx(7)
    assert found.decode_flops == pytest.approx(8 * work().decode_flops)
    assert work(concurrency=64).waiting == 0


def test_ranks_share_the_sequences():
    found = work(model=DEEPSEEK, gpus=8, ranks=8, usable_bytes=1e13, concurrency=64)
    one = work(model=DEEPSEEK, gpus=8, ranks=1, usable_bytes=1e13, concurrency=64)
    # Each rank reads the latents of its own sequences; without ranks all are read by all.
    assert found.cache_bytes == pytest.approx(one.cache_bytes / 8)
    assert found.decode_bytes > one.decode_bytes
    assert found.decode_link_bytes == pytest.approx(one.decode_link_bytes / 8)


@pytest.mark.parametrize(
    ("change", "gpus", "words"),
    [
        ({"bf16_tflops": None, "fp16_tflops": None, "fp8_tflops": None}, 1, "no peak bf16 or fp16"),
        (
            {"memory_bandwidth_peak_gbs": None, "memory_bandwidth_measured_gbs": None},
            1,
            "no memory bandwidth of NVIDIA H100",
        ),
        ({"link_gbs": None}, 2, "no link rate between accelerators of NVIDIA H100"),
    ],
)
def test_missing_facts_are_refused(change, gpus, words):
    with pytest.raises(NoBasisError, match=words):
        work(chip=replace(H100, **change), gpus=gpus)


def test_a_link_is_not_asked_of_one_accelerator():
    assert work(chip=replace(H100, link_gbs=None)).link == np.inf


def test_refusals_for_want_of_memory():
    with pytest.raises(NoBasisError, match="16 GB of weights in 16 GB of memory"):
        work(usable_bytes=16e9)
    alike = set()
    for new in (1e6, 2e6):
        with pytest.raises(NoBasisError) as caught:
            work(tokens=(new, 0, 10))
        alike.add(str(caught.value))
    assert alike == {"it does not fit: the cache of one such step is larger than the memory"}
