"""The fit of the serving law of accelerators: robust regression in log space, stage by stage."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from polysilicon.cost.fit.cases import Case, rows_of, together
from polysilicon.cost.fit.kernel import fit_terms
from polysilicon.cost.llm.coefficients import Prior, Slots, Values, coefficients
from polysilicon.cost.llm.fitted import METRICS, Fit, Kernel, Known
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.residuals import Rows, blocks, steady_noise
from polysilicon.cost.llm.serving import COEFFICIENTS, Served, serve

# Log errors beyond which a row pulls no harder; the wider ones are of sums and of queues.
SCALES = {"ttft_s": 0.3, "tpot_s": 0.1, "cycle_s": 0.15, "batch_s": 0.3}
# A value that is one standard deviation off its prior weighs as much as so many rows one scale off.
PRIOR_ROWS = 4.0
# Of static batches, which are many and much alike, one in so many is enough for a few values.
EVERY = 4
# How far rows of other sources may move what rows of served load have told.
STAGE_SD = 0.03


def unique(cases: Iterable[Case]) -> list[Case]:
    """Return the cases without those that list a run again under other labels."""
    seen: dict[Hashable, Case] = {}
    for case in cases:
        seen.setdefault((case.truth, case.chip.name, case.engine, case.new, case.output), case)
    return list(seen.values())


class Problem:
    """The regression of the law's coefficients on some cases.

    Args:
        cases: measured rows.
        priors: what is expected of the coefficients.
    """

    def __init__(self, cases: Sequence[Case], priors: Sequence[Prior]) -> None:
        self.work = together([case.work() for case in cases])
        self._tags = [case.tags for case in cases]
        self.slots = Slots(priors, self._tags)
        self._design = self.slots.design(self._tags)
        self._truth = {
            metric: np.array([np.nan if (v := getattr(c, metric)) is None else v for c in cases])
            for metric in SCALES
        }

    def served(self, values: Numbers) -> Served:
        """Return what the law says under some logarithms of coefficients."""
        return serve(self.work, {name: np.exp(m @ values) for name, m in self._design.items()})

    def errors(self, values: Numbers) -> dict[str, Numbers]:
        """Return log residuals, truth over law; not a number where nothing was measured."""
        return self._errors(self.served(values))

    def errors_of(self, values: Values) -> dict[str, Numbers]:
        """Return log residuals as `errors` does, from values by name, of the law as it is asked."""
        each = [coefficients(values, tags) for tags in self._tags]
        columns = {name: np.array([c[name] for c in each]) for name in COEFFICIENTS}
        return self._errors(serve(self.work, columns))

    def _errors(self, served: Served) -> dict[str, Numbers]:
        """Return log residuals of what the law says."""
        return {metric: np.log(self._truth[metric] / getattr(served, metric)) for metric in SCALES}

    def solve(self) -> Numbers:
        """Return the logarithms of the coefficients: least squares with soft corners."""
        means, sds = np.array(self.slots.means), np.array(self.slots.sds)

        def loss(values: Numbers) -> Numbers:
            errors = self.errors(values)
            rows = np.concatenate([errors[m][~np.isnan(errors[m])] / SCALES[m] for m in SCALES])
            # Squared, this is twice the pseudo-Huber loss; priors stay quadratic.
            rows = np.sign(rows) * np.sqrt(2.0 * (np.sqrt(1.0 + rows**2) - 1.0))
            return np.concatenate([rows, (values - means) / sds * np.sqrt(PRIOR_ROWS)])

        return np.asarray(least_squares(loss, means, max_nfev=30).x, dtype=np.float64)

    def named(self, values: Numbers) -> Values:
        """Return the logarithms by coefficient and tag."""
        return {key: float(values[slot]) for key, slot in self.slots.index.items()}


def fit_values(cases: Sequence[Case], priors: Sequence[Prior]) -> Values:
    """Return the logarithms of coefficients from cases."""
    problem = Problem(cases, priors)
    return problem.named(problem.solve())


def extend_values(values: Values, cases: Sequence[Case], priors: Sequence[Prior]) -> Values:
    """Return values with those of the names that only further cases have.

    Rows of other kinds (static batches, throughput alone) tell of other processors and engines, and
    hardly move what is known.
    """
    held = [
        Prior(coefficient=name, tag=tag, mean=value, sd=STAGE_SD, why="fitted to served load")
        for (name, tag), value in values.items()
    ]
    # What is held comes last, and so wins over what was expected.
    batches = [case for case in cases if case.batch_s is not None]
    single = [case for case in cases if case.batch_s is None]
    return {**values, **fit_values([*single, *batches[::EVERY]], [*priors, *held])}


def fit(
    served: Sequence[Case],
    priors: Sequence[Prior],
    others: Sequence[Case] = (),
    kernels: Mapping[str, Kernel] | None = None,
) -> Fit:
    """Fit the law.

    Args:
        served: rows with times to the first token and for later ones.
        priors: what is expected of the coefficients.
        others: rows of static batches and of other accelerators; they tell of names that are not
            among the served ones.
        kernels: of the residuals; fitted too where not given.
    """
    values = fit_values(served, priors)
    if others:
        values = extend_values(values, others, priors)
    cases = [*served, *others]
    errors = Problem(cases, priors).errors_of(values)
    # A static batch is mostly decoding; what is left over of it tells of the later tokens.
    batch = errors["batch_s"]
    errors["tpot_s"] = np.where(np.isnan(errors["tpot_s"]), batch, errors["tpot_s"])
    rows = rows_of(cases)
    found: dict[str, Kernel] = {}
    known: dict[str, Known] = {}
    for metric in METRICS:
        few, residuals = condensed(rows, errors[metric], ~np.isnan(batch))
        if kernels is None:
            n = len(served)
            alone = ~np.isnan(errors[metric][:n])
            terms, noise_sd = fit_terms(rows.take(np.flatnonzero(alone)), errors[metric][:n][alone])
            found[metric] = Kernel(terms=terms, noise_sd=noise_sd)
        else:
            found[metric] = kernels[metric]
        kernel = found[metric]
        noise = np.empty(len(few))
        for block in blocks(few):
            values_of, rows_of_block = residuals[block], few.take(block)
            noise[block] = steady_noise(rows_of_block, values_of, kernel.noise_sd, kernel.terms)
        known[metric] = Known(rows=few, values=residuals, noise_sd=noise)
    return Fit(values=values, kernels=found, known=known)


def condensed(rows: Rows, values: Numbers, batches: npt.NDArray[np.bool_]) -> tuple[Rows, Numbers]:
    """Return rows that have a value; of batches one for all lengths, their median."""
    single = np.flatnonzero(~np.isnan(values) & ~batches)
    there = np.flatnonzero(~np.isnan(values) & batches)
    chosen = list(single)
    kept = list(values[single])
    if len(there):
        keys = np.concatenate(
            [rows.names[there], rows.octaves[there, :2].round(3).astype(str)], axis=1
        )
        _, which = np.unique(keys, axis=0, return_inverse=True)
        for group in range(int(which.max()) + 1):
            of = there[which == group]
            # The row in the middle of the lengths stands for all.
            chosen.append(of[np.argsort(rows.octaves[of, 2])[len(of) // 2]])
            kept.append(float(np.median(values[of])))
    return rows.take(np.array(chosen)), np.array(kept)
