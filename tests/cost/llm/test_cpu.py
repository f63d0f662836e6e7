from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.servers import load_servers
from polysilicon.cost.llm.cpu import cpu_law
from polysilicon.cost.llm.cpu_site import constants
from polysilicon.cost.types import BASES, Serving
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
SMALL = CATALOG.models["smollm-135m"]
OFFER = CATALOG.offer("gcp/c4-standard-16")
LLAMACPP, VLLM = Serving(engine="llama.cpp"), Serving(engine="vllm")


def rate(offer, model, engine="llama.cpp"):
    (found,) = [r for r in CATALOG.rates[offer] if (r.model, r.engine) == (model, engine)]
    return found


def law(model=SMALL, offer=OFFER, serving=LLAMACPP, concurrency=1):
    return cpu_law(model, offer, serving, concurrency, CATALOG)


def ask(of, new, cached, output):
    says = of.seconds(*(np.array([float(n)]) for n in (new, cached, output)))
    return msgspec.structs.asdict(says) | {"basis": BASES[says.basis[0]]}


def test_what_was_measured_on_this_very_type_is_looked_up():
    measured = rate(OFFER.name, SMALL.name)
    short = ask(law(), 512, 0, 1)
    assert short["ttft_s"] == pytest.approx(512 / measured.prefill_512_tokens_per_s)
    long = ask(law(), 4096, 0, 1)
    assert long["ttft_s"] == pytest.approx(4096 / measured.prefill_4096_tokens_per_s)
    assert ask(law(), 1, 0, 126)["tpot_s"] == pytest.approx(1 / measured.decode_128_tokens_per_s)
    assert ask(law(), 1, 0, 510)["tpot_s"] == pytest.approx(1 / measured.decode_512_tokens_per_s)
    assert short["basis"] == long["basis"] == "measured"
    assert "measured on this type" in law().note


def test_a_model_of_the_same_shapes_stands_for_another():
    other = law(model=CATALOG.models["smollm2-135m-instruct"])
    assert ask(other, 512, 0, 128) == ask(law(), 512, 0, 128)
    assert other.note.startswith("smollm-135m (same tensor shapes)")


def test_an_unmeasured_size_lies_between_its_neighbours_and_is_less_sure():
    known = load_servers().types
    sizes = ("aws/m9gd.2xlarge", "aws/m9g.4xlarge", "aws/m9gd.8xlarge")
    assert sizes[0] in known
    assert sizes[1] not in known
    assert sizes[2] in known
    found = [ask(law(offer=CATALOG.offer(name)), 512, 0, 128) for name in sizes]
    times = [f["ttft_s"] for f in found]
    assert times == sorted(times, reverse=True)
    assert [f["basis"] for f in found] == ["measured", "calibrated", "measured"]
    widths = [f["ttft_high_s"] / f["ttft_low_s"] for f in found]
    assert widths[1] > widths[0]


def test_speed_is_not_scaled_by_vcpus():
    # A whole machine decodes the small model slower than a twelfth of it: threads wait.
    whole = rate("aws/m9gd.metal-48xl", SMALL.name).decode_128_tokens_per_s
    part = rate("aws/m9gd.4xlarge", SMALL.name).decode_128_tokens_per_s
    assert whole < part
    big = law(offer=CATALOG.offer("aws/m9g.48xlarge"))
    small = law(offer=CATALOG.offer("aws/m9g.4xlarge"))
    assert ask(big, 512, 0, 128)["tpot_s"] > ask(small, 512, 0, 128)["tpot_s"]


def test_a_model_that_was_not_measured_is_calibrated_between_others():
    middle = ask(law(model=CATALOG.models["llama-3.1-8b-instruct"]), 512, 0, 128)
    smaller = ask(law(model=CATALOG.models["llama-7b"]), 512, 0, 128)
    assert middle["basis"] == "calibrated"
    assert smaller["tpot_s"] < middle["tpot_s"] < 2 * smaller["tpot_s"]


def test_longer_prompts_and_contexts_take_longer_and_are_less_sure():
    of = law()
    near, far = ask(of, 1000, 0, 10), ask(of, 20_000, 0, 10)
    assert far["ttft_s"] / 20_000 > near["ttft_s"] / 1000
    assert far["tpot_s"] > near["tpot_s"]
    assert (near["basis"], far["basis"]) == ("measured", "calibrated")
    assert far["ttft_high_s"] / far["ttft_s"] > near["ttft_high_s"] / near["ttft_s"]


def test_a_cached_prefix_saves_its_prefill_but_not_its_attention():
    of = law()
    cached, whole, alone = ask(of, 100, 900, 1), ask(of, 1000, 0, 1), ask(of, 100, 0, 1)
    assert alone["ttft_s"] < cached["ttft_s"] < whole["ttft_s"]
    assert cached["tpot_s"] == whole["tpot_s"]


def test_a_prompt_takes_at_least_one_pass_over_the_weights():
    one = ask(law(), 1, 0, 2)
    assert one["ttft_s"] >= 0.9 * one["tpot_s"]


@pytest.mark.parametrize("serving", [LLAMACPP, VLLM])
def test_many_at_once_are_slower_each_and_faster_together(serving):
    found = [ask(law(serving=serving, concurrency=b), 256, 0, 128) for b in (1, 2, 8, 32)]
    times = [f["ttft_s"] + 127 * f["tpot_s"] for f in found]
    assert times == sorted(times)
    assert times[3] < 32 * times[0]
    assert found[1]["basis"] == "calibrated"
    assert law(serving=serving, concurrency=8).share == pytest.approx(1 / 8)
    widths = [f["tpot_high_s"] / f["tpot_low_s"] for f in found]
    assert widths[0] == min(widths)


