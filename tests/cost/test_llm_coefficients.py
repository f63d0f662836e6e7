from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.llm.coefficients import (
    AT_MOST,
    Prior,
    Slots,
    coefficients,
    family_of_cores,
    read_priors,
    tags_of,
)
from polysilicon.cost.llm.fitted import shipped_fit
from polysilicon.cost.llm.serving import COEFFICIENTS
from polysilicon.cost.llm.work import Split
from polysilicon.errors import InputError

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
DEEPSEEK = CATALOG.models["deepseek-r1"]
H100 = CATALOG.processor("NVIDIA H100 SXM5 80GB")
ALONE = Split(gpus=1, weight_bytes=2.0, rest_bytes=2.0, usable_bytes=1e12)
SPREAD = replace(ALONE, gpus=8, ranks=8, experts=8)


def prior(coefficient, tag="", mean=0.0, sd=1.0):
    return Prior(coefficient=coefficient, tag=tag, mean=mean, sd=sd, why="a test")


def test_the_priors_that_come_with_it_name_coefficients_and_say_why():
    priors = read_priors(data_folder("polysilicon.cost") / "accelerator_priors.csv")
    assert {p.coefficient for p in priors} == set(COEFFICIENTS)
    assert {p.coefficient for p in priors if not p.tag} == set(COEFFICIENTS)
    assert all(p.sd > 0 and p.why for p in priors)


def test_a_prior_that_is_no_number_is_told_with_its_place(tmp_path):
    file = tmp_path / "priors.csv"
    file.write_text("coefficient,tag,mean,sd,why\ncompute,,x,1,guess\n", "utf-8")
    with pytest.raises(InputError, match=r"priors\.csv, row 2, mean"):
        read_priors(file)


def test_names_and_traits_of_a_dense_model_on_one_gpu():
    tags = tags_of(LLAMA, H100, "vllm", "fp16", ALONE)
    assert tags == {
        "engine:vllm": 1.0,
        "precision:bf16": 1.0,  # the same arithmetic
        "processor:NVIDIA H100 SXM5 80GB": 1.0,
        "family:CUDA": 1.0,
        "peak": pytest.approx(np.log(989 / 1000), abs=0.002),
    }


def test_traits_of_a_mixture_with_latent_attention_over_ranks():
    tags = tags_of(DEEPSEEK, H100, "sglang", "fp8", SPREAD)
    assert {"mixture", "latent", "ranks", "experts"} <= tags.keys()
    assert not {"linear", "indexed", "asic"} & tags.keys()
    assert tags["peak"] == pytest.approx(np.log(1979 / 1000), abs=0.002)
    assert "indexed" in tags_of(CATALOG.models["deepseek-v3.2"], H100, "vllm", "fp8", ALONE)
    tpu = CATALOG.processor("Google TPU v6e (Trillium)")
    assert tags_of(LLAMA, tpu, "vllm", "bf16", ALONE)["asic"] == 1.0


def test_a_chip_without_a_peak_counts_as_one_of_a_petaflop():
    blank = replace(H100, bf16_tflops=None, fp16_tflops=None, fp8_tflops=None)
    assert tags_of(LLAMA, blank, "vllm", "bf16", ALONE)["peak"] == 0.0


@pytest.mark.parametrize(
    ("chip", "family"),
    [
        ("NVIDIA H100 SXM5 80GB", "CUDA"),
        ("AMD Instinct MI300X", "CDNA"),
        ("AMD Instinct MI250", "CDNA"),
        ("AWS Trainium1", "NeuronCore-v2"),
        ("AWS Trainium2", "NeuronCore-v3"),
        ("Google TPU v5e", "TensorCore"),
    ],
)
def test_families_of_cores(chip, family):
    assert family_of_cores(CATALOG.processor(chip)) == family


def test_a_chip_whose_cores_have_no_name_goes_by_its_maker():
    assert family_of_cores(replace(H100, isa=None)) == "NVIDIA"


def test_every_name_gets_a_value_and_the_later_prior_holds():
    priors = [
        prior("compute", mean=-0.7),
        prior("compute", "engine:", sd=0.2),
        prior("compute", "engine:vllm", mean=0.1, sd=0.03),
        prior("layer_s", "mixture", mean=0.4),
    ]
    rows = [{"engine:vllm": 1.0, "mixture": 1.0}, {"engine:sglang": 1.0, "peak": 0.5}]
    slots = Slots(priors, rows)
    assert set(slots.index) == {
        ("compute", ""),
        ("compute", "engine:vllm"),
        ("compute", "engine:sglang"),
        ("layer_s", "mixture"),
    }
    at = slots.index["compute", "engine:vllm"]
    assert (slots.means[at], slots.sds[at]) == (0.1, 0.03)
    at = slots.index["compute", "engine:sglang"]
    assert (slots.means[at], slots.sds[at]) == (0.0, 0.2)


def test_the_design_says_how_much_of_each_value_a_row_has():
    priors = [prior("compute"), prior("compute", "peak"), prior("memory")]
    slots = Slots(priors, [])
    design = slots.design([{"peak": 0.5}, {}])
    assert design["compute"].tolist() == [[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]]
    assert design["memory"].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    assert not design["queue"].any()


def test_coefficients_multiply_and_unknown_names_change_nothing():
    values = {("compute", ""): -0.5, ("compute", "engine:vllm"): 0.2, ("compute", "peak"): -0.3}
    found = coefficients(values, {"engine:vllm": 1.0, "peak": 2.0, "engine:new": 1.0})
    assert found["compute"] == pytest.approx(np.exp(-0.5 + 0.2 - 0.6))
    assert found["queue"] == 1.0
    assert set(found) == set(COEFFICIENTS)
    slots = Slots([prior(name, tag) for name, tag in values], [])
    design = slots.design([{"engine:vllm": 1.0, "peak": 2.0}])
    direct = np.exp(design["compute"] @ np.array([values[key] for key in slots.index]))
    assert direct == pytest.approx(found["compute"])


def test_no_chip_computes_more_of_its_data_sheet_than_large_products_reach():
    values = {("compute", ""): -0.3, ("compute", "peak"): -0.3, ("memory", ""): 0.1}
    slow, fast = (coefficients(values, {"peak": peak}) for peak in (-2.0, 1.0))
    assert slow["compute"] == 0.8 == AT_MOST["compute"]
    assert fast["compute"] == pytest.approx(np.exp(-0.6))
    # Bytes are counted more roughly, so what reads them may seem faster.
    assert slow["memory"] > 1.0


def test_the_laws_that_come_with_it_keep_to_the_data_sheets():
    for chip in CATALOG.processors.values():
        tags = tags_of(LLAMA, chip, "vllm", "bf16", ALONE)
        assert 0 < coefficients(shipped_fit().values, tags)["compute"] <= 0.8
