from __future__ import annotations

import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.models import plain_name
from polysilicon.errors import InputError

MODELS = sorted(catalog.load().models)


def weights_of_layer(m):
    """Parameters of one attention layer, by its shapes."""
    if m.kv_latent is None:
        queries = m.hidden * m.heads * m.head_dim * (2 if m.output_gate else 1)
        return queries + 2 * m.hidden * m.kv_heads * m.head_dim + m.heads * m.head_dim * m.hidden
    no_rope = m.head_dim - m.rope_dim
    queries = m.hidden * m.q_latent + m.q_latent * m.heads * m.head_dim
    keys = m.hidden * (m.kv_latent + m.rope_dim) + m.kv_latent * m.heads * (no_rope + m.value_dim)
    index = m.index_heads * (m.q_latent * m.index_dim + m.hidden) + m.hidden * m.index_dim
    return queries + keys + m.heads * m.value_dim * m.hidden + index


def weights_of_linear_layer(m):
    keys = m.linear_key_heads * m.linear_head_dim
    values = m.linear_value_heads * m.linear_head_dim
    projections = m.hidden * (2 * keys + 2 * values + 2 * m.linear_value_heads)
    return projections + (2 * keys + values) * m.linear_conv + values * m.hidden


def weights_by_shapes(m):
    matrices = 3 if m.gated else 2
    attention = (m.layers - m.linear_layers) * weights_of_layer(m)
    attention += m.linear_layers * weights_of_linear_layer(m)
    dense_width = m.dense_feed_forward if m.moe_layers else m.feed_forward
    dense = m.dense_layers * matrices * m.hidden * dense_width
    shared = m.moe_layers * (matrices * m.hidden * m.shared_feed_forward)
    routers = m.moe_layers * m.hidden * (m.experts or 0)
    embeddings = m.vocabulary * m.hidden * (1 if m.tied_embeddings else 2)
    return attention + dense + shared + routers + m.routed_parameters + embeddings


@pytest.mark.parametrize("name", MODELS)
def test_shapes_add_up_to_the_parameters(name):
    m = catalog.load().models[name]
    assert weights_by_shapes(m) == pytest.approx(m.parameters, rel=0.002)
    idle = m.moe_layers * m.expert_parameters * ((m.experts or 0) - (m.experts_per_token or 0))
    assert m.active_parameters == m.parameters - idle


# Billions of all and of active parameters as the makers state them, with the digits they give.
# Source: model cards on Hugging Face; for gpt-oss arXiv 2508.10925, table 1; for DeepSeek arXiv
# 2412.19437, section 1; for Kimi K2, whose shapes Kimi K2.5 has, arXiv 2507.20534, table 2.
PUBLISHED = {
    "deepseek-v3": ("671", "37"),
    "deepseek-r1": ("671", "37"),
    "glm-5": ("744", "40"),
    "gpt-oss-120b": ("116.83", "5.13"),
    "gpt-oss-20b": ("20.91", "3.61"),
    "kimi-k2.5": ("1040", "32.6"),
    "llama-3.1-405b": ("405", "405"),
    "llama-4-maverick-17b-128e-instruct": ("400", "17"),
    "llama-4-scout-17b-16e-instruct": ("109", "17"),
    "minimax-m2.5": ("230", "10"),
    "mixtral-8x22b-v0.1": ("141", "39"),
    "mixtral-8x7b-v0.1": ("46.7", "12.9"),
    "qwen3-235b-a22b": ("235", "22"),
    "qwen3-30b-a3b": ("30.5", "3.3"),
    "qwen3-coder-480b-a35b-instruct": ("480", "35"),
    "qwen3.5-397b-a17b": ("397", "17"),
    "falcon-7b": ("7", "7"),
    "gemma-3-27b-it": ("27", "27"),
    "gemma-7b": ("8.54", "8.54"),
    "gpt-j-6b": ("6.05", "6.05"),
    "bloom-7b1": ("7.069", "7.069"),
    "llama-2-70b": ("69", "69"),
    "llama-3.2-1b": ("1.23", "1.23"),
    "llama-3.2-3b": ("3.21", "3.21"),
    "mistral-7b-v0.1": ("7.24", "7.24"),
    "phi-2": ("2.78", "2.78"),
    "phi-3-mini-4k-instruct": ("3.82", "3.82"),
    "qwen2-72b": ("72.71", "72.71"),
    "qwen2.5-72b-instruct": ("72.7", "72.7"),
    "qwen3-0.6b": ("0.6", "0.6"),
    "qwen3-32b": ("32.8", "32.8"),
}


