"""Group-relative policy optimisation: the objective, for one group of answers to one problem.

With rewards r of a group, p the policy that learns, q that which sampled, b the base, answer i of
|o_i| tokens and t one of them:
    A_i = (r_i - mean(r)) / deviation(r)
    ratio_it = p_it / q_it
    D_it = b_it/p_it - log(b_it/p_it) - 1
    J = 1/G·Σ_i 1/|o_i|·Σ_t { min(ratio_it·A_i, clip(ratio_it, 1 - e, 1 + e)·A_i) - beta·D_it }
D is never negative, and its mean over answers of p is the Kullback-Leibler divergence. All
probabilities are at the temperature of sampling.

Source: Z. Shao et al., "DeepSeekMath", arXiv 2402.03300, equations 3 and 4; that groups in which
nobody or everybody was right are passed over: Q. Yu et al., "DAPO", arXiv 2503.14476, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def advantages(rewards: Sequence[float]) -> Numbers:
    """Return how much better than its group each answer was, in deviations of the group.

    They sum to zero. Of a group whose rewards are all equal, each is zero.
    """
    given = np.array(rewards, dtype=np.float64)
    apart = given - given.mean()
    deviation = float(given.std())
    return apart / deviation if deviation > 0.0 else np.zeros_like(apart)


def loss(
    now: Numbers,
    sampled: Numbers,
    base: Numbers,
    members: Sequence[npt.NDArray[np.int64]],
    gains: Sequence[float],
    *,
    clip: float,
    beta: float,
) -> tuple[float, Numbers]:
    """Return -J of one group, and its slope by each log-probability of the policy that learns.

    Args:
        now: log-probability of each token by the policy that learns, shape (m,).
        sampled: by that which sampled, shape (m,).
        base: by the base, shape (m,).
        members: the tokens of each answer, as places in the three.
        gains: advantage of each answer.
        clip: e.
        beta: weight of the divergence from the base.
    """
    away = base - now
    divergence, divergence_slope = np.expm1(away) - away, -np.expm1(away)
    ratio = np.exp(now - sampled)
    clipped = ratio.clip(1.0 - clip, 1.0 + clip)
    total, slope = 0.0, np.zeros_like(now)
    for tokens, gain in zip(members, gains, strict=True):
        free, held = ratio[tokens] * gain, clipped[tokens] * gain
        total += float((np.minimum(free, held) - beta * divergence[tokens]).mean())
        # Where the clipped one is the smaller, it no longer depends on the policy.
        rises = np.where(free <= held, free, 0.0) - beta * divergence_slope[tokens]
        np.add.at(slope, tokens, rises / len(tokens))
    return -total / len(members), -slope / len(members)
