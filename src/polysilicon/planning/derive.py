"""Problems that follow from others: some of the scenarios, or their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from polysilicon.planning.problem import (
    PATHS,
    Contract,
    Numbers,
    Option,
    Path,
    Problem,
    UnitContract,
)


def only(problem: Problem, scenarios: Sequence[int]) -> Problem:
    """Return the problem with some of its scenarios, their probabilities scaled to 1.

    All paths are cut with them.
    """
    chosen = list(scenarios)
    probability = problem.probability[chosen]
    names = tuple(problem.scenarios[at] for at in chosen)
    return _mapped(problem, names, probability / probability.sum(), lambda array: array[chosen])


def mean_of(problem: Problem) -> Problem:
    """Return the problem with one scenario: the mean of all, of demand and of all paths."""
    weight = problem.probability

    def mean(array: Numbers) -> Numbers:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.tensordot(weight, array, axes=1))[None]

    return _mapped(problem, ("mean",), np.ones(1), mean)


def _mapped(
    problem: Problem,
    names: tuple[str, ...],
    probability: Numbers,
    change: Callable[[Numbers], Numbers],
) -> Problem:
    """Return the problem with other scenarios, `change` applied to all that has them."""

    def cut(value: Path) -> Path:
        array = np.asarray(value, dtype=np.float64)
        return change(array) if array.ndim == 2 and array.shape[0] > 1 else value

    def option(one: Option) -> Option:
        return msgspec.structs.replace(one, **{name: cut(getattr(one, name)) for name in PATHS})

    def contract(one: Contract) -> Contract:
        if isinstance(one, UnitContract):
            return one
        return msgspec.structs.replace(one, rate_usd_per_h=tuple(map(cut, one.rate_usd_per_h)))

    return msgspec.structs.replace(
        problem,
        scenarios=names,
        probability=probability,
        demand=change(problem.demand),
        options=tuple(map(option, problem.options)),
        contracts=tuple(map(contract, problem.contracts)),
    )
