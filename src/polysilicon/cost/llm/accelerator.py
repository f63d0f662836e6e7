"""The law of LLM steps on GPUs and AI ASICs: serving law, corrected by rows like those asked."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.processors import Processor
from polysilicon.cost.constants import constants
from polysilicon.cost.llm.coefficients import coefficients, family_of_cores, tags_of
from polysilicon.cost.llm.fitted import METRICS, Fit
from polysilicon.cost.llm.law import Numbers, Passes, Seconds
from polysilicon.cost.llm.loop import BATCH_TOKENS, LARGE_BATCH_TOKENS, cycle
from polysilicon.cost.llm.residuals import Residuals, describe
from polysilicon.cost.llm.serving import Served, iteration, serve
from polysilicon.cost.llm.setting import Setting
from polysilicon.cost.llm.work import Work, sequences_that_fit, work_of
from polysilicon.cost.types import BASES, Basis
from polysilicon.errors import NoBasisError

# A normal law holds 90 of 100 truths within so many standard deviations.
NINETY = 1.6449
# Steps up to which each is corrected by itself; beyond, corrections are read off a grid.
FEW = 64
# 70 GiB.
LARGE_GB = 75.2
# The grid: octaves of new tokens and of output tokens.
GRID_NEW, GRID_OUTPUT = np.arange(0.0, 21.0), np.arange(0.0, 17.0)


class AcceleratorLaw:
    """One model on the accelerators of one offer, served in one way, at one concurrency.

    Args:
        model: its shapes.
        chip: the accelerator.
        available: accelerators of the offer.
        setting: engine, precision, split.
        concurrency: steps at once.
        fit: coefficients and residuals.

    Raises:
        NoBasisError: a fact is missing, or not even one token fits.
    """

    def __init__(
        self,
        model: ModelArchitecture,
        chip: Processor,
        available: int,
        setting: Setting,
        concurrency: float,
        fit: Fit,
    ) -> None:
        self._model, self._chip, self._setting = model, chip, setting
        self._concurrency = concurrency
        self._fit = fit
        tags = tags_of(model, chip, setting.engine, setting.precision, setting.split)
        self._coefficients = coefficients(fit.values, tags)
        # Chips of a measured family, and those with rows of their own, but for throughput alone.
        only_batches = ("compute", f"static on:{chip.name}") in fit.values
        self._served = not only_batches or chip.name in fit.known["ttft_s"].rows.names[:, 0]
        self._part = setting.split.gpus / available
        self.engine, self.precision = setting.engine, setting.precision
        self.batch_tokens = batch_tokens(chip)
        self.share = self._part / concurrency
        family = ("compute", f"family:{family_of_cores(chip)}")
        self.basis: Basis = "calibrated" if family in fit.values else "roofline"
        self.note = self._note(available)
        self.largest_tokens = self._largest_tokens()
        if self.largest_tokens < 1:
            raise NoBasisError("it does not fit: the cache of one token is larger than the memory")

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps; see `LlmLaw`.

        Raises:
            NoBasisError: a fact is missing, or a step is larger than the memory.
        """
        setting = self._setting
        work = work_of(
            self._model,
            self._chip,
            setting.split,
            setting.precision,
            self._concurrency,
            (new, cached, output),
        )
        served = serve(work, self._coefficients)
        ttft_s, ttft_low_s, ttft_high_s = self._corrected(served.ttft_s, "ttft_s", new, output)
        # What an iteration reads depends on the whole context, not on what was computed of it.
        prompt = new + cached
        tpot_s, tpot_low_s, tpot_high_s = self._corrected(served.tpot_s, "tpot_s", prompt, output)
        first, other = ttft_s / served.ttft_s, tpot_s / served.tpot_s
        # Prompts of others are corrected alike, whether they come before the first token or after.
        moved = served.prompts_s * (other - first)
        passes = self._passes(work, served, (first, other), (new, cached, output))
        ttft_s, ttft_low_s, ttft_high_s = (
            end * (1.0 + moved / ttft_s) for end in (ttft_s, ttft_low_s, ttft_high_s)
        )
        return Seconds(
            ttft_s=ttft_s,
            ttft_low_s=ttft_low_s,
            ttft_high_s=ttft_high_s,
            tpot_s=tpot_s,
            tpot_low_s=tpot_low_s,
            tpot_high_s=tpot_high_s,
            basis=self._basis(prompt, cached, output),
            # Of a step that runs, shared by all that run with it. Those that wait for memory do not
            # share the work, so a longer queue makes none cheaper.
            machine_s=cycle(work.sequences, passes, output)[0] * self._part / work.sequences,
            passes=passes,
        )

    def _passes(
        self,
        work: Work,
        served: Served,
        corrections: tuple[Numbers, Numbers],
        tokens: tuple[Numbers, Numbers, Numbers],
    ) -> Passes:
        """Return the passes that steps are made of, as they are corrected.

        Whatever prompts take, in the time to the first token and between later ones, is shared out
        among the prompts of all that run. What a step spends before it is in the engine is no pass;
        nor are, where others run, the iterations of these that its prompt waits for.

        Args:
            work: of the steps.
            served: their seconds by the law.
            corrections: factors on the time to the first token and on those for later ones.
            tokens: new, cached and output tokens.
        """
        first, other = corrections
        new, _, output = tokens
        several = work.sequences > 1.0
        no_prompts_s = served.queue_s + served.request_s + served.prompts_s
        no_prompts_s = no_prompts_s + np.where(several, served.beside_s, 0.0)
        between_s = np.maximum(output - 1.0, 0.0) * (served.tpot_s - served.iteration_s)
        prompts_s = first * (served.ttft_s - no_prompts_s) + other * (served.prompts_s + between_s)
        alone_s = served.iteration_s
        if self._concurrency > 1.0:
            how = self._setting
            one = work_of(self._model, self._chip, how.split, how.precision, 1.0, tokens)
            alone_s = np.minimum(iteration(one, self._coefficients), alone_s)
        return Passes(
            # No prompt takes less than its arithmetic.
            prompt_s=np.maximum(
                prompts_s / work.sequences, np.minimum(first, other) * served.each_s
            ),
            decode_s=other * served.iteration_s,
            alone_s=other * alone_s,
            batches=new / self.batch_tokens,
        )

    def _basis(self, prompt: Numbers, cached: Numbers, output: Numbers) -> npt.NDArray[np.int8]:
        """Return the basis of each step; measured is what stands in the rows as it is asked."""
        basis = np.full(prompt.shape, BASES.index(self.basis), dtype=np.int8)
        for octaves in self._own_rows:
            at = np.isclose(np.log2(prompt), octaves[0], atol=1e-6)
            at &= np.isclose(np.log2(np.maximum(output, 1.0)), octaves[1], atol=1e-6)
            basis[at & (cached == 0)] = BASES.index("measured")
        return basis

    @cached_property
    def _own_rows(self) -> Numbers:
        """Octaves of prompt and output of rows of this very setting, (rows, 2)."""
        one = np.ones(1)
        setting = self._setting
        names = (self._chip.name, setting.engine, self._model, setting.precision, setting.split)
        asked = describe(names, (self._concurrency, one, one))
        rows = self._residuals["ttft_s"].rows
        same = (rows.names == asked.names).all(axis=1)
        same &= np.isclose(rows.octaves[:, :2], asked.octaves[:, :2], atol=1e-6).all(axis=1)
        return rows.octaves[same, 2:]

    def _corrected(
        self, seconds: Numbers, metric: str, new: Numbers, output: Numbers
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Return seconds, and both ends of their band."""
        mean, sd = self._rest(metric, new, output)
        kernel = self._fit.kernels[metric]
        wide = np.hypot(sd, kernel.noise_sd) * kernel.width
        if self.basis == "roofline" or not self._served:
            wide = np.hypot(wide, constants()["unmeasured"][metric])
        best = seconds * np.exp(mean)
        reach = np.exp(NINETY * wide)
        return best, best / reach, best * reach

    def _rest(self, metric: str, new: Numbers, output: Numbers) -> tuple[Numbers, Numbers]:
        """Return mean and standard deviation of the log residual."""
        later = np.maximum(output, 1.0)
        if new.size <= FEW:
            mean, sd = self._told(metric, new.ravel(), later.ravel())
            return mean.reshape(new.shape), sd.reshape(new.shape)
        means, sds = self._grid[metric]
        x = np.clip(np.log2(new), GRID_NEW[0], GRID_NEW[-1] - 1e-9)
        y = np.clip(np.log2(later), GRID_OUTPUT[0], GRID_OUTPUT[-1] - 1e-9)
        return _between(means, x, y), _between(sds, x, y)

    def _told(self, metric: str, new: Numbers, output: Numbers) -> tuple[Numbers, Numbers]:
        """Return what rows like these tell."""
        setting = self._setting
        names = (self._chip.name, setting.engine, self._model, setting.precision, setting.split)
        return self._residuals[metric].predict(describe(names, (self._concurrency, new, output)))

    @cached_property
    def _residuals(self) -> dict[str, Residuals]:
        """What rows tell of this setting, by metric."""
        names = (self._chip.name, self._setting.engine)
        return {metric: self._fit.residuals(metric, *names) for metric in METRICS}

    @cached_property
    def _grid(self) -> dict[str, tuple[Numbers, Numbers]]:
        """Corrections on the grid, by metric: means and deviations, (new, output)."""
        new, output = np.meshgrid(2.0**GRID_NEW, 2.0**GRID_OUTPUT, indexing="ij")
        found = {}
        for metric in METRICS:
            mean, sd = self._told(metric, new.ravel(), output.ravel())
            found[metric] = mean.reshape(new.shape), sd.reshape(new.shape)
        return found

    def _largest_tokens(self) -> float:
        """Return how long a context can be before its cache alone is larger than the memory."""
        low, high = 0.0, 2.0**40
        while high - low > 1.0:
            middle = (low + high) / 2
            tokens = np.array([middle])
            fits = sequences_that_fit(self._model, self._setting.split, tokens)[0] >= 1.0
            low, high = (middle, high) if fits else (low, middle)
        return low

    def _note(self, available: int) -> str:
        """Return what the numbers rest on."""
        setting = self._setting
        gpus = setting.split.gpus
        used = "one accelerator" if gpus == 1 else f"{gpus} accelerators"
        at_once = f"{self._concurrency:g} at a time"
        what = f"{setting.engine}, {setting.precision}, {used} of {available}, {at_once}"
        if self.basis == "roofline":
            return f"{what}; data sheet facts, nothing of this family was measured"
        if ("compute", f"processor:{self._chip.name}") not in self._fit.values:
            return f"{what}; measured on other chips of the family"
        return what if self._served else f"{what}; of this chip only throughput was measured"


def batch_tokens(chip: Processor) -> int:
    """Return the tokens that an iteration of an engine takes at most."""
    large = chip.kind == "gpu" and (chip.memory_gb or 0.0) >= LARGE_GB and "A100" not in chip.name
    return LARGE_BATCH_TOKENS if large else BATCH_TOKENS


def _between(grid: Numbers, x: Numbers, y: Numbers) -> Numbers:
    """Return values between the points of a grid that begins at 0 and has steps of 1."""
    i: npt.NDArray[np.intp] = x.astype(np.intp)
    j: npt.NDArray[np.intp] = y.astype(np.intp)
    u, v = x - i, y - j
    low = grid[i, j] * (1.0 - v) + grid[i, j + 1] * v
    high = grid[i + 1, j] * (1.0 - v) + grid[i + 1, j + 1] * v
    return np.asarray(low * (1.0 - u) + high * u, dtype=np.float64)