def half_a_digit(figure):
    return 0.5 * 10.0 ** -len(figure.partition(".")[2])


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_the_makers_publish(name):
    m = catalog.load().models[name]
    everything, active = PUBLISHED[name]
    all_b = m.parameters / 1e9
    assert abs(all_b - float(everything)) <= max(0.02 * all_b, half_a_digit(everything))
    # Makers count both embeddings among the active parameters, or one, or none.
    embedding = 0 if m.tied_embeddings else m.vocabulary * m.hidden
    counts = [m.active_parameters / 1e9, (m.active_parameters - embedding) / 1e9]
    counts.append((m.active_parameters - 2 * embedding) / 1e9)
    allowed = max(0.02 * float(active), half_a_digit(active))
    assert min(abs(count - float(active)) for count in counts) <= allowed


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
    assert llama.kv_bytes(1000.0) == 1000 * llama.kv_bytes_per_token()
    assert llama.kv_bytes(1000.0, 1.0) == 500 * llama.kv_bytes_per_token()
    assert llama.kv_read_bytes(1000.0) == llama.kv_bytes(1000.0)


def test_latents_are_all_that_latent_attention_caches():
    deepseek = catalog.load().models["deepseek-r1"]
    assert deepseek.cached_values == 576
    assert deepseek.kv_bytes(10.0) == 10 * 61 * 576 * 2
    assert deepseek.kv_bytes_per_token() == 61 * 576 * 2


def test_windows_stop_growing():
    oss = catalog.load().models["gpt-oss-120b"]
    layer = 2 * 8 * 64 * 2
    assert oss.kv_bytes(100.0) == 100 * 36 * layer
    assert oss.kv_bytes(1000.0) == (18 * 1000 + 18 * 128) * layer
    mistral = catalog.load().models["mistral-7b-v0.1"]
    assert mistral.kv_bytes(9000.0) == mistral.kv_bytes(4096.0)


def test_states_of_linear_attention_are_constant():
    qwen = catalog.load().models["qwen3.5-397b-a17b"]
    state = 64 * 128 * 128 * 4 + 3 * (2 * 16 + 64) * 128 * 2
    assert qwen.kv_bytes(0.0) == 45 * state
    assert qwen.kv_bytes(500.0) - qwen.kv_bytes(0.0) == 500 * 15 * 2 * 2 * 256 * 2
    assert qwen.full_layers == 15


def test_an_index_limits_what_is_read_but_not_what_is_held():
    glm = catalog.load().models["glm-5"]
    held = 10_000 * 78 * (576 * 2 + 132)
    assert glm.kv_bytes(10_000.0) == pytest.approx(held)
    assert glm.kv_read_bytes(10_000.0) == pytest.approx(held - (10_000 - 2048) * 78 * 576 * 2)
    assert glm.kv_read_bytes(2000.0) == glm.kv_bytes(2000.0)


