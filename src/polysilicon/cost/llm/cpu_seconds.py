"""Seconds of LLM steps on a CPU server as functions of their tokens."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.cost.llm.law import Numbers, Seconds
from polysilicon.cost.types import BASES

# Mean contexts of the measured prompts of 512 and 4,096 tokens.
PREFILL_CONTEXTS = (256.0, 2048.0)
# Prompts and contexts up to which what was measured stands for others.
NEAR_TOKENS = 1024.0
FAR_TOKENS = 4096.0
MEASURED, CALIBRATED, ROOFLINE = range(len(BASES))


class CpuLaw(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of steps of one model with one engine on one CPU server at one concurrency.

    Attributes:
        share: of the machine.
        note: what the numbers rest on.
        largest_tokens: prompt and output that fit into memory.
        prompt_s: seconds of a prompt token at the shorter measured context.
        prompt_slope_s: more seconds for each token of context.
        contexts: the two contexts at which output tokens were measured.
        output_s: seconds of an output token there.
        weight_bytes: read for each output token.
        kv_bytes: read for each token of context.
        slower: by how much concurrency stretches all seconds, for prompts of 256 and of 1,024
            tokens.
        prompt_bands: half widths of the band of log seconds, short and long prompts.
        output_band: the same of output tokens.
        basis: index into `BASES` of prompts of about the measured length.
        long_basis: of prompts up to the longer measured length.
        output_basis: of output tokens.
        longer_band: added to bands for each doubling beyond the measured lengths.
        in_turn: requests whose arithmetic shares the cores: seconds of one are at least so many
            times its own arithmetic. 0 where busy servers were measured, which shows it by itself.
        token_least_s: arithmetic of one token of each request by all cores, which the best estimate
            does not undercut; 0 for one request, which was measured.
        token_peak_s: the same with the cores at their peak, which the band does not undercut.
    """

    share: float
    note: str
    largest_tokens: float
    prompt_s: float
    prompt_slope_s: float
    contexts: tuple[float, float]
    output_s: tuple[float, float]
    weight_bytes: float
    kv_bytes: float
    slower: tuple[float, float]
    prompt_bands: tuple[float, float]
    output_band: float
    basis: int
    long_basis: int
    output_basis: int
    longer_band: float
    in_turn: float = 0.0
    token_least_s: float = 0.0
    token_peak_s: float = 0.0

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps; see `LlmLaw`."""
        context = cached + new + output / 2.0
        tpot_s = self._output_s(context)
        # A prompt passes all weights at least once, as one output token does.
        token_s = self.prompt_s + self.prompt_slope_s * (cached + new / 2.0 - PREFILL_CONTEXTS[0])
        ttft_s = np.maximum(new * np.maximum(token_s, self.prompt_s / 2), self._output_s(cached))
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
        prompts = np.log2(np.clip(cached + new, 256.0, 1024.0)) - 8.0
        slower = self.slower[0] ** (1.0 - prompts / 2.0) * self.slower[1] ** (prompts / 2.0)
        # Every token of every request takes at least the arithmetic of a prompt token.
        later_s = np.maximum(output - 1.0, 0.0)
        work_s = self.in_turn * (ttft_s + later_s * self.prompt_s)
        work_s = np.maximum(work_s, (new + later_s) * self.token_least_s)
        ttft_s, tpot_s = ttft_s * slower, tpot_s * slower
        short_s = np.maximum(work_s - ttft_s - later_s * tpot_s, 0.0)
        tpot_s = tpot_s + np.where(later_s > 0, short_s / np.maximum(later_s, 1.0), 0.0)
        ttft_s = ttft_s + np.where(later_s > 0, 0.0, short_s)
        ttft_low_s, tpot_low_s = ttft_s * np.exp(-prompt_band), tpot_s * np.exp(-output_band)
        peak_s = np.maximum((new + later_s) * self.token_peak_s - ttft_low_s, 0.0)
        tpot_low_s = np.maximum(tpot_low_s, np.minimum(peak_s / np.maximum(later_s, 1.0), tpot_s))
        return Seconds(
            ttft_s=ttft_s,
            ttft_low_s=ttft_low_s,
            ttft_high_s=ttft_s * np.exp(prompt_band),
            tpot_s=tpot_s,
            tpot_low_s=tpot_low_s,
            tpot_high_s=tpot_s * np.exp(output_band),
            basis=basis.astype(np.int8),
        )

    def _output_s(self, context: Numbers) -> Numbers:
        """Return seconds of an output token: between the anchors linear, beyond by bytes read."""
        last = self.contexts[1]
        at = np.interp(context, self.contexts, self.output_s)
        read = self.weight_bytes + self.kv_bytes * np.maximum(context, last)
        return np.asarray(at * read / (self.weight_bytes + self.kv_bytes * last))
