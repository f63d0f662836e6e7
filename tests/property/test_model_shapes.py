from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon import catalog

MODELS = sorted(catalog.load().models)
names = st.sampled_from(MODELS)
tokens = st.floats(1.0, 1e6)


@given(names, tokens, tokens)
def test_more_tokens_touch_no_fewer_parameters_and_never_more_than_there_are(name, one, other):
    model = catalog.load().models[name]
    few, many = sorted((one, other))
    read = [model.touched_parameters(few), model.touched_parameters(many)]
    assert read[0] <= read[1] <= model.parameters
    assert model.touched_parameters(few + many) <= read[0] + read[1]


@given(names, tokens, tokens)
def test_cache_grows_with_context_and_no_faster_than_without_windows(name, one, other):
    model = catalog.load().models[name]
    short, long = sorted((one, other))
    grown = model.kv_bytes(long) - model.kv_bytes(short)
    assert grown >= 0
    assert grown <= (long - short) * model.kv_bytes_per_token() * (1 + 1e-9) + 1e-3
    assert 0 <= model.kv_read_bytes(long) <= model.kv_bytes(long)


@given(names, tokens, tokens, tokens)
def test_operations_add_up_over_tokens(name, new, more, context):
    model = catalog.load().models[name]
    apart = model.attention_flops(new, context) + model.attention_flops(more, context)
    assert model.attention_flops(new + more, context) == pytest.approx(apart, rel=1e-9)
    assert model.attention_flops(new, context, latent=True) >= 0


@given(st.integers(0, 2**32 - 1))
def test_experts_touched_are_the_mean_of_independent_picks(seed):
    # 400 draws of 3 tokens that pick 8 of 128 experts each.
    model = catalog.load().models["qwen3-30b-a3b"]
    rng = np.random.default_rng(seed)
    picks = rng.random((400, 3, 128)).argpartition(8, axis=2)[:, :, :8].reshape(400, 24)
    mean = np.mean([len(np.unique(draw)) for draw in picks])
    assert model.touched_experts(3.0) == pytest.approx(mean, rel=0.03)