def test_experts_that_tokens_touch():
    mixtral = catalog.load().models["mixtral-8x7b-v0.1"]
    embedding = mixtral.vocabulary * mixtral.hidden
    assert mixtral.touched_experts(1.0) == pytest.approx(2)
    assert mixtral.touched_experts(2.0) == pytest.approx(2 + 2 * 6 / 8)
    assert mixtral.touched_parameters(1.0) == pytest.approx(mixtral.active_parameters - embedding)
    assert mixtral.touched_parameters(1e4) == pytest.approx(mixtral.parameters - embedding)
    llama = catalog.load().models["llama-3.1-8b"]
    assert llama.touched_experts(7.0) == 0
    assert llama.touched_parameters(7.0) == llama.parameters - llama.vocabulary * llama.hidden
    tied = catalog.load().models["smollm-135m"]
    assert tied.touched_parameters(1.0) == tied.parameters


def test_layers_with_and_without_experts():
    models = catalog.load().models
    assert (models["deepseek-r1"].moe_layers, models["deepseek-r1"].dense_layers) == (58, 3)
    assert models["deepseek-r1"].expert_parameters == 3 * 7168 * 2048
    assert models["llama-3.1-8b"].dense_layers == 32
    assert models["llama-3.1-8b"].expert_parameters == 0
    assert models["llama-3.1-8b"].routed_parameters == 0


def test_operations_of_attention():
    models = catalog.load().models
    assert models["llama-3.1-8b"].attention_flops(3.0, 500.0) == 3 * 500 * 4 * 32 * 32 * 128
    deepseek = models["deepseek-r1"]
    assert deepseek.attention_flops(1.0, 10.0) == 10 * 61 * 2 * 128 * (192 + 128)
    assert deepseek.attention_flops(1.0, 10.0, latent=True) == 10 * 61 * 2 * 128 * (576 + 512)
    oss = models["gpt-oss-120b"]
    assert oss.attention_flops(1.0, 1000.0) == 4 * 64 * 64 * (18 * 1000 + 18 * 128)
    qwen = models["qwen3.5-397b-a17b"]
    assert qwen.attention_flops(2.0, 0.0) == 2 * 45 * 6 * 64 * 128 * 128
    glm = models["glm-5"]
    index = 78 * 2 * 32 * 128
    picked = 78 * 2 * 64 * (256 + 256)
    assert glm.attention_flops(1.0, 5000.0) == 5000 * index + 2048 * picked


@pytest.mark.parametrize("name", MODELS)
def test_arrays_give_what_numbers_give(name):
    m = catalog.load().models[name]
    counts = np.array([1.0, 100.0, 3000.0, 90_000.0])
    for of in (m.kv_bytes, m.kv_read_bytes, m.touched_experts, m.touched_parameters):
        assert of(counts) == pytest.approx([of(float(n)) for n in counts], rel=1e-12)
        assert np.all(np.diff(of(counts)) >= 0)
    flops = m.attention_flops(counts, counts / 2)
    one_by_one = [m.attention_flops(float(n), float(n) / 2) for n in counts]
    assert flops == pytest.approx(one_by_one, rel=1e-12)
    assert m.touched_parameters(counts)[-1] <= m.parameters
    assert np.all(m.kv_read_bytes(counts) <= m.kv_bytes(counts))


def test_precisions():
    precisions = catalog.load().precisions
    assert precisions["bf16"] == 2
    assert 0.5 < precisions["q4_k_m"] < 0.7


def test_rates_are_of_models_that_are_there():
    known = catalog.load()
    assert len(known.rates) > 300
    assert sum(bool(known.offers_named(offer)) for offer in known.rates) > 300
    for rates in known.rates.values():
        assert all(rate.model in known.models for rate in rates)


def test_no_accelerator_rate_is_of_the_hosts_cpu():
    # The hosts of many chips ran the benchmark on their CPUs; those are rates of CPUs or left out.
    known = catalog.load()
    for name, rates in known.rates.items():
        offers = known.offers_named(name)
        if offers:
            devices = {rate.device for rate in rates}
            assert devices == {"cpu" if offers[0].kind == "cpu" else "accelerator"}, name
            assert offers[0].kind in ("cpu", "gpu"), name
