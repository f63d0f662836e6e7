from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.encoders import encoder
from polysilicon.cost.embed import (
    CPU_VCPUS,
    bare_seconds,
    embed_constants,
    embed_seconds,
    encoder_flops,
    matrix_flops_per_vcpu,
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
    found = embed_seconds(256 * 449.0, LARGE, L4, CATALOG, 449)
    ratios = [float(found.service_s) / run.seconds for run in served]
    assert median(ratios) == pytest.approx(1.0, abs=0.05)
    assert all(found.low_s < run.seconds < found.high_s for run in served)


def test_a_step_takes_one_accelerator():
    found = embed_seconds(1e5, LARGE, H100, CATALOG)
    assert (found.share, found.accelerators, found.basis) == (1 / 8, 1, "calibrated")
    assert found.low_s < found.service_s < found.high_s
    assert embed_seconds(1e5, LARGE, CATALOG.offer("aws/inf2.xlarge"), CATALOG).basis == "roofline"


def test_time_grows_with_tokens_and_model():
    tokens = np.array([10.0, 1e4, 1e6])
    small = embed_seconds(tokens, SMALL, L4, CATALOG)
    large = embed_seconds(tokens, LARGE, L4, CATALOG)
    assert np.all(np.diff(small.service_s) > 0)
    assert np.all(large.service_s > small.service_s)
    # Few tokens: kernels are launched, weights are read; many: in proportion.
    assert small.service_s[0] > 12 * embed_constants()["accelerator"]["layer_overhead_s"]
    twice = embed_seconds(2e6, SMALL, L4, CATALOG)
    assert twice.service_s == pytest.approx(2 * small.service_s[2], rel=0.01)


def test_long_sequences_cost_attention():
    nomic = encoder("nomic-embed-text-v1.5")
    short = embed_seconds(65_536.0, nomic, L4, CATALOG, 256)
    long = embed_seconds(65_536.0, nomic, L4, CATALOG, 8192)
    assert long.service_s > 1.2 * short.service_s
    assert encoder_flops(nomic, 8192) > encoder_flops(nomic, 256)


def test_a_cpu_gives_a_step_eight_vcpus():
    big = CATALOG.offer("aws/m7g.16xlarge", "us-east-1")
    found, same = (embed_seconds(5e4, SMALL, o, CATALOG) for o in (big, ARM))
    assert found.service_s == pytest.approx(same.service_s)
    assert (found.share, same.share) == (CPU_VCPUS / big.vcpus, 1.0)
    assert (found.accelerators, found.basis) == (0, "roofline")
    half = embed_seconds(5e4, SMALL, replace(ARM, vcpus=4), CATALOG)
    assert half.service_s > 1.9 * same.service_s


def test_matrix_rates_come_from_the_same_cores():
    assert matrix_flops_per_vcpu(ARM, CATALOG) > 1e9
    for blind in (None, CATALOG.processor("NVIDIA Grace")):
        with pytest.raises(NoBasisError, match="multiplies matrices was not measured"):
            matrix_flops_per_vcpu(replace(ARM, processor=blind), CATALOG)


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
        embed_seconds(100.0, LARGE, offer, CATALOG)


def test_impossible_tokens_are_refused():
    with pytest.raises(InputError, match="no tokens"):
        embed_seconds(np.array([1.0, 0.0]), SMALL, L4, CATALOG)
    for length in (0.0, 513.0):
        with pytest.raises(InputError, match="takes 1 to 512"):
            embed_seconds(100.0, SMALL, L4, CATALOG, length)
