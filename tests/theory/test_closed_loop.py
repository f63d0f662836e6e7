"""The closed form of steps like each other, against the same steps played one by one."""

from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import LocalLaw, rates_of
from profiles import llm_profile

ROUNDS = 10


def closed_loop(count: int, new: float, output: float, rng: np.random.Generator):
    """Mean time to the first token and mean service of lines of steps without pauses."""
    rates = rates_of(llm_profile())
    starts = [(float(begin_s), line) for line, begin_s in enumerate(rng.uniform(0, 1, count))]
    open_steps = dict.fromkeys(range(count), 0)
    while len(starts) < ROUNDS * count:
        flat = np.array([begin_s for begin_s, _ in starts])
        found = played(rates, flat, new, output)
        last = {line: n for n, (_, line) in enumerate(starts)}
        # Nothing that begins later can move the earliest end.
        line = min(open_steps, key=lambda one: found.end_s[last[one]])
        starts.append((float(found.end_s[last[line]]), line))
    flat = np.array([begin_s for begin_s, _ in starts])
    found = played(rates, flat, new, output)
    # The first steps begin by chance and the last ones have no followers beside them.
    middle = np.argsort(flat)[2 * count : -2 * count]
    return (found.first_token_s - flat)[middle].mean(), (found.end_s - flat)[middle].mean()


def played(rates, start_s, new, output):
    one = np.ones_like(start_s)
    given = EngineSteps(start_s=start_s, new=new * one, cached=0 * one, output=output * one)
    return play(given, Engine(rates=rates, slots=8, batch_tokens=2048))


@pytest.mark.parametrize(
    ("count", "new", "output"),
    [(1, 200, 30), (2, 20, 60), (2, 150, 30), (4, 150, 40), (8, 40, 100)],
)
def test_the_closed_form_is_near_what_is_played(count, new, output):
    law = LocalLaw(llm_profile(), count)
    found = law.seconds(np.array([new * 1.0]), np.zeros(1), np.array([output * 1.0]))
    said_s = float(found.ttft_s[0] + (output - 1) * found.tpot_s[0])
    first_s, true_s = closed_loop(count, new, output, np.random.default_rng(1))
    assert said_s == pytest.approx(true_s, rel=0.06)
    assert float(found.ttft_s[0]) == pytest.approx(first_s, rel=0.45)
