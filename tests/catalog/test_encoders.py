from __future__ import annotations

import pytest

from polysilicon.catalog.encoders import encoder, encoders
from polysilicon.errors import InputError


@pytest.mark.parametrize("name", sorted(encoders()))
def test_parameters_follow_from_the_shapes(name):
    """Matrices and token embeddings make up all but biases, norms and positions."""
    found = encoder(name)
    shaped = found.matrix_parameters() + found.vocabulary * found.hidden
    positions = found.max_tokens * found.hidden
    assert shaped < found.parameters < (shaped + positions) * 1.02


def test_names_are_found_in_every_form():
    assert encoder("BAAI/bge-base-en-v1.5").name == "bge-base-en-v1.5"
    assert encoder("bge-base-en-v1.5.Q8_0.gguf").name == "bge-base-en-v1.5"
    assert encoder("all-minilm-l6-v2").layers == 6


def test_an_unknown_encoder_suggests_near_ones():
    with pytest.raises(InputError, match="did you mean bge-small-en-v1.5"):
        encoder("bge-smal-en-v1.5")
