from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.constants import constants
from polysilicon.cost.llm.accelerator import FEW, NINETY, AcceleratorLaw
from polysilicon.cost.llm.coefficients import coefficients, tags_of
from polysilicon.cost.llm.fitted import Fit, Kernel, Known, shipped_fit
from polysilicon.cost.llm.residuals import Term, describe
from polysilicon.cost.llm.serving import serve
from polysilicon.cost.llm.setting import Setting
from polysilicon.cost.llm.work import Split, work_of
from polysilicon.cost.types import BASES
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
H100 = CATALOG.processor("NVIDIA H100 SXM5 80GB")
ONE = Split(gpus=1, weight_bytes=2.0, rest_bytes=2.0, usable_bytes=76e9)
VLLM = Setting(engine="vllm", precision="bf16", split=ONE)
VALUES = {
    ("compute", ""): -0.5,
    ("compute", "family:CUDA"): 0.0,
    ("compute", f"processor:{H100.name}"): 0.0,
    ("memory", ""): -0.2,
    ("layer_s", ""): -10.0,
    ("message_s", ""): -12.0,
    ("request_s", ""): -4.0,
    ("sequence", ""): -5.0,
    ("wait", ""): -1.0,
}
TERMS = (
    Term(names=("processor", "engine"), sd=0.1, octaves=np.inf),
    Term(names=("processor", "engine", "model", "precision", "split"), sd=0.2, octaves=3.0),
)
KERNEL = Kernel(terms=TERMS, noise_sd=0.03, width=2.0)


def numbers(*values):
    return np.array(values, dtype=np.float64)


def known(*rows, chip=H100.name, concurrency=8.0):
    """Return residuals: of each row new tokens, output tokens and what the law leaves over."""
    columns = numbers(*(rows or [(1, 1, 0.0)])).reshape(-1, 3).T
    names = (chip, "vllm", LLAMA, "bf16", ONE)
    found = describe(names, (concurrency, columns[0], columns[1]))
    count = len(rows)
    return Known(
        rows=found.take(np.arange(count)),
        values=columns[2][:count],
        noise_sd=np.full(count, 0.03),
    )


def fit(ttft=(), tpot=(), values=VALUES, **where):
    return Fit(
        values=values,
        kernels={"ttft_s": KERNEL, "tpot_s": KERNEL},
        known={"ttft_s": known(*ttft, **where), "tpot_s": known(*tpot, **where)},
    )


def law(found=None, chip=H100, setting=VLLM, concurrency=8, available=8, model=LLAMA):
    return AcceleratorLaw(model, chip, available, setting, concurrency, found or fit())


def plain(tokens, concurrency=8):
    tags = tags_of(LLAMA, H100, "vllm", "bf16", ONE)
    work = work_of(LLAMA, H100, ONE, "bf16", concurrency, tuple(numbers(t) for t in tokens))
    return serve(work, coefficients(VALUES, tags))


def test_without_rows_it_is_the_serving_law_with_a_wide_band():
    said = law().seconds(numbers(1000), numbers(200), numbers(100))
    found = plain((1000, 200, 100))
    assert said.ttft_s == pytest.approx(found.ttft_s)
    assert said.tpot_s == pytest.approx(found.tpot_s)
    reach = np.exp(NINETY * 2.0 * np.sqrt(0.1**2 + 0.2**2 + 0.03**2))
    assert said.ttft_high_s / said.ttft_s == pytest.approx(reach)
    assert said.ttft_s / said.ttft_low_s == pytest.approx(reach)
    assert said.tpot_high_s / said.tpot_s == pytest.approx(reach)
    assert BASES[said.basis[0]] == "calibrated"


def test_rows_like_the_one_asked_for_correct_it_and_narrow_the_band():
    rows = [(1000, 100, 0.3), (2000, 100, 0.3), (500, 100, 0.3)]
    corrected = law(fit(ttft=rows)).seconds(numbers(1000), numbers(0), numbers(100))
    found = plain((1000, 0, 100))
    assert np.log(corrected.ttft_s / found.ttft_s) == pytest.approx(0.3, abs=0.02)
    assert corrected.tpot_s == pytest.approx(found.tpot_s)
    wide = law().seconds(numbers(1000), numbers(0), numbers(100))
    assert corrected.ttft_high_s / corrected.ttft_s < 0.8 * wide.ttft_high_s / wide.ttft_s


def test_rows_of_another_chip_say_nothing():
    rows = [(1000, 100, 0.3)] * 2
    said = law(fit(ttft=rows, chip="NVIDIA L4")).seconds(numbers(1000), numbers(0), numbers(100))
    assert said.ttft_s == pytest.approx(plain((1000, 0, 100)).ttft_s)


