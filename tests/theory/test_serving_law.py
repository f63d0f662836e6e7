"""The law of served models against what can be worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.llm.residuals import Residuals, Rows, Term, covariance
from polysilicon.cost.llm.serving import CHUNK_TOKENS, COEFFICIENTS, serve
from polysilicon.cost.llm.work import Split, sequences_that_fit, work_of
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
SEVENTY = CATALOG.models["llama-3.3-70b-instruct"]
MIXTRAL = CATALOG.models["mixtral-8x7b-instruct-v0.1"]
DEEPSEEK = CATALOG.models["deepseek-r1"]
H100 = CATALOG.processor("NVIDIA H100 SXM5 80GB")
L4 = CATALOG.processor("NVIDIA L4")
IDEAL = dict.fromkeys(COEFFICIENTS, 0.0) | {
    "compute": 1.0, "memory": 1.0, "cache": 1.0, "link": 1.0, "wait_power": 1.0, "queue": 1.0,
}  # fmt: skip
PLENTY = 1e15
"""Of memory, so that nobody waits; and, as a rate, too fast to count."""


def split(**changes):
    fields = {"gpus": 1, "weight_bytes": 2.0, "rest_bytes": 2.0, "usable_bytes": PLENTY}
    return Split(**(fields | changes))


def numbers(*values):
    return np.array(values, dtype=np.float64)


def served(model=LLAMA, chip=H100, c=IDEAL, concurrency=1, tokens=(1000, 0, 100), **changes):
    work = work_of(
        model, chip, split(**changes), "bf16", concurrency, tuple(numbers(t) for t in tokens)
    )
    return serve(work, c)


def with_rates(chip, tflops, gbs):
    return replace(
        chip,
        bf16_tflops=tflops,
        memory_bandwidth_peak_gbs=gbs,
        memory_bandwidth_measured_gbs=None,
    )


def test_one_sequence_on_one_gpu_is_the_roofline_by_hand():
    # 32 layers of 4096, 8.03 billion parameters, of which two tables of 128,256 rows.
    table = 128_256 * 4096
    inner = 8_030_261_248 - 2 * table
    prefill_flops = 2 * (inner * 1000 + table) + 4 * 32 * 1000 * 500 * 4096
    decode_flops = 2 * (inner + table) + 4 * 32 * 1050 * 4096
    weights = (inner + table) * 2
    cache = 1050 * 2 * 32 * 8 * 128 * 2
    peak, bandwidth = H100.bf16_tflops * 1e12, H100.bandwidth_bytes_per_s()
    found = served()
    assert found.ttft_s == pytest.approx(np.hypot(prefill_flops / peak, weights / bandwidth))
    by_memory = (weights + cache) / bandwidth
    assert found.tpot_s == pytest.approx(np.hypot(decode_flops / peak, by_memory))
    # The first of the 100 tokens comes with the prompt.
    assert found.cycle_s == pytest.approx(found.ttft_s + 99 * found.tpot_s)
    assert found.queue_s == 0.0
    # One limit governs each phase.
    assert found.ttft_s == pytest.approx(prefill_flops / peak, rel=0.1)
    assert found.tpot_s == pytest.approx(by_memory, rel=0.001)


def test_overheads_are_added_to_the_roofline():
    slow = IDEAL | {"layer_s": 1e-3, "request_s": 0.5, "iteration": 1.0}
    plain, more = served(), served(c=slow)
    assert more.tpot_s == pytest.approx(plain.tpot_s + 0.032)
    # It waits for an iteration before it begins, and beside each chunk of its 1,000 tokens.
    waits = 1 + 1000 / CHUNK_TOKENS
    assert more.ttft_s == pytest.approx(plain.ttft_s + 0.032 + 0.5 + waits * more.iteration_s)


def test_two_all_reduces_a_layer_travel_a_ring():
    chip = replace(with_rates(H100, PLENTY, PLENTY), link_gbs=100.0)
    found = served(chip=chip, gpus=4, c=IDEAL | {"message_s": 1e-6})
    # Each sends 2·(n-1)/n of the activations for each all-reduce.
    sent = 2 * 2 * 3 / 4 * 32 * 4096 * 2
    assert found.ttft_s == pytest.approx(1000 * sent / 100e9, rel=1e-6)
    assert found.tpot_s == pytest.approx(sent / 100e9 + 2 * 32 * 2 * 1e-6, rel=1e-6)


def test_tensor_parallelism_divides_work_and_bytes():
    chip = replace(H100, link_gbs=PLENTY)
    one, four = served(chip=chip), served(chip=chip, gpus=4)
    assert four.ttft_s == pytest.approx(one.ttft_s / 4)
    assert four.tpot_s == pytest.approx(one.tpot_s / 4)


def test_more_of_a_rate_is_never_slower():
    for names in (("bf16_tflops",), ("memory_bandwidth_peak_gbs",), ("link_gbs",)):
        found = []
        for much in (50.0, 100.0, 400.0, 2000.0):
            chip = replace(with_rates(H100, 300.0, 1000.0), **dict.fromkeys(names, much))
            found.append(served(chip=chip, gpus=2, concurrency=8))
        for slow, fast in pairwise(found):
            # The last bits of a difference of large numbers differ.
            assert fast.ttft_s <= slow.ttft_s * (1 + 1e-12)
            assert fast.tpot_s <= slow.tpot_s
            assert fast.cycle_s < slow.cycle_s


@pytest.mark.parametrize("model", [LLAMA, MIXTRAL, DEEPSEEK], ids=lambda m: m.name)
def test_tokens_and_company_make_steps_longer(model):
    def all_of(**grown):
        return [served(model=model, **{name: v}) for name, values in grown.items() for v in values]

    news = all_of(tokens=[(n, 0, 50) for n in (1, 10, 100, 1000, 10_000)])
    assert all(a.ttft_s < b.ttft_s for a, b in pairwise(news))
    cached = all_of(tokens=[(8000 - c, c, 50) for c in (0, 4000, 7000, 7999)])
    assert all(a.ttft_s > b.ttft_s for a, b in pairwise(cached))
    contexts = all_of(tokens=[(1, c, 50) for c in (0, 1000, 10_000, 100_000)])
    assert all(a.tpot_s < b.tpot_s for a, b in pairwise(contexts))
    company = all_of(concurrency=[1, 2, 8, 64, 512])
    assert all(a.tpot_s < b.tpot_s for a, b in pairwise(company))
    # But the machine does more: tokens a second of all grow.
    rates = [many / s.tpot_s for many, s in zip([1, 2, 8, 64, 512], company, strict=True)]
    assert all(a < b for a, b in pairwise(rates))


def test_a_mixture_reads_the_experts_that_its_tokens_touch():
    chip = with_rates(H100, PLENTY, 1000.0)
    always = MIXTRAL.active_parameters - 2 * 32 * 3 * 4096 * 14336 - 32_000 * 4096
    expert = 32 * 3 * 4096 * 14336
    for many in (1, 3, 500):
        touched = 8 * (1 - (1 - 2 / 8) ** many)
        context = many * 1.5 * MIXTRAL.kv_bytes_per_token()
        read = 2 * (always + touched * expert) + context
        found = served(model=MIXTRAL, chip=chip, concurrency=many, tokens=(1, 0, 1))
        assert found.iteration_s == pytest.approx(read / 1e12, rel=1e-6)


def test_a_mixture_computes_only_the_experts_that_it_uses():
    # Two of eight experts work, so the arithmetic is that of a dense model of 12.9 billion.
    chip = with_rates(H100, 100.0, PLENTY)
    head = 32_000 * 4096
    flops = 2 * ((MIXTRAL.active_parameters - 2 * head) * 4096 + head)
    attention = 4 * 32 * 4096 * 2048 * 4096
    found = served(model=MIXTRAL, chip=chip, tokens=(4096, 0, 1))
    assert found.prefill_s == pytest.approx((flops + attention) / 1e14, rel=1e-6)


def test_latent_attention_caches_one_latent_on_every_gpu():
    token = 61 * (512 + 64) * 2
    assert DEEPSEEK.kv_bytes_per_token() == token
    weights = {"weight_bytes": 0.0, "rest_bytes": 0.0, "usable_bytes": token * 1000.0}
    # Tensor parallelism leaves a copy on each; ranks of data parallelism hold their own.
    for ranks in (1, 2, 8):
        spread = split(gpus=8, ranks=ranks, **weights)
        assert sequences_that_fit(DEEPSEEK, spread, numbers(10)) == pytest.approx(100 * ranks)
    heads = split(gpus=8, **(weights | {"usable_bytes": 131_072 * 1000.0 / 8}))
    assert sequences_that_fit(LLAMA, heads, numbers(10)) == pytest.approx(100)


def test_what_fits_llama_8b_on_an_l4():
    usable = 24e9 * 0.95
    free = usable - 8_030_261_248 * 2
    tokens = free / 131_072
    assert 51_000 < tokens < 52_000
    fits = sequences_that_fit(LLAMA, split(usable_bytes=usable), numbers(1000, tokens))
    assert fits == pytest.approx([tokens / 1000, 1.0])
    with pytest.raises(NoBasisError, match="it does not fit: the cache of one such step"):
        served(chip=L4, usable_bytes=usable, tokens=(tokens, 0, 10))


def test_what_fits_llama_70b_on_h100s():
    usable = 80e9 * 0.95
    with pytest.raises(NoBasisError, match="it does not fit: 141 GB of weights in 76 GB"):
        sequences_that_fit(SEVENTY, split(usable_bytes=usable), numbers(1))
    for gpus in (2, 4, 8):
        free = usable * gpus - 70_553_706_496 * 2
        found = sequences_that_fit(SEVENTY, split(gpus=gpus, usable_bytes=usable), numbers(2000))
        assert found == pytest.approx(free / (2000 * 327_680))
    # Beyond one accelerator a head of keys, each keeps a whole head.
    sixteen = sequences_that_fit(SEVENTY, split(gpus=16, usable_bytes=usable), numbers(2000))
    assert sixteen == pytest.approx((usable - 70_553_706_496 * 2 / 16) / (2000 * 327_680 / 8))


def test_steps_beyond_the_memory_queue_by_littles_law():
    room = 4
    usable = 8_030_261_248 * 2 + room * 1050 * 131_072
    small = served(concurrency=room, usable_bytes=usable)
    for many in (8, 40, 400):
        large = served(concurrency=many, usable_bytes=usable)
        # The machine does no more and no less: N = X·R.
        assert many / large.cycle_s == pytest.approx(room / small.cycle_s)
        assert large.ttft_s == pytest.approx(small.ttft_s + (many / room - 1) * small.cycle_s)
        assert large.tpot_s == pytest.approx(small.tpot_s)
        assert large.batch_s == pytest.approx(small.batch_s * many / room)


def test_a_batch_alone_takes_its_prompts_and_its_iterations():
    found = served(concurrency=5, c=IDEAL | {"request_s": 0.25})
    table = 128_256 * 4096
    inner = 8_030_261_248 - 2 * table
    flops = 2 * (inner * 1000 + table) + 4 * 32 * 1000 * 500 * 4096
    each_s = flops / (H100.bf16_tflops * 1e12)
    expected = 0.25 + found.prefill_s + 4 * each_s + 100 * found.iteration_s
    assert found.batch_s == pytest.approx(expected)


def test_under_steady_load_all_prompts_come_between_the_tokens():
    """In a cycle each sequence sees the prompts of all once, its own aside."""
    tokens = (2000, 0, 100)
    alone = served(concurrency=16, tokens=tokens)
    each_s = (alone.batch_s - alone.prefill_s - 100 * alone.iteration_s) / 15
    found = served(concurrency=16, tokens=tokens, c=IDEAL | {"interference": 1.0})
    assert found.tpot_s == pytest.approx(found.iteration_s + 15 * each_s / 99)
    assert found.ttft_s == pytest.approx(found.prefill_s)
    assert found.cycle_s == pytest.approx(found.prefill_s + 15 * each_s + 99 * found.iteration_s)


@pytest.mark.parametrize("interference", [0.0, 0.2, 0.7])
def test_no_cycle_is_shorter_than_its_prompts_and_iterations(interference):
    """By the utilisation law the machine's work for all sequences takes its time in each cycle."""
    tokens = (2000, 0, 100)
    alone = served(concurrency=16, tokens=tokens)
    each_s = (alone.batch_s - alone.prefill_s - 100 * alone.iteration_s) / 15
    found = served(concurrency=16, tokens=tokens, c=IDEAL | {"interference": interference})
    assert found.cycle_s == pytest.approx(16 * each_s + 99 * found.iteration_s)
    assert found.tpot_s == pytest.approx(found.iteration_s + interference * 15 * each_s / 99)
    assert found.ttft_s == pytest.approx(16 * each_s - interference * 15 * each_s)


