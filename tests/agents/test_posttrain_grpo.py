"""The objective and the tree of prefixes against closed forms; no PyTorch is needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon.agents.posttrain import grpo
from polysilicon.agents.posttrain.prefixes import tree_of
from polysilicon.agents.posttrain.tokens import Sequence_

MEMBERS = [np.array([0, 1]), np.array([0, 2, 3]), np.array([4])]


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=16))
def test_advantages_are_deviations_from_the_group(rewards: list[float]) -> None:
    gains = grpo.advantages(rewards)
    assert gains.sum() == pytest.approx(0.0, abs=1e-9)
    if len(set(rewards)) == 1:
        assert not gains.any()
    else:
        assert (gains**2).mean() == pytest.approx(1.0)
        assert np.array_equal(np.argsort(gains, kind="stable"), np.argsort(rewards, kind="stable"))


def test_where_it_was_sampled_the_objective_is_the_mean_advantage_and_its_slope_is_known() -> None:
    now = np.log(np.array([0.5, 0.2, 0.9, 0.1, 0.3]))
    gains = [1.0, -0.5, -0.5]
    value, slope = grpo.loss(now, now, now, MEMBERS, gains, clip=0.2, beta=0.04)
    # Each ratio is 1 and nothing is away from the base: J is the mean of the advantages, zero.
    assert value == pytest.approx(0.0)
    expected = [-(1 / 2 - 0.5 / 3) / 3, -1 / 6, 0.5 / 9, 0.5 / 9, 0.5 / 3]
    assert slope == pytest.approx(expected)


def test_the_slope_is_that_of_the_value_and_ends_where_the_ratio_is_clipped() -> None:
    rng = np.random.default_rng(1)
    now, sampled, base = (np.log(rng.uniform(0.05, 0.95, 5)) for _ in range(3))
    gains = [0.7, -1.3, 0.6]

    def value(at: np.ndarray) -> float:
        return grpo.loss(at, sampled, base, MEMBERS, gains, clip=0.2, beta=0.1)[0]

    _, slope = grpo.loss(now, sampled, base, MEMBERS, gains, clip=0.2, beta=0.1)
    step = 1e-6
    moved = [(value(now + step * e) - value(now - step * e)) / (2 * step) for e in np.eye(5)]
    assert slope == pytest.approx(moved, abs=1e-6)
    # Moved up beyond the clip a good answer pulls no more, and a bad one still pushes; no base.
    far = sampled + np.log(1.5)
    _, slope = grpo.loss(far, sampled, far, [np.array([0]), np.array([1])], [1.0, -1.0],
                         clip=0.2, beta=0.0)  # fmt: skip
    assert slope[0] == 0.0
    assert slope[1] == pytest.approx(1.5 / 2)


def test_the_divergence_is_never_negative_and_on_the_mean_that_of_kullback_and_leibler() -> None:
    p, b = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.5, 0.3])
    costs = [
        grpo.loss(np.log(p), np.log(p), np.log(b), [np.array([n])], [0.0], clip=0.2, beta=1.0)[0]
        for n in range(3)
    ]
    assert min(costs) >= 0.0
    assert p @ costs == pytest.approx(p @ np.log(p / b))


@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=6), min_size=1, max_size=6))
def test_a_tree_has_each_prefix_once_and_nobody_sees_a_stranger(texts: list[list[int]]) -> None:
    rows = [Sequence_(tokens=np.array(text, dtype=np.int32), begin=1) for text in texts]
    tree = tree_of(rows)
    prefixes = {tuple(text[: n + 1]) for text in texts for n in range(len(text))}
    assert len(tree.tokens) == len(prefixes)
    assert tree.sees.sum(axis=1).tolist() == (tree.positions + 1).tolist()
    for text, members in zip(texts, tree.members, strict=True):
        nodes = tree.counted[members]
        assert tree.tokens[nodes].tolist() == text[1:]
        seen = np.flatnonzero(tree.sees[nodes[-1]])
        assert tree.tokens[seen].tolist() == text
        assert tree.positions[seen].tolist() == list(range(len(text)))
        parents = tree.parents[members]
        assert tree.tokens[parents].tolist() == text[:-1]