def test_measured_is_what_stands_in_the_rows_as_it_is_asked():
    found = fit(ttft=[(1000, 100, 0.1)], tpot=[(1000, 100, 0.1)])
    prompts = (numbers(1000, 1001, 1000, 1000, 500), numbers(0, 0, 0, 10, 500))
    said = law(found).seconds(*prompts, numbers(100, 100, 99, 100, 100))
    assert [BASES[b] for b in said.basis] == ["measured"] + ["calibrated"] * 4
    other = law(found, concurrency=9).seconds(numbers(1000), numbers(0), numbers(100))
    assert BASES[other.basis[0]] == "calibrated"


def test_a_family_that_nobody_measured_is_a_roofline_with_a_wider_band():
    values = {key: value for key, value in VALUES.items() if key[1] != "family:CUDA"}
    found = law(fit(values=values))
    said = found.seconds(numbers(1000), numbers(0), numbers(100))
    assert found.basis == "roofline"
    assert BASES[said.basis[0]] == "roofline"
    assert "nothing of this family was measured" in found.note
    usual = law().seconds(numbers(1000), numbers(0), numbers(100))
    inner = 2.0 * np.sqrt(0.1**2 + 0.2**2 + 0.03**2)
    unmeasured = constants()["unmeasured"]
    for metric in ("ttft", "tpot"):
        best, high = getattr(said, f"{metric}_s"), getattr(said, f"{metric}_high_s")
        reach = np.exp(NINETY * np.hypot(inner, unmeasured[f"{metric}_s"]))
        assert high / best == pytest.approx(reach)
        assert best == pytest.approx(getattr(usual, f"{metric}_s"))


def test_a_chip_of_which_only_throughput_was_measured_has_a_wider_band():
    batches = VALUES | {("compute", f"static on:{H100.name}"): -0.2}
    one = numbers(1000), numbers(0), numbers(100)
    said, usual = law(fit(values=batches)).seconds(*one), law().seconds(*one)
    inner = 2.0 * np.sqrt(0.1**2 + 0.2**2 + 0.03**2)
    for metric in ("ttft", "tpot"):
        best = getattr(said, f"{metric}_s")
        # What static batches add is of static batches alone.
        assert best == getattr(usual, f"{metric}_s")
        reach = np.exp(NINETY * np.hypot(inner, constants()["unmeasured"][f"{metric}_s"]))
        assert getattr(said, f"{metric}_high_s") / best == pytest.approx(reach)
        assert best / getattr(said, f"{metric}_low_s") == pytest.approx(reach)
    assert BASES[said.basis[0]] == "calibrated"
    # Rows of another chip do not help, rows of its own do.
    far = fit(ttft=[(1, 1, 0.0)], values=batches, chip="NVIDIA L4")
    assert law(far).seconds(*one).ttft_high_s == pytest.approx(said.ttft_high_s)
    own = fit(ttft=[(1, 1, 0.0)], values=batches)
    near = law(own).seconds(*one)
    assert near.ttft_high_s / near.ttft_s < 0.8 * said.ttft_high_s / said.ttft_s


def test_notes_tell_what_the_numbers_rest_on():
    served = fit(ttft=[(1000, 100, 0.1)])
    assert law(served).note == "vllm, bf16, one accelerator of 8, 8 at a time"
    assert law().note == "vllm, bf16, one accelerator of 8, 8 at a time"
    batches = VALUES | {("compute", f"static on:{H100.name}"): -0.2}
    assert law(fit(values=batches)).note == (
        "vllm, bf16, one accelerator of 8, 8 at a time; of this chip only throughput was measured"
    )
    both = fit(ttft=[(1000, 100, 0.1)], values=batches)
    assert law(both).note == law(served).note
    cousin = replace(H100, name="NVIDIA H300")
    assert law(chip=cousin).note.endswith("measured on other chips of the family")
    two = Setting(engine="vllm", precision="bf16", split=replace(ONE, gpus=2))
    assert "2 accelerators of 8" in law(setting=two).note


def test_a_step_has_its_share_of_the_machine():
    assert law(concurrency=1).share == 1 / 8
    assert law(concurrency=16).share == 1 / 8 / 16
    two = Setting(engine="vllm", precision="bf16", split=replace(ONE, gpus=2))
    assert law(setting=two, concurrency=4).share == 2 / 8 / 4


def test_the_largest_context_fills_the_memory_beside_the_weights():
    by_hand = (76e9 - LLAMA.parameters * 2) / LLAMA.kv_bytes_per_token()
    assert law().largest_tokens == pytest.approx(by_hand, abs=1)
    fits = int(law().largest_tokens)
    law().seconds(numbers(fits - 10), numbers(0), numbers(10))
    with pytest.raises(NoBasisError, match="does not fit"):
        law().seconds(numbers(fits), numbers(0), numbers(10))
    tiny = replace(ONE, usable_bytes=LLAMA.parameters * 2 + 1000.0)
    with pytest.raises(NoBasisError, match="the cache of one token is larger than the memory"):
        law(setting=Setting(engine="vllm", precision="bf16", split=tiny))


