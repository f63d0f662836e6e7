"""What a law of LLM steps is: seconds as a function of tokens, for one model served in one way."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


class Passes(msgspec.Struct, frozen=True, kw_only=True):
    """Passes over the weights that some steps ask for; arrays of the steps' shape.

    Attributes:
        prompt_s: of one over the prompt of a step.
        decode_s: of one that gives each step at once a token, all of them like this one.
        alone_s: of one that gives a token to this step alone.
        batches: iterations that the prompt fills; less than 1 where one takes several prompts.
    """

    prompt_s: Numbers
    decode_s: Numbers
    alone_s: Numbers
    batches: Numbers

    def times(self, factor: float) -> Passes:
        """Return all seconds stretched."""
        return Passes(
            prompt_s=self.prompt_s * factor,
            decode_s=self.decode_s * factor,
            alone_s=self.alone_s * factor,
            batches=self.batches,
        )


class Seconds(msgspec.Struct, frozen=True, kw_only=True):
    """What a law says about some steps; all arrays have the steps' shape.

    Attributes:
        ttft_s: from the start of the step to its first token.
        ttft_low_s: lower end of its band, which holds the truth in 90 of 100 cases.
        ttft_high_s: upper end.
        tpot_s: for each token after the first.
        tpot_low_s: lower end of its band.
        tpot_high_s: upper end.
        basis: index into `polysilicon.cost.types.BASES`, int8.
        passes: what the steps ask of the engine, so that who plays it takes as long as is said.
        machine_s: seconds of the whole machine that a step answers for; None where that is its
            service time times the law's share.
    """

    ttft_s: Numbers
    ttft_low_s: Numbers
    ttft_high_s: Numbers
    tpot_s: Numbers
    tpot_low_s: Numbers
    tpot_high_s: Numbers
    basis: npt.NDArray[np.int8]
    passes: Passes
    machine_s: Numbers | None = None

    def times(self, factor: float) -> Seconds:
        """Return all seconds stretched; what was measured without is measured no more."""
        return Seconds(
            ttft_s=self.ttft_s * factor,
            ttft_low_s=self.ttft_low_s * factor,
            ttft_high_s=self.ttft_high_s * factor,
            tpot_s=self.tpot_s * factor,
            tpot_low_s=self.tpot_low_s * factor,
            tpot_high_s=self.tpot_high_s * factor,
            basis=np.maximum(self.basis, 1).astype(np.int8),
            passes=self.passes.times(factor),
            machine_s=None if self.machine_s is None else self.machine_s * factor,
        )


class LlmLaw(Protocol):
    """A law for one model on one offer, served in one way, at one concurrency.

    A law is made once and asked for many steps; making one raises `NoBasisError` where nothing is
    known or the model does not fit.

    Attributes:
        share: part of the whole machine that one step occupies while it runs, from 0 to 1.
        note: what the numbers rest on, in words.
        largest_tokens: prompt and output together that fit into memory at this concurrency.
    """

    @property
    def share(self) -> float:
        """Part of the machine."""
        ...

    @property
    def note(self) -> str:
        """What the numbers rest on."""
        ...

    @property
    def largest_tokens(self) -> float:
        """Tokens that fit."""
        ...

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps.

        Args:
            new: prompt tokens that no cache holds; at least 1.
            cached: prompt tokens that a cache holds.
            output: tokens generated.
        """
        ...
