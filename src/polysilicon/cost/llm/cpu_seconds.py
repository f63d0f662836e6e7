"""Seconds of LLM steps on a CPU server as functions of their tokens.

Passes make them: one over a prompt, one that gives each of b sequences a token. Of like steps, b at
once, see `polysilicon.cost.llm.loop`.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.cost.llm.law import Numbers, Passes, Seconds
from polysilicon.cost.llm.loop import BATCH_TOKENS, closed_loop
from polysilicon.cost.types import BASES

# Mean contexts of the measured prompts of 512 and 4,096 tokens.
PREFILL_CONTEXTS = (256.0, 2048.0)
# Prompts and contexts up to which what was measured stands for others.
NEAR_TOKENS = 1024.0
FAR_TOKENS = 4096.0
MEASURED, CALIBRATED, ROOFLINE = range(len(BASES))


def prompt_token_s(short_s: float, slope_s: float, context: Numbers) -> Numbers:
    """Return the mean seconds of a prompt's tokens.

    Args:
        short_s: at the shorter measured context.
        slope_s: more for each token of context.
        context: mean tokens before each.
    """
    return np.maximum(short_s + slope_s * (context - PREFILL_CONTEXTS[0]), short_s / 2)


class CpuLaw(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of steps of one model with one engine on one CPU server at one concurrency.

    Attributes:
        engine: `llama.cpp` or `vllm`.
        precision: of the weights.
        concurrency: steps at once.
        note: what the numbers rest on.
        largest_tokens: prompt and output that fit into memory.
        prompt_s: seconds of a prompt token at the shorter measured context.
        prompt_slope_s: more seconds for each token of context.
        contexts: the two contexts at which output tokens were measured.
        prompts: of the requests from which these came; None where nothing but outputs ran.
        output_s: seconds of an output token there, of one step alone.
        decode_s: seconds there of a pass that gives each of the steps at once a token.
        weight_bytes: read for each output token.
        kv_bytes: read for each token of context.
        prompt_bands: half widths of the band of log seconds, short and long prompts.
        output_band: the same of output tokens.
        basis: index into `BASES` of prompts of about the measured length.
        long_basis: of prompts up to the longer measured length.
        output_basis: of output tokens.
        longer_band: added to bands for each doubling beyond the measured lengths.
        token_least_s: arithmetic of a token by all cores, which the best estimate of many requests
            at once does not undercut; one request alone was measured.
        token_peak_s: the same with the cores at their peak, which the band does not undercut.
    """

    engine: str
    precision: str
    concurrency: float
    note: str
    largest_tokens: float
    prompt_s: float
    prompt_slope_s: float
    contexts: tuple[float, float]
    output_s: tuple[float, float]
    decode_s: tuple[float, float]
    weight_bytes: float
    kv_bytes: float
    prompt_bands: tuple[float, float]
    output_band: float
    basis: int
    long_basis: int
    output_basis: int
    longer_band: float
    token_least_s: float = 0.0
    token_peak_s: float = 0.0
    prompts: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """Part of the machine that a step occupies."""
        return 1.0 / self.concurrency

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps; see `LlmLaw`."""
        context = cached + new + output / 2.0
        passes = self._passes(new, cached, context)
        ttft_s, tpot_s = closed_loop(self.concurrency, passes, output)
        reach = np.clip((cached + new - 512.0) / (FAR_TOKENS - 512.0), 0.0, 1.0)
        near, far = self.prompt_bands
        doublings = np.log2(np.maximum((cached + new) / FAR_TOKENS, 1.0))
        prompt_band = near + (far - near) * reach + self.longer_band * doublings
        doublings = np.log2(np.maximum(context / NEAR_TOKENS, 1.0))
        output_band = self.output_band + self.longer_band * doublings
        prompt_basis = np.where(
            cached + new <= NEAR_TOKENS,
            self.basis,
            np.where(cached + new <= FAR_TOKENS, self.long_basis, CALIBRATED),
        )
        later = np.where(context <= NEAR_TOKENS, self.output_basis, CALIBRATED)
        later = np.where(output > 1, np.maximum(later, self.output_basis), MEASURED)
        basis = np.maximum(np.maximum(prompt_basis, self.basis), later)
        later_s = np.maximum(output - 1.0, 0.0)
        ttft_low_s, tpot_low_s = ttft_s * np.exp(-prompt_band), tpot_s * np.exp(-output_band)
        least_s = (new + later_s) * self.concurrency * self.token_peak_s
        peak_s = np.maximum(least_s - ttft_low_s, 0.0)
        tpot_low_s = np.maximum(tpot_low_s, np.minimum(peak_s / np.maximum(later_s, 1.0), tpot_s))
        return Seconds(
            ttft_s=ttft_s,
            ttft_low_s=ttft_low_s,
            ttft_high_s=ttft_s * np.exp(prompt_band),
            tpot_s=tpot_s,
            tpot_low_s=tpot_low_s,
            tpot_high_s=tpot_s * np.exp(output_band),
            basis=basis.astype(np.int8),
            passes=passes,
        )

    def _passes(self, new: Numbers, cached: Numbers, context: Numbers) -> Passes:
        """Return the seconds of a prompt, and of a token of each of the steps at once.

        Args:
            new: prompt tokens that no cache holds.
            cached: prompt tokens that one holds.
            context: mean tokens of the steps while they decode.
        """
        least_s = self.token_least_s if self.concurrency > 1.0 else 0.0
        token_s = prompt_token_s(self.prompt_s, self.prompt_slope_s, cached + new / 2.0)
        # A prompt passes all weights at least once, as one output token does.
        prompt = cached + new
        alone_s = self._output_s(prompt, cached, self.output_s, 1.0)
        prompt_s = np.maximum(new * np.maximum(token_s, least_s), alone_s)
        decode_s = self._output_s(prompt, context, self.decode_s, self.concurrency)
        decode_s = np.maximum(decode_s, self.concurrency * least_s)
        one_s = self._output_s(prompt, context, self.output_s, 1.0)
        return Passes(
            prompt_s=prompt_s,
            decode_s=decode_s,
            alone_s=np.minimum(one_s, decode_s),
            batches=new / BATCH_TOKENS,
        )

    def _output_s(
        self, prompt: Numbers, context: Numbers, anchors: tuple[float, float], many: float
    ) -> Numbers:
        """Return seconds of a pass that decodes: linear between anchors, beyond by bytes read.

        No engine decodes faster at a longer context. Where whole requests seem to say so, it is
        taken for the doing of their longer prompts, and more output still takes longer.
        """
        first_s, last_s = anchors
        if self.prompts is not None and last_s < first_s:
            at = first_s * np.interp(prompt, self.prompts, (1.0, last_s / first_s))
        else:
            at = np.interp(context, self.contexts, anchors)
        last = self.contexts[1]
        read = self.weight_bytes + many * self.kv_bytes * np.maximum(context, last)
        return np.asarray(at * read / (self.weight_bytes + many * self.kv_bytes * last))