def steps(count, rng):
    new = np.floor(2.0 ** rng.uniform(0, 14, count))
    cached = np.floor(new * rng.choice([0.0, 1.0, 3.0], count))
    return new, cached, np.floor(2.0 ** rng.uniform(0, 11, count))


def test_many_steps_are_corrected_like_few():
    """Read off a grid, corrections are within a hundredth of those worked out one by one."""
    new, cached, output = steps(4 * FEW, np.random.default_rng(3))
    serving = shipped_fit()
    found = law(serving)
    many = found.seconds(new, cached, output)
    few = [
        found.seconds(new[i : i + FEW], cached[i : i + FEW], output[i : i + FEW])
        for i in range(0, len(new), FEW)
    ]
    for name in ("ttft_s", "tpot_s"):
        one_by_one = np.concatenate([getattr(part, name) for part in few])
        assert np.abs(getattr(many, name) / one_by_one - 1.0).max() < 0.01
    for name in ("ttft_high_s", "tpot_low_s"):
        one_by_one = np.concatenate([getattr(part, name) for part in few])
        assert np.abs(getattr(many, name) / one_by_one - 1.0).max() < 0.05


def test_steps_beyond_the_grid_get_its_edge():
    found = law(shipped_fit())
    new = np.full(FEW + 1, 300_000.0)
    said = found.seconds(new, np.zeros_like(new), np.zeros_like(new))
    assert np.isfinite(said.ttft_s).all()
    assert (said.ttft_low_s < said.ttft_s).all()


def test_the_shape_of_the_steps_is_kept():
    said = law().seconds(numbers(), numbers(), numbers())
    assert said.ttft_s.shape == (0,)
    said = law().seconds(numbers(1, 2, 3), numbers(0, 0, 0), numbers(1, 1, 1))
    assert said.tpot_high_s.shape == said.basis.shape == (3,)


def test_a_step_answers_for_its_part_of_the_machine_while_it_is_in_the_engine():
    one = numbers(1000), numbers(0), numbers(100)
    request_s = np.exp(VALUES["request_s", ""])
    alone = law(concurrency=1).seconds(*one)
    assert alone.machine_s * 8 == pytest.approx(alone.ttft_s + 99 * alone.tpot_s - request_s)
    together = law(concurrency=8).seconds(*one)
    said_s = together.ttft_s + 99 * together.tpot_s - request_s
    assert together.machine_s * 8 * 8 == pytest.approx(said_s, rel=0.01)


def test_passes_make_up_what_steps_take_with_corrections_too():
    fit_ = fit(ttft=[(1000, 100, 0.3)] * 3, tpot=[(1000, 100, -0.2)] * 3)
    one = numbers(1000), numbers(0), numbers(100)
    for concurrency in (2, 8, 32):
        plain_, said = (law(f, concurrency=concurrency).seconds(*one) for f in (None, fit_))
        found = plain((1000, 0, 100), concurrency)
        assert plain_.passes.decode_s == pytest.approx(found.iteration_s)
        before_s = (found.request_s + found.beside_s) * said.ttft_s / found.ttft_s
        rest_s = said.ttft_s - before_s + 99 * (said.tpot_s - said.passes.decode_s)
        assert said.passes.prompt_s * concurrency == pytest.approx(rest_s)
        assert said.passes.decode_s / said.tpot_s == pytest.approx(found.iteration_s / found.tpot_s)
        assert said.passes.alone_s < said.passes.decode_s


def test_no_prompt_takes_less_than_its_arithmetic():
    for output in (1, 2, 5):
        tokens = numbers(500), numbers(0), numbers(output)
        found = plain((500, 0, output), 2)
        said = law(concurrency=2).seconds(*tokens)
        assert said.passes.prompt_s >= found.each_s


def test_a_longer_queue_makes_no_step_cheaper():
    one = numbers(8000), numbers(0), numbers(100)
    found = [law(concurrency=many).seconds(*one) for many in (8, 32, 200, 2000, 20_000)]
    # 60 GB beside the weights hold about 57 such steps.
    assert found[2].ttft_s > 2 * found[1].ttft_s
    assert found[4].ttft_s == pytest.approx(10 * found[3].ttft_s, rel=0.05)
    assert found[0].machine_s > found[1].machine_s > found[2].machine_s
    assert found[3].machine_s == pytest.approx(found[2].machine_s)
    assert found[4].machine_s == pytest.approx(found[2].machine_s)
