"""What an engine's answers say of its batch, with the prompts of others in between."""

from __future__ import annotations

import pytest

from polysilicon.runtime.batches import Batch, Reads
from polysilicon.runtime.scope import Usage

FIXED_S, PROMPT_S, TOKENS = 0.008, 0.2, 20


def served(reads: Reads | None, each_s: float) -> Batch:
    """Play sequences that answer in turn, 2 to 8 at once: who ends is followed by a new prompt."""
    batch, now_s = Batch(8), 0.0
    for count in [2, 3, 4, 5, 6, 7, 8] * 8:
        iteration_s = FIXED_S + each_s * count
        left = [1 + n * TOKENS // count for n in range(count)]
        begun = [(now_s, tokens + 1) for tokens in left]
        for _ in range(TOKENS):
            now_s += iteration_s
            for n in range(count):
                left[n] -= 1
                if left[n]:
                    continue
                begin_s, tokens = begun[n]
                told = (tokens, now_s - begin_s)
                if reads is not None:
                    told = reads.decoding(tokens, begin_s, now_s)
                batch.noted(*told, count)
                usage = Usage()
                with (reads or Reads()).of(usage, now_s):
                    now_s += PROMPT_S
                    usage.first_token_s = now_s
                begun[n], left[n] = (now_s, TOKENS), TOKENS
    return batch


def test_prompts_of_others_do_not_make_the_batch_small() -> None:
    """They are read in any case; taken for the cost of company, they would end all batches."""
    assert served(None, 0.0005).most < 8
    assert served(Reads(), 0.0005).most == 8
    assert served(Reads(), 0.05).most < 3  # where company does cost, it is seen


def test_what_is_beside_a_prompt_is_left_out_once() -> None:
    reads = Reads()
    for begin_s, first_s in ((0.0, 1.0), (0.5, 2.0), (4.0, 5.0), (20.0, 21.0)):
        usage = Usage()
        with reads.of(usage, begin_s):
            usage.first_token_s = first_s
    assert reads.decoding(10, 1.5, 10.0) == (8, pytest.approx(8.5 - 0.5 - 1.0))
    with reads.of(Usage(), 9.0):  # not read yet
        assert reads.decoding(10, 1.5, 10.0) == (7, pytest.approx(8.5 - 0.5 - 1.0 - 1.0))
        assert reads.decoding(10, 8.9, 10.0) == (0, 0.0)  # nearly all of it
        # An answer that comes whole tells no first token: it reads no longer than others did.
        assert reads.decoding(10, 1.5, 20.0) == (7, pytest.approx(18.5 - 0.5 - 1.0 - 1.5))
    assert reads.decoding(10, 1.5, 10.0) == (8, pytest.approx(7.0))  # it had no first token