THREE = Rows(
    names=np.array([["p", "e", "m", "bf16", ""]] * 3),
    octaves=numbers(0, 0, 10, 7, 0, 2, 10, 7, 0, 4, 12, 7).reshape(3, 4),
)
ASKED = Rows(
    names=np.array([["p", "e", "m", "bf16", ""], ["p", "e", "other", "bf16", ""]]),
    octaves=numbers(0, 1, 10, 7, 0, 2, 10, 7).reshape(2, 4),
)
TERMS = (
    Term(names=("processor", "engine"), sd=0.2, octaves=np.inf),
    Term(names=("processor", "engine", "model"), sd=0.3, octaves=2.0),
)
VALUES, NOISE = numbers(0.3, -0.1, 0.2), numbers(0.05, 0.1, 0.02)


def test_a_gaussian_process_is_the_posterior_of_three_points():
    known = Residuals(THREE, VALUES, NOISE, TERMS)
    mean, sd = known.predict(ASKED)
    for i, (names, place) in enumerate(zip(ASKED.names, ASKED.octaves, strict=True)):
        alike = np.array([0.3**2 if names[2] == "m" else 0.0])
        far = np.sum((THREE.octaves - place) ** 2, axis=1)
        shared = 0.2**2 + alike * np.exp(-0.5 * far / 4.0)
        gaps = THREE.octaves[:, None] - THREE.octaves[None]
        among = 0.2**2 + 0.3**2 * np.exp(-0.5 * np.sum(gaps**2, axis=2) / 4.0)
        solved = np.linalg.solve(among + np.diag(NOISE**2), np.stack([VALUES, shared], axis=1))
        assert mean[i] == pytest.approx(shared @ solved[:, 0])
        assert sd[i] ** 2 == pytest.approx(0.2**2 + 0.3**2 - shared @ solved[:, 1])


