"""What served loads of vLLM tell of the passes that they are made of.

Requests of two shapes ran one at a time and as many at once as the server bore, and only how long
they took as a whole was measured. They are taken apart by the law of `polysilicon.cost.llm.loop`,
so that it gives back what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from polysilicon.cost.llm.law import Numbers


def crowded(
    concurrency: float, loads: Numbers, slower: Numbers, given: Mapping[str, float]
) -> float:
    """Return by how much requests at once stretch seconds.

    More requests never make one faster: what the loads at the edges tell gives way to what the
    middle one tells, which is the surest. Between loads, and below them down to one request,
    seconds are a power of the load; beyond the last one the server is full, and more only wait.

    Args:
        concurrency: requests at once.
        loads: about which measurements tell, ascending, the usual one in the middle; shape (n,).
        slower: seconds at these over those of one request; shape (n,).
        given: the constants.
    """
    logs = np.log(np.concatenate([[1.0], loads]))
    stretch = np.log(np.concatenate([[1.0], slower]))
    middle = 1 + len(loads) // 2
    stretch[middle:] = np.maximum.accumulate(stretch[middle:])
    stretch[: middle + 1] = np.minimum.accumulate(stretch[middle::-1])[::-1]
    stretch = np.clip(stretch, given["least_batching"] * logs, given["most_batching"] * logs)
    at = np.interp(math.log(concurrency), logs, stretch)
    return float(np.exp(at) * max(concurrency / loads[-1], 1.0))


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of requests of two shapes, alone and many at once.

    Attributes:
        tokens: of the prompts; shape (2,).
        counted: seconds of a token of these prompts over those of a usual one; shape (2,).
        later: output tokens after the first; shape (2,).
        alone_s: of one request; shape (2,).
        loads: how many at once, ascending, the usual load in the middle; shape (2, n).
        busy_s: of one of these; shape (2, n).
        weight_bytes: read for each pass that decodes.
        context_bytes: read for the mean context of each step in it; shape (2,).
    """

    tokens: Numbers
    counted: Numbers
    later: Numbers
    alone_s: Numbers
    loads: Numbers
    busy_s: Numbers
    weight_bytes: float
    context_bytes: Numbers

    def longer(self, at_once: Numbers | float) -> Numbers:
        """Return seconds of a decode in both shapes over the first, by bytes; shape (…, 2)."""
        many = np.asarray(at_once, dtype=np.float64)[..., None]
        read = self.weight_bytes + many * self.context_bytes
        return np.asarray(read / read[..., :1])


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Passes of which requests are made.

    Attributes:
        prompt_s: of a usual prompt token.
        output_s: of an output token alone, in both shapes.
        decode_s: of one that gives each of the steps at once a token, in both shapes.
        split_band: half width of the band of the logarithm of `prompt_s`, whole requests given.
    """

    prompt_s: float
    output_s: tuple[float, float]
    decode_s: tuple[float, float]
    split_band: float


def taken_apart(
    runs: Runs, concurrency: float, peak_s: float, least_s: float, given: Mapping[str, float]
) -> Served:
    """Return the passes of which measured requests are made.

    Args:
        runs: what was measured.
        concurrency: steps at once.
        peak_s: that a prompt token takes with all cores at their peak.
        least_s: that a token of many prompts takes.
        given: the constants.
    """
    prompts, alone_s = runs.tokens * runs.counted, float(runs.alone_s[0])
    guess = peak_s / given["compute_efficiency"] * (runs.later[0] + 1.0) / alone_s
    ratio, band = split(runs, float(guess), given)
    # What outputs have left where prompts are as fast as the cores can be.
    left_s = max(alone_s - float(prompts[0]) * peak_s, 0.1 * alone_s)
    ratio = max(ratio, float(runs.later[0]) * peak_s / left_s)
    first_s = alone_s / float(prompts[0] * ratio + runs.later[0])
    longer_s = float((runs.alone_s[1] - prompts[1] * ratio * first_s) / runs.later[1])
    output_s = (first_s, min(max(longer_s, 0.8 * first_s), 2.0 * first_s))
    prompt_s = runs.tokens * np.maximum(ratio * first_s * runs.counted, least_s)
    decode_s = []
    for i, each_s in enumerate(output_s):
        whole_s = runs.alone_s[i] * crowded(
            concurrency, runs.loads[i], runs.busy_s[i] / runs.alone_s[i], given
        )
        decodes_s = float(whole_s - concurrency * prompt_s[i]) / float(runs.later[i])
        decode_s.append(max(decodes_s, each_s))
    return Served(
        prompt_s=ratio * first_s,
        output_s=output_s,
        decode_s=(decode_s[0], decode_s[1]),
        split_band=band,
    )


def split(runs: Runs, guess: float, given: Mapping[str, float]) -> tuple[float, float]:
    """Return seconds of a prompt token over those of an output token, and the band of its log.

    Runs of two shapes tell it weakly. With the ratio r and passes that take b^e times as long with
    b at once, a shape of n prompt and m later tokens takes n·r + m alone and b·n·r + m·b^e with
    others. That is weighed against a guess; all exponents are taken for as likely.

    Args:
        runs: what was measured.
        guess: the ratio by the peak rate of the cores.
        given: the constants.
    """
    middle, wide = math.log(guess), given["first_token_spread"]
    logs = np.linspace(middle - 3.0 * wide, middle + 3.0 * wide, 61)
    ratio = np.exp(logs)[:, None, None]
    power = np.linspace(given["least_batching"], given["most_batching"], 33)[None, :, None]
    prompts, usual = runs.tokens * runs.counted, runs.loads.shape[1] // 2
    loads, busy_s = runs.loads[:, usual], runs.busy_s[:, usual]
    alone = prompts * ratio + runs.later * runs.longer(1.0)
    longer = np.diagonal(runs.longer(loads))
    busy = loads * prompts * ratio + runs.later * longer * loads**power
    said = np.log(np.concatenate(np.broadcast_arrays(alone, busy), axis=2))
    off = np.log(np.concatenate([runs.alone_s, busy_s])) - said
    # How fast the server is is not asked.
    off -= off.mean(axis=2, keepdims=True)
    weight = -0.5 * np.sum((off / given["same_run_noise"]) ** 2, axis=2)
    weight -= 0.5 * ((logs[:, None] - middle) / wide) ** 2
    each = np.exp(weight - weight.max()).sum(axis=1)
    each /= each.sum()
    mean = float(each @ logs)
    deviation = math.sqrt(float(each @ (logs - mean) ** 2))
    return math.exp(mean), 1.645 * deviation
