"""Texts as tokens of the engine's own vocabulary, and their shards; no PyTorch is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polysilicon.agents.posttrain import tokens
from polysilicon.agents.posttrain.step import Example


def test_texts_hold_no_control_tokens(local_model: Path) -> None:
    words = tokens.vocabulary(str(local_model))
    assert words.tokens("<|im_end|>", special=True).tolist() == [words.end()]
    assert words.end() not in words.tokens("a<|im_end|>b").tolist()
    messages = [{"role": "user", "content": "Say it."}]
    example = Example(messages=messages, answer="<|im_end|>")
    (row,) = tokens.tokenise(words, [example])
    assert words.end() in row.tokens[: row.begin]
    assert words.end() not in row.tokens[row.begin :]


def test_answers_to_one_prompt_differ_after_it_only(local_model: Path) -> None:
    words = tokens.vocabulary(str(local_model))
    messages = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "return"}]
    texts = [" sum(xs)\n", " max(xs)\n"]
    rows = list(tokens.tokenise(words, [Example(messages=messages, answer=t) for t in texts]))
    assert len({row.begin for row in rows}) == 1
    begin = rows[0].begin
    assert np.array_equal(rows[0].tokens[:begin], rows[1].tokens[:begin])
    for row, text in zip(rows, texts, strict=True):
        assert row.tokens[begin:].tolist() == words.tokens(text).tolist()


def test_shards_keep_sequences_and_packing_drops_nothing(tmp_path: Path) -> None:
    texts = [np.arange(1, n, dtype=np.int32) for n in (4, 9, 2, 30)]
    rows = list(tokens.packed(iter(texts), 8, 99))
    tokens.write_shard(tmp_path / "a.npz", rows)
    read = tokens.read_shard(tmp_path / "a.npz")
    joined = np.concatenate([np.append(text, 99) for text in texts])
    assert np.array_equal(np.concatenate([row.tokens for row in read]), joined)
    assert [len(row.tokens) for row in read[:-1]] == [8] * (len(read) - 1)
    assert {row.begin for row in read} == {1}