def test_one_point_without_noise_is_believed():
    known = Residuals(THREE.take(np.array([0])), VALUES[:1], numbers(1e-9), TERMS)
    mean, sd = known.predict(THREE.take(np.array([0])))
    assert mean == pytest.approx([0.3])
    assert sd == pytest.approx([0.0], abs=1e-6)


def test_a_row_left_out_equals_a_fit_without_it():
    error, sd = Residuals(THREE, VALUES, NOISE, TERMS).left_out()
    for row in range(3):
        rest = np.array([i for i in range(3) if i != row])
        without = Residuals(THREE.take(rest), VALUES[rest], NOISE[rest], TERMS)
        mean, spread = without.predict(THREE.take(np.array([row])))
        assert error[row] == pytest.approx(VALUES[row] - mean[0])
        assert sd[row] == pytest.approx(np.hypot(spread[0], NOISE[row]))


def test_the_likelihood_of_a_group_equals_the_direct_one():
    known = Residuals(THREE, VALUES, NOISE, TERMS)
    joint = covariance(THREE, THREE, TERMS) + np.diag(NOISE**2)
    for inside in ([0], [1, 2], [0, 2]):
        outside = [i for i in range(3) if i not in inside]
        gain = joint[np.ix_(inside, outside)] @ np.linalg.inv(joint[np.ix_(outside, outside)])
        error = VALUES[inside] - gain @ VALUES[outside]
        rest = joint[np.ix_(inside, inside)] - gain @ joint[np.ix_(outside, inside)]
        direct = 0.5 * (error @ np.linalg.inv(rest) @ error + np.log(np.linalg.det(rest)))
        assert known.group_left_out(np.array(inside)) == pytest.approx(direct)
