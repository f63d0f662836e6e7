"""Like steps, so many at once on an engine with continuous batching, in closed form.

An iteration that takes a prompt takes the time of the prompt on top of that of the decodes. Of
1,783 pairs of vLLM on server CPUs, 961 were measured with two shapes of requests, alone and many at
once: seconds that add up leave 3.9 % of them unexplained (the median over pairs), decodes that ride
along in a prompt's pass for nothing 7.0 %, and a batch that stretches prompts as it does outputs
7.6 %; each of these laws has a price of a prompt token and an exponent of batching for each pair
(SpareCores/sc-inspector-data, CC BY-SA 4.0). llama.cpp does the same (`local.py`, the trial of
`polysilicon calibrate`). So between its start and its end each step sees all b prompts once:
    cycle = b·prompt + later·decode·(1 + idle/later)^(1 - e)
    ttft  = prompt·(1 + (b - 1)·prompt/cycle) + half an iteration of the others
    tpot  = (cycle - ttft)/later
where (b - 1)·prompt/cycle is how many other prompts a prompt meets, and decode is of an iteration
that gives each of the b steps a token, b^e times as long as one for a step alone. While its prompt
is taken, or waits because those of others fill the iterations, a step has no part in decodes: it is
idle in one iteration beside its later tokens, or in as many as all b prompts fill more than those.
There are so many iterations more, and as many tokens fewer in each, which shows where outputs are
short. Who plays engines (`engine.py`, `polysilicon.simulate`) takes the same prompts and
iterations, and b steps take a cycle there too.
"""

from __future__ import annotations

import numpy as np

from polysilicon.cost.llm.law import Numbers, Passes

BATCH_TOKENS = 2048
"""Tokens that an iteration takes at most, on engines that were not measured here: the default of
vLLM's scheduler (`max_num_batched_tokens`, vllm/config/scheduler.py, v0.10)."""

LARGE_BATCH_TOKENS = 8192
"""The same on GPUs with 70 GiB and more, but for A100s: vLLM's default there (vllm/engine/
arg_utils.py, v0.10). SGLang has as much from 35 GB on."""


def cycle(at_once: Numbers | float, passes: Passes, output: Numbers) -> tuple[Numbers, Numbers]:
    """Return seconds between the starts of two steps in the same place, and of a decode in them.

    Args:
        at_once: steps at once, this one included.
        passes: that a step asks for, `decode_s` of all at once.
        output: tokens of a step.
    """
    later = np.maximum(output - 1.0, 0.0)
    several = np.asarray(at_once) > 1.0
    powers = np.log(passes.decode_s / passes.alone_s) / np.log(np.maximum(at_once, 1.0 + 1e-9))
    idle = np.maximum(np.maximum(passes.batches, 1.0), at_once * passes.batches - later)
    fewer = 1.0 + np.where(several, idle, 0.0) / np.maximum(later, 1.0)
    decode_s = passes.decode_s * fewer ** (1.0 - np.clip(powers, 0.0, 1.0))
    return at_once * passes.prompt_s + later * decode_s, decode_s


def closed_loop(
    at_once: Numbers | float, passes: Passes, output: Numbers
) -> tuple[Numbers, Numbers]:
    """Return seconds to the first token, and for each later one; together they are a cycle.

    Args:
        at_once: steps at once, this one included.
        passes: that a step asks for, `decode_s` of all at once.
        output: tokens of a step.
    """
    prompt_s, later = passes.prompt_s, np.maximum(output - 1.0, 0.0)
    cycle_s, decode_s = cycle(at_once, passes, output)
    meets = (at_once - 1.0) * prompt_s / cycle_s
    under_way_s = np.where(np.asarray(at_once) > 1.0, decode_s / 2, 0.0)
    ttft_s = np.minimum(prompt_s * (1.0 + meets) + under_way_s, at_once * prompt_s)
    # A step of one token sees all prompts before its end, which is its first token.
    ttft_s = np.where(later > 0, ttft_s, at_once * prompt_s)
    tpot_s = np.where(later > 0, (cycle_s - ttft_s) / np.maximum(later, 1.0), decode_s)
    return ttft_s, tpot_s
