from __future__ import annotations

import numpy as np
import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.quality import (
    KERNEL_LIMIT,
    SAME_CLEAR,
    WEIGHTS_LIMIT,
    Difference,
    Reading,
    compare,
    refuse_kernels,
    refuse_weights,
)


def reading(loss: float = 3.0, count: int = 1000, seed: int = 1, **changes) -> Reading:
    rng = np.random.default_rng(seed)
    told = {
        "log_probability": (-loss + rng.normal(0, 0.5, count)).tolist(),
        "likeliest": rng.integers(0, 500, count).tolist(),
        "lead": rng.exponential(1.0, count).tolist(),
    }
    return Reading(**{**told, **changes})


def test_a_reading_is_like_itself():
    found = compare(reading(), reading())
    assert found == Difference(perplexity=0.0, error=0.0, same=1.0)
    assert refuse_kernels(found) == ""
    assert refuse_weights(found) == ""


def test_perplexity_of_equal_chances_is_how_many_there_are():
    assert reading(log_probability=[np.log(1 / 50)] * 10).perplexity == pytest.approx(50)


def test_a_constant_loss_is_a_ratio_of_perplexities_without_error():
    other = reading()
    one = reading(log_probability=[p - np.log(1.1) for p in other.log_probability])
    found = compare(one, other)
    assert found.perplexity == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0, abs=1e-9)
    assert one.perplexity / other.perplexity == pytest.approx(1.1)


def test_only_clear_next_tokens_count():
    other = reading(likeliest=[1, 2, 3, 4] * 250, lead=[2.0, 2.0, 0.1, 0.1] * 250)
    one = reading(likeliest=[1, 9, 9, 9] * 250)
    assert compare(one, other).same == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("perplexity", "same", "word"),
    [
        (KERNEL_LIMIT * 1.1, 1.0, "perplexity"),
        (-KERNEL_LIMIT * 1.1, 1.0, "perplexity"),  # better is wrong too: it is another computation
        (0.0, SAME_CLEAR - 0.01, "clear next tokens"),
    ],
)
def test_kernels_that_compute_something_else_are_refused(perplexity, same, word):
    assert word in refuse_kernels(Difference(perplexity=perplexity, error=0.0, same=same))


def test_weights_may_get_better_but_not_much_worse():
    assert refuse_weights(Difference(perplexity=-0.1, error=0.0, same=0.9)) == ""
    told = refuse_weights(Difference(perplexity=WEIGHTS_LIMIT + 0.15, error=0.0, same=0.9))
    assert told == "perplexity rises by 17.0%, allowed is 2%"


def test_readings_of_different_texts_are_not_compared():
    with pytest.raises(EngineError, match="different tokens"):
        compare(reading(count=10), reading(count=11))