def test_output_rates_of_vllm_come_back_at_the_measured_loads():
    name = OFFER.name
    model = CATALOG.models["smollm2-135m-instruct"]
    measured = rate(name, model.name, "vllm")
    of = law(model, CATALOG.offer(name), VLLM)
    for prompt, output, told in (
        (256, 128, measured.output_256_128_tokens_per_s),
        (1024, 256, measured.output_1024_256_tokens_per_s),
    ):
        says = ask(of, prompt, 0, output)
        took_s = says["ttft_s"] + (output - 1) * says["tpot_s"]
        assert output / took_s == pytest.approx(told, rel=0.05)
    load = round(measured.busy_256_128_concurrency)
    says = ask(law(model, CATALOG.offer(name), VLLM, load), 256, 0, 128)
    together = load * 128 / (says["ttft_s"] + 127 * says["tpot_s"])
    assert together == pytest.approx(measured.busy_256_128_tokens_per_s, rel=0.1)


def test_no_busy_cpu_computes_more_than_its_cores_can():
    """Two operations for each parameter and token of 64 requests, over cores at their peak."""
    model, many, servers = CATALOG.models["llama-3.1-8b-instruct"], 64, load_servers()
    seen = set()
    for offer in {o.name: o for o in CATALOG.offers if o.kind == "cpu"}.values():
        for serving in (Serving(), LLAMACPP, VLLM):
            try:
                of = law(model, offer, serving, many)
            except NoBasisError:
                continue
            server = servers.of_offer(offer)
            isa = servers.chips[server.chip].isa if server.chip else "avx2"
            peak = server.cores * constants()[f"{isa}_gflops_per_core"] * 1e9
            # llama.cpp multiplies bytes; without wider units for these than for floats an AVX2
            # core does two for each float.
            if of.note.startswith("llama.cpp") and isa == "avx2":
                peak *= 2.0
            seen.add((of.note[:9], isa))
            for prompt, output in ((1, 2), (256, 128), (1000, 200), (4000, 1), (10, 1000)):
                says = ask(of, prompt, 0, output)
                took_s = says["ttft_s"] + (output - 1) * says["tpot_s"]
                tokens = many * (prompt + output - 1)
                needs = 2.0 * model.active_parameters * tokens / took_s
                assert needs <= peak * (1 + 1e-9), (offer.name, of.note, prompt, output)
    assert len(seen) > 5


def test_engine_and_precision_are_chosen_by_speed_and_told():
    free = law(serving=Serving())
    both = [law(serving=LLAMACPP), law(serving=VLLM)]
    seconds = [ask(of, 512, 0, 128) for of in both]
    times = [s["ttft_s"] + 127 * s["tpot_s"] for s in seconds]
    assert free.note == both[times.index(min(times))].note
    assert "vllm, bf16" in law(serving=Serving(precision="bf16")).note
    assert "llama.cpp, q4_1" in law(serving=Serving(precision="q4_1")).note


def test_wider_weights_decode_slower_and_are_not_measured():
    narrow, wide = law(), law(serving=Serving(precision="q4_1"))
    says = [ask(of, 512, 0, 128) for of in (narrow, wide)]
    assert says[1]["tpot_s"] > says[0]["tpot_s"]
    assert says[1]["basis"] == "calibrated"


def test_memory_bounds_tokens():
    room = [law(concurrency=b).largest_tokens for b in (1, 4)]
    assert room[0] == pytest.approx(4 * room[1])
    free = OFFER.memory_bytes * constants()["usable_share"] - SMALL.parameters * 0.605
    assert room[0] == pytest.approx(free / SMALL.kv_bytes_per_token())


@pytest.mark.parametrize(
    ("model", "offer", "serving", "reason"),
    [
        ("llama-3.3-70b-instruct", "aws/m9g.2xlarge", LLAMACPP, "it does not fit"),
        ("llama-3.3-70b-instruct", "aws/m9g.48xlarge", VLLM, "of about its size"),
        ("smollm-135m", "aws/m9g.2xlarge", Serving(engine="sglang"), "not measured on CPUs"),
        ("smollm-135m", "aws/m9g.2xlarge", Serving(precision="fp8"), "4-bit"),
        ("smollm-135m", "aws/g6.xlarge", LLAMACPP, "rented for their CPUs"),
        ("smollm-135m", "aws/c9g.2xlarge", LLAMACPP, "how much memory"),
    ],
)
def test_what_has_no_basis_is_refused(model, offer, serving, reason):
    with pytest.raises(NoBasisError, match=reason):
        law(CATALOG.models[model], CATALOG.offer(offer), serving)


def test_a_processor_like_none_measured_is_refused():
    strange = msgspec.structs.replace(OFFER, name="here", processor=None)
    with pytest.raises(NoBasisError, match="no LLM was measured on a processor like it"):
        law(offer=strange)


def test_a_type_that_ran_it_has_memory_for_it_even_if_nobody_tells_how_much():
    name = next(t.instance for t in load_servers().types.values() if t.memory_gib is None)
    offer = msgspec.structs.replace(OFFER, name=name, memory_bytes=None)
    measured = next(r for r in CATALOG.rates[name] if r.decode_128_tokens_per_s)
    found = law(CATALOG.models[measured.model], offer)
    assert found.largest_tokens == 4096


def test_mixtures_of_experts_have_a_wider_band():
    mixture = ask(law(CATALOG.models["qwen3-30b-a3b"]), 512, 0, 128)
    dense = ask(law(CATALOG.models["gemma-2-2b-it"]), 512, 0, 128)
    assert mixture["tpot_high_s"] / mixture["tpot_s"] > dense["tpot_high_s"] / dense["tpot_s"]
