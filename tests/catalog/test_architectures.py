from __future__ import annotations

import pytest

from polysilicon import catalog
from polysilicon.catalog.models import plain_name
from polysilicon.errors import InputError

MODELS = sorted(catalog.load().models)


@pytest.mark.parametrize("name", MODELS)
def test_shapes_add_up_to_the_parameters(name):
    m = catalog.load().models[name]
    attention = 2 * m.hidden * m.heads * m.head_dim + 2 * m.hidden * m.kv_heads * m.head_dim
    experts = m.experts or 1
    expert = 3 * m.hidden * m.feed_forward
    router = m.hidden * (m.experts or 0)
    embeddings = m.vocabulary * m.hidden * (1 if m.tied_embeddings else 2)
    block = attention + experts * expert + router + 2 * m.hidden
    assert embeddings + m.layers * block + m.hidden == pytest.approx(m.parameters, rel=0.002)
    idle = m.layers * expert * (experts - (m.experts_per_token or 1))
    assert m.active_parameters == m.parameters - idle


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"),
        ("/models/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct"),
        ("Llama-3.3-70B-Instruct-Q4_K_M.gguf", "llama-3.3-70b-instruct"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("qwen1_5-f16.gguf", "qwen1_5"),
        ("phi-4", "phi-4"),
    ],
)
def test_names_of_files_and_makers_lead_to_the_model(written, name):
    assert plain_name(written) == name


def test_lookup_of_models():
    known = catalog.load()
    assert known.model("HuggingFaceTB/SmolLM2-135M-Instruct").layers == 30
    with pytest.raises(InputError, match="did you mean smollm2-135m-instruct"):
        known.model("smollm2-135m-instrct")


def test_same_shapes():
    models = catalog.load().models
    assert models["smollm-135m"].same_shapes(models["smollm2-135m-instruct"])
    assert not models["smollm2-360m-instruct"].same_shapes(models["smollm2-135m-instruct"])


def test_cache_bytes():
    llama = catalog.load().models["llama-3.1-8b-instruct"]
    assert llama.kv_bytes_per_token() == 2 * 32 * 8 * 128 * 2


def test_precisions():
    precisions = catalog.load().precisions
    assert precisions["bf16"] == 2
    assert 0.5 < precisions["q4_k_m"] < 0.7


def test_rates_are_of_offers_and_models_that_are_there():
    known = catalog.load()
    assert len(known.rates) > 300
    names = {o.name for o in known.offers}
    for offer, rates in known.rates.items():
        assert offer in names
        assert all(rate.model in known.models for rate in rates)


def test_no_accelerator_rate_is_of_the_hosts_cpu():
    # The hosts of these chips ran the benchmark on their CPUs, so nothing of theirs may be here.
    known = catalog.load()
    for offer in known.rates:
        kind = known.offers_named(offer)[0].kind
        assert kind in ("cpu", "gpu"), offer
