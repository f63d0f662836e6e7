"""Seconds of steps under continuous batching: the slower of arithmetic and memory, and overheads.

Source: S. Williams et al., "Roofline", CACM 52(4), 2009, for the law of one kernel; A. Agrawal et
al., arXiv 2403.02310, section 3, for what prefills take from decodes of the same batch; the closed
loop of a load generator by Little's law. Coefficients are fitted, see
`polysilicon.cost.fit.accelerator`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.work import Work

COEFFICIENTS: tuple[str, ...] = (
    "compute",
    "memory",
    "cache",
    "link",
    "message_s",
    "layer_s",
    "sequence",
    "request_s",
    "iteration",
    "interference",
    "wait",
    "wait_power",
    "overlap",
    "queue",
)
"""Names of the law's coefficients.

compute, memory, link: share of the peak rate that is reached; cache: time to read the cache, over
that at the rate of weights; message_s: of one step of an all-reduce; layer_s: overhead of a layer;
sequence: growth of that overhead with each sequence; request_s: of a request; iteration: iterations
that a prompt waits for, over one and one for each chunk of it; interference: prefill that decodes
of the batch wait for, over all of it; wait, wait_power: prompts that a prompt waits for, over the
sequences beside it to that power; overlap: part of that wait in which the decodes of the waiting
have not begun; queue: cycles that a step waits for memory, over those by Little's law.
"""

CHUNK_TOKENS = 1024.0
"""Tokens of a prompt that are computed in an iteration beside the decodes.

Engines cut prompts in pieces, so that a long one shares its time with more iterations of the others
(arXiv 2403.02310, section 4). Their budgets of 2,048 to 8,192 tokens are of all prompts together;
1,024 rather than 2,048 was chosen on held-out processors of the first table of measurements.
"""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of steps, arrays of one shape.

    Attributes:
        ttft_s: to the first token, waiting included.
        tpot_s: for each later one.
        prefill_s: of the prompt alone.
        iteration_s: of an iteration without prefills.
        each_s: of a prompt among many, the weights read along.
        request_s: part of `ttft_s` before the prompt is in the engine.
        beside_s: part of `ttft_s` in iterations of those that decode.
        queue_s: part of `ttft_s` that is spent waiting for memory.
        prompts_s: part of `ttft_s` that is spent on prompts for which no decodes wait.
        cycle_s: of a request from its start to its end.
        batch_s: of a whole batch that begins together and is served alone.
    """

    ttft_s: Numbers
    tpot_s: Numbers
    prefill_s: Numbers
    iteration_s: Numbers
    each_s: Numbers
    request_s: Numbers
    beside_s: Numbers
    queue_s: Numbers
    prompts_s: Numbers
    cycle_s: Numbers
    batch_s: Numbers


Coefficients = Mapping[str, Numbers | float]
"""By name, numbers or arrays of the steps' shape."""


def iteration(work: Work, c: Coefficients) -> Numbers:
    """Return the seconds of an iteration that gives each sequence a token and takes no prompt.

    Args:
        work: what the steps make the accelerators do.
        c: the coefficients.
    """
    memory = work.bandwidth * c["memory"]
    return np.asarray(
        np.hypot(
            work.decode_flops / (work.gpus * work.peak_flops * c["compute"]),
            (work.decode_bytes + work.cache_bytes * c["cache"]) / memory,
        )
        + work.layers * c["layer_s"] * (1.0 + work.sequences / work.ranks * c["sequence"])
        + work.decode_link_bytes / (work.link * c["link"])
        + work.messages * c["message_s"]
    )


def serve(work: Work, c: Coefficients) -> Served:
    """Return the seconds of steps.

    Args:
        work: what they make the accelerators do.
        c: the coefficients.
    """
    compute = work.peak_flops * c["compute"]

    # A prompt's arithmetic is done by the accelerators of its own rank.
    shard = work.gpus / work.ranks
    arithmetic_s = work.prefill_flops / (shard * compute)
    weights_s = work.prefill_bytes / (work.bandwidth * c["memory"])
    sent_s = work.prefill_link_bytes / (work.link * c["link"])
    prefill_s = np.hypot(arithmetic_s, weights_s) + sent_s + work.layers * c["layer_s"]
    # Of many prompts in a row the weights are read along, and all ranks work.
    each_s = work.prefill_flops / (work.gpus * compute) + sent_s / work.ranks

    per_rank = work.sequences / work.ranks
    iteration_s = iteration(work, c)
    wait_s = prefill_s * c["wait"] * np.maximum(per_rank - 1.0, 0.0) ** c["wait_power"]
    request_s = c["request_s"] * np.ones_like(prefill_s)
    beside_s = c["iteration"] * (1.0 + work.new / CHUNK_TOKENS) * iteration_s
    ttft_s = prefill_s + wait_s + request_s + beside_s
    others_s = c["interference"] * np.maximum(work.sequences - 1.0, 0.0) * each_s
    # At least a twentieth of the other prompts falls between a sequence's own tokens.
    between_s = np.maximum(others_s - c["overlap"] * wait_s, 0.05 * others_s)
    later = np.maximum(work.output - 1.0, 0.0)
    tpot_s = iteration_s + between_s / np.maximum(later, 1.0)
    # All prompts of a cycle are computed in it; what the decodes do not wait for, prompts do.
    least_s = work.sequences * each_s + later * iteration_s
    prompts_s = np.maximum(least_s - ttft_s - later * tpot_s, 0.0)
    ttft_s = ttft_s + prompts_s
    cycle_s = ttft_s + later * tpot_s
    queue_s = c["queue"] * work.waiting * cycle_s
    alone_s = prefill_s + np.maximum(work.sequences - 1.0, 0.0) * each_s
    return Served(
        ttft_s=ttft_s + queue_s,
        tpot_s=tpot_s,
        prefill_s=prefill_s,
        iteration_s=iteration_s,
        each_s=each_s,
        request_s=request_s,
        beside_s=beside_s,
        queue_s=queue_s,
        prompts_s=prompts_s,
        cycle_s=cycle_s + queue_s,
        batch_s=request_s + (alone_s + work.output * iteration_s) * (1.0 + work.waiting),
    )
