from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.cost.llm import choose
from polysilicon.cost.llm.accelerator import AcceleratorLaw
from polysilicon.cost.llm.choose import law_for, own_profile
from polysilicon.cost.llm.cpu import cpu_law
from polysilicon.cost.llm.local import LocalLaw
from polysilicon.cost.llm.measured_gpu import MeasuredLaw, PairedLaw, measured_gpu_law
from polysilicon.cost.profile import profile_path, spread, write_profile
from polysilicon.cost.types import BASES, Load, Serving
from polysilicon.errors import InputError, NoBasisError
from profiles import llm_profile, profile

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
SMOL = CATALOG.models["smollm2-135m-instruct"]
H100 = CATALOG.offer("aws/p5.48xlarge")
ALONE = Load()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """This machine as if it had been calibrated with the model `smollm2-135m-instruct`."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    machine = detect()
    measured = replace(
        profile(),
        cpu=machine.cpu,
        arch=machine.arch,
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
        llm={SMOL.name: llm_profile(model=SMOL.name)},
    )
    profile_path().parent.mkdir(parents=True, exist_ok=True)
    write_profile(measured, profile_path())
    forget()
    yield measured
    forget()


def forget():
    own_profile.cache_clear()
    choose._law.cache_clear()


def law(model=LLAMA, offer=H100, load=ALONE, tokens=2000.0):
    return law_for(model, offer, load, CATALOG, tokens)


def test_accelerators_go_by_the_law_of_their_chip():
    found = law()
    assert isinstance(found, AcceleratorLaw)
    assert found.note.startswith("vllm, bf16, one accelerator of 8")


def test_laws_are_kept():
    assert law() is law()
    assert law(tokens=2000.0) is law(tokens=1500.0)  # the same power of two
    assert law(tokens=5000.0) is not law()
    assert law(load=Load(concurrency=2)) is not law()


def test_long_steps_take_as_many_accelerators_as_they_need():
    short = law(load=Load(concurrency=128), tokens=1000.0)
    long = law(load=Load(concurrency=128), tokens=16_000.0)
    assert "one accelerator" in short.note
    assert "4 accelerators" in long.note


def test_what_was_measured_on_the_very_offer_comes_first():
    gpu = CATALOG.offer("gcp/a2-highgpu-1g")
    assert isinstance(law(SMOL, gpu), PairedLaw)
    assert isinstance(law(SMOL, gpu, Load(serving=Serving(engine="vllm"))), PairedLaw)
    # Prefill rates of llama.cpp tell the first token by themselves.
    assert isinstance(law(SMOL, gpu, Load(serving=Serving(engine="llama.cpp"))), MeasuredLaw)
    assert isinstance(law(SMOL, gpu, tokens=40_000.0), AcceleratorLaw)
    assert isinstance(law(SMOL, gpu, Load(concurrency=2)), AcceleratorLaw)
    assert isinstance(law(SMOL, gpu, Load(serving=Serving(engine="sglang"))), AcceleratorLaw)


@pytest.mark.parametrize("parallelism", ["tp", "pp", "dp", "ep"])
def test_parallelism_that_is_asked_for_goes_by_the_chip(parallelism):
    gpu = CATALOG.offer("gcp/a2-highgpu-1g")
    assert isinstance(law(SMOL, gpu, Load(serving=Serving(count=1))), PairedLaw)
    asked = law(SMOL, gpu, Load(serving=Serving(**{parallelism: 1})))
    assert isinstance(asked, AcceleratorLaw)


def test_later_tokens_are_measured_and_the_first_goes_by_the_chip():
    offer = CATALOG.offer("azure/Standard_NC24ads_A100_v4")
    one = np.array([1000.0]), np.array([0.0]), np.array([100.0])
    found = law(offer=offer)
    assert isinstance(found, PairedLaw)
    assert found.note.endswith("; first token by the law of the chip")
    said = found.seconds(*one)
    measured = measured_gpu_law(LLAMA, offer, Serving(), 1, CATALOG).seconds(*one)
    chip = law(offer=offer, load=Load(serving=Serving(tp=1))).seconds(*one)
    for name in ("tpot_s", "tpot_low_s", "tpot_high_s"):
        assert getattr(said, name) == getattr(measured, name)
    for name in ("ttft_s", "ttft_low_s", "ttft_high_s"):
        assert getattr(said, name) == getattr(chip, name)
    # Two operations for each parameter and token: the chip computes no faster than its peak.
    peak_s = 2 * (LLAMA.active_parameters - 2 * 128_256 * 4096) * 1000 / 312e12
    assert peak_s > 0.04
    assert said.ttft_s > peak_s
    assert BASES[said.basis[0]] == "calibrated"


def test_where_the_chip_has_no_law_both_are_measured():
    gpu = CATALOG.offer("gcp/a2-highgpu-1g")
    blank = replace(gpu, processor=replace(gpu.processor, bf16_tflops=None, memory_gb=None))
    assert isinstance(law(SMOL, blank), MeasuredLaw)


def test_cpus_go_by_the_law_of_cpus():
    offer = CATALOG.offer("aws/m9g.2xlarge")
    found = law(SMOL, offer)
    direct = cpu_law(SMOL, offer, Serving(), 1, CATALOG)
    assert type(found) is type(direct)
    one = np.array([200.0]), np.array([0.0]), np.array([20.0])
    assert found.seconds(*one).ttft_s == direct.seconds(*one).ttft_s


def test_the_steps_asked_for_choose_the_engine_of_a_cpu():
    offer = CATALOG.offer("aws/m9g.4xlarge")
    answers = law_for(LLAMA, offer, ALONE, CATALOG, 2000.0, (16.0, 1024.0))
    prompts = law_for(LLAMA, offer, ALONE, CATALOG, 2000.0, (1024.0, 16.0))
    assert answers.note.startswith("llama.cpp, q4_k_m")
    assert prompts.note.startswith("vllm, bf16")
    for shape in ((16.0, 1024.0), (1024.0, 16.0)):
        one = np.array([shape[0]]), np.array([0.0]), np.array([shape[1]])
        took_s = {}
        for found in (answers, prompts):
            said = found.seconds(*one)
            took_s[found.note] = said.ttft_s[0] + (shape[1] - 1) * said.tpot_s[0]
        chosen = law_for(LLAMA, offer, ALONE, CATALOG, 2000.0, shape)
        assert took_s[chosen.note] == min(took_s.values())
    # Rounded to a power of two, so that laws are kept; and of no matter on accelerators.
    assert law_for(LLAMA, offer, ALONE, CATALOG, 2000.0, (1100.0, 15.0)) is prompts
    assert law_for(LLAMA, H100, ALONE, CATALOG, 2000.0, (1.0, 1024.0)) is law()


def test_this_machine_goes_by_its_profile(own):
    local = local_offer(CATALOG, detect())
    found = law(SMOL, local, Load(concurrency=2, utilisation=0.5))
    assert isinstance(found, LocalLaw)
    assert found.share == 0.5
    assert not isinstance(law(SMOL, CATALOG.offer("aws/m9g.2xlarge")), LocalLaw)
    assert own_profile() == own


def test_of_two_engines_here_the_one_that_takes_less_of_the_machine(own):
    quick = tuple(replace(p, seconds=spread([p.seconds.median / 4])) for p in own_llm(own).prefill)
    slow = tuple(replace(p, seconds=spread([p.seconds.median * 3])) for p in own_llm(own).decode)
    other = replace(own_llm(own), engine="vllm", engine_version="9", prefill=quick, decode=slow)
    write_profile(replace(own, servers=(other,)), profile_path())
    forget()
    local = replace(local_offer(CATALOG, detect()), kind="cpu")

    def engine(prompt, output, **asked):
        load = Load(concurrency=8, serving=Serving(**asked))
        return law_for(SMOL, local, load, CATALOG, 2000.0, (prompt, output)).note.split()[2]

    assert engine(1024.0, 4.0) == "vllm"
    assert engine(16.0, 256.0) == "llama.cpp"
    assert engine(16.0, 256.0, engine="vllm") == "vllm"
    assert engine(1024.0, 4.0, engine="llama.cpp") == "llama.cpp"


def test_many_at_once_may_pay_where_a_step_alone_takes_longer(own):
    wide = replace(own_llm(own), engine="vllm", slots=32, decode=tuple(
        replace(p, sequences=p.sequences * 4, seconds=spread([p.seconds.median * 2]))
        for p in own_llm(own).decode
    ))  # fmt: skip
    write_profile(replace(own, servers=(wide,)), profile_path())
    forget()
    local = replace(local_offer(CATALOG, detect()), kind="cpu")
    notes = [law_for(SMOL, local, Load(concurrency=n), CATALOG, 2000.0, (16.0, 256.0)).note
             for n in (1, 64)]  # fmt: skip
    assert [note.split()[2] for note in notes] == ["llama.cpp", "vllm"]


def own_llm(own):
    return own.llm[SMOL.name]


def test_a_model_that_was_not_measured_here_goes_by_the_processor(own):
    local = replace(local_offer(CATALOG, detect()), kind="cpu", processor=None)
    other = CATALOG.models["qwen2.5-0.5b-instruct"]
    with pytest.raises(NoBasisError):
        law(other, local)


def test_without_a_profile_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    forget()
    assert own_profile() is None
    forget()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"processor": None}, "the processor of aws/p5.48xlarge is not known"),
        ({"accelerators": None}, "how much of NVIDIA H100 SXM5 80GB it has is not known"),
    ],
)
def test_offers_that_are_not_known_enough_are_refused(change, words):
    with pytest.raises(NoBasisError, match=words):
        law(offer=replace(H100, **change))


def test_mistakes_of_the_user_are_not_hidden():
    with pytest.raises(InputError, match="unknown engine 'vlm'"):
        law(load=Load(serving=Serving(engine="vlm")))
    with pytest.raises(InputError, match="16 of 8 accelerators"):
        law(load=Load(serving=Serving(tp=16)))
