from __future__ import annotations

import pytest

from polysilicon import catalog
from polysilicon.catalog.aliases import read_aliases
from polysilicon.errors import InputError

HEADER = "kind,alias,name,source,date\n"


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("h100_sxm", "NVIDIA H100 SXM5 80GB"),
        ("b200_sxm", "NVIDIA B200"),
        ("nvidia  h100 80gb HBM3", "NVIDIA H100 SXM5 80GB"),
        ("AWS Graviton4", "AWS Graviton4"),
        ("Cobalt 100", "Azure Cobalt 100"),
        ("Tesla T4", "NVIDIA T4"),
    ],
)
def test_processors(told, name):
    assert catalog.load().processor(told).name == name


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1"),
        ("Qwen/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b"),
        ("qwen1_5-0_5b-chat-q4_k_m.gguf", "qwen1.5-0.5b-chat"),
        ("SmolLM-135M.Q4_K_M.gguf", "smollm-135m"),
        ("phi-4-q4.gguf", "phi-4"),
        ("unsloth/Llama-3.3-70B-Instruct-bnb-4bit", "llama-3.3-70b-instruct"),
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("Qwen3.5-397B", "qwen3.5-397b-a17b"),
        ("llama-3.1-8b-instruct", "llama-3.1-8b-instruct"),
    ],
)
def test_models(told, name):
    assert catalog.load().model(told).name == name


def test_precisions():
    known = catalog.load()
    told = ("bfloat16", "float16", "Q4_K_M", "Q4", "fp8", "NVFP4")
    assert [known.precision(name) for name in told] == [
        "bf16", "fp16", "q4_k_m", "q4_k_m", "fp8", "fp4",
    ]  # fmt: skip


def test_unknown_names_have_near_ones():
    known = catalog.load()
    with pytest.raises(InputError, match="did you mean NVIDIA H100"):
        known.processor("NVIDIA H100 SXM6 80GB")
    with pytest.raises(InputError, match="unknown model 'some/where'"):
        known.model("some/where")
    with pytest.raises(InputError, match="unknown precision 'fp9'; did you mean fp"):
        known.precision("fp9")


def test_every_alias_leads_to_something_that_is_there():
    known = catalog.load()
    aliases = known.aliases
    assert set(aliases.processor.values()) <= set(known.processors)
    assert set(aliases.model.values()) <= set(known.models)
    assert set(aliases.precision.values()) <= set(known.precisions)
    for kind, names in (("processor", known.processors), ("precision", known.precisions)):
        own = {name.casefold() for name in names}
        assert not own & set(getattr(aliases, kind)), "an alias hides a name"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("chip,h100,NVIDIA B200,x,2026\n", "unknown kind 'chip'"),
        ("model,a,b,x,2026\nmodel,A,c,x,2026\n", "row 3: 'A' is told twice"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, lines, words):
    path = tmp_path / "aliases.csv"
    path.write_text(HEADER + lines, "utf-8")
    with pytest.raises(InputError, match=words):
        read_aliases(path)
