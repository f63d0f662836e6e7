from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.encoders import encoder
from polysilicon.cost.cores import CPU_VCPUS, cores_of
from polysilicon.cost.embed import (
    bare_seconds,
    embed_constants,
    embed_seconds,
    encoder_flops,
)
from polysilicon.cost.runs import EmbedRun, embed_runs
from polysilicon.errors import InputError, NoBasisError

CATALOG = catalog.load()
L4 = CATALOG.offer("aws/g6.xlarge")
H100 = CATALOG.offer("aws/p5.48xlarge")
ARM = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
SMALL, LARGE = encoder("bge-small-en-v1.5"), encoder("bge-large-en-v1.5")


def bare(run: EmbedRun) -> float:
    """Return the law's seconds of a published run, without a server."""
    chip, shapes = CATALOG.processor(run.processor), encoder(run.encoder)
    amount = np.array(float(run.batch * run.sequence_tokens))
    flops = amount * encoder_flops(shapes, run.sequence_tokens)
    peak = run.count * chip.peak_flops("fp16")
    return float(
        bare_seconds(amount, flops, shapes, peak, run.count * chip.bandwidth_bytes_per_s())
    )


def errors(used_for: str) -> list[float]:
    return [abs(bare(run) / run.seconds - 1) for run in embed_runs() if run.used_for == used_for]


def test_the_law_fits_its_runs_and_runs_that_it_never_saw():
    assert len(errors("fit")) == 120
    assert median(errors("fit")) < 0.11
    # Chips of another maker.
    assert len(errors("held-out")) == 14
    assert median(errors("held-out")) < 0.25


def test_served_runs_are_met_and_covered():
    served = [run for run in embed_runs() if run.used_for == "serving"]
    found = embed_seconds(256 * 449.0, LARGE, L4, 449)
    ratios = [float(found.service_s) / run.seconds for run in served]
    assert median(ratios) == pytest.approx(1.0, abs=0.05)
    assert all(found.low_s < run.seconds < found.high_s for run in served)


def test_a_step_takes_one_accelerator():
    found = embed_seconds(1e5, LARGE, H100)
    assert (found.share, found.accelerators, found.basis) == (1 / 8, 1, "calibrated")
    assert found.low_s < found.service_s < found.high_s
    assert embed_seconds(1e5, LARGE, CATALOG.offer("aws/inf2.xlarge")).basis == "roofline"


def test_time_grows_with_tokens_and_model():
    tokens = np.array([10.0, 1e4, 1e6])
    small = embed_seconds(tokens, SMALL, L4)
    large = embed_seconds(tokens, LARGE, L4)
    assert np.all(np.diff(small.service_s) > 0)
    assert np.all(large.service_s > small.service_s)
    # Few tokens: kernels are launched, weights are read; many: in proportion.
    assert small.service_s[0] > 12 * embed_constants()["accelerator"]["layer_overhead_s"]
    twice = embed_seconds(2e6, SMALL, L4)
    assert twice.service_s == pytest.approx(2 * small.service_s[2], rel=0.01)


def test_long_sequences_cost_attention():
    nomic = encoder("nomic-embed-text-v1.5")
    short = embed_seconds(65_536.0, nomic, L4, 256)
    long = embed_seconds(65_536.0, nomic, L4, 8192)
    assert long.service_s > 1.2 * short.service_s
    assert encoder_flops(nomic, 8192) > encoder_flops(nomic, 256)


def test_a_cpu_gives_a_step_eight_vcpus():
    big = CATALOG.offer("aws/m7g.16xlarge", "us-east-1")
    found, same = (embed_seconds(5e4, SMALL, o) for o in (big, ARM))
    assert found.service_s == pytest.approx(same.service_s, rel=0.02)
    assert (found.share, same.share) == (CPU_VCPUS / big.vcpus, 1.0)
    assert (found.accelerators, found.basis) == (0, "roofline")
    half = embed_seconds(5e4, SMALL, replace(ARM, vcpus=4))
    assert half.service_s > 1.9 * same.service_s


def test_the_run_on_a_cpu_that_was_published_is_met():
    """9,175 tokens/s on the 16 vCPUs of gcp/g2-standard-16 (infinity), the same cores as N2's."""
    cores = cores_of(replace(ARM, name="gcp/n2-highcpu-16", processor=None, vcpus=16))
    assert (cores.family, cores.used) == ("Cascade Lake", CPU_VCPUS)
    rate = embed_constants()["cpu"]["flop_per_l1_byte"] * cores.l1_bytes_per_s * 16
    assert rate / encoder_flops(SMALL, 512) == pytest.approx(9175, rel=0.05)


def test_no_cpu_embeds_faster_than_its_cores_can():
    """Peaks in fp32: operations a cycle times the highest clock told of these cores."""
    for name, peak_gflops in (("aws/m7a.2xlarge", 32 * 3.7), ("aws/m7g.2xlarge", 32 * 2.6)):
        cores = cores_of(CATALOG.offer(name, "us-east-1"))
        rate = embed_constants()["cpu"]["flop_per_l1_byte"] * cores.l1_bytes_per_s
        assert 0.3e9 * peak_gflops < rate < 1e9 * peak_gflops


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        (replace(L4, processor=None), "the processor of aws/g6.xlarge is not known"),
        (replace(L4, accelerators=None), "how much of NVIDIA L4"),
        (
            replace(L4, processor=replace(L4.processor, memory_bandwidth_peak_gbs=None)),
            "peak rate or memory bandwidth of NVIDIA L4",
        ),
        (replace(L4, processor=replace(L4.processor, memory_gb=0.5)), "does not fit"),
        (replace(ARM, vcpus=None), "how many vCPUs"),
    ],
)
def test_missing_facts_are_refused(offer, text):
    with pytest.raises(NoBasisError, match=text):
        embed_seconds(100.0, LARGE, offer)


def test_impossible_tokens_are_refused():
    with pytest.raises(InputError, match="no tokens"):
        embed_seconds(np.array([1.0, 0.0]), SMALL, L4)
    for length in (0.0, 513.0):
        with pytest.raises(InputError, match="takes 1 to 512"):
            embed_seconds(100.0, SMALL, L4, length)
