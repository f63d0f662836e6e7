"""The trained adapter against llama.cpp itself, on a random Llama of two layers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")

import tiny_llama  # noqa: E402 - needs gguf
from polysilicon.agents.posttrain import llama, tokens, trainer  # noqa: E402
from polysilicon.errors import EngineError, InputError  # noqa: E402
from polysilicon.runtime.engines.llamacpp import LlamaCpp  # noqa: E402
from polysilicon.runtime.types import ChatRequest  # noqa: E402

ASKED = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "    return"}]
RECIPE = {"rank": 4, "alpha": 8.0, "threads": 1, "precision": "float32", "learning_rate": 0.02}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_llama.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def words(model: Path) -> tokens.Vocabulary:
    return tokens.vocabulary(str(model))


@pytest.fixture(scope="module")
def base(model: Path) -> llama.Llama:
    return llama.read_llama(model, torch.float32)


def continued(base: llama.Llama, adapter: llama.Adapter | None, begin: list[int]) -> list[int]:
    row = list(begin)
    with torch.no_grad():
        for _ in range(8):
            states = llama.hidden(base, adapter, torch.tensor([row]))
            row.append(int((base.output @ states[0, -1]).argmax()))
    return row[len(begin) :]


def served(model: Path, words: tokens.Vocabulary, adapter: Path | None) -> list[int]:
    async def ask() -> str:
        engine = LlamaCpp(model, concurrency=1, context_tokens=256, threads=1)
        request = ChatRequest(
            messages=tuple(ASKED), max_tokens=8, adapter=None if adapter is None else str(adapter)
        )
        try:
            return (await engine.chat(request)).text
        finally:
            await engine.close()

    return words.tokens(asyncio.run(ask())).tolist()


def random_adapter(base: llama.Llama) -> llama.Adapter:
    generator = torch.Generator().manual_seed(3)
    fresh = llama.new_adapter(base, 4, 8.0, generator)
    numbers = torch.randn(fresh.numbers.shape, generator=generator) * 0.1
    return llama.Adapter(numbers=numbers, rank=4, alpha=8.0)


def test_pytorch_and_llama_cpp_answer_alike_with_and_without_an_adapter(
    model: Path, base: llama.Llama, words: tokens.Vocabulary, tmp_path: Path
) -> None:
    begin = words.tokens(words.prompt(ASKED), special=True).tolist()
    adapter = random_adapter(base)
    llama.write_adapter(adapter, base, tmp_path / "adapter.gguf")
    plain, adapted = continued(base, None, begin), continued(base, adapter, begin)
    assert plain != adapted
    text = served(model, words, None)
    assert words.tokens(decoded(words, plain)).tolist() == text
    text = served(model, words, tmp_path / "adapter.gguf")
    assert words.tokens(decoded(words, adapted)).tolist() == text


def decoded(words: tokens.Vocabulary, row: list[int]) -> str:
    return str(words._ask("/detokenize", {"tokens": row})["content"])


def test_a_new_adapter_changes_nothing(base: llama.Llama) -> None:
    row = torch.tensor([[5, 9, 33, 70]])
    adapter = llama.new_adapter(base, 4, 8.0, torch.Generator().manual_seed(1))
    assert torch.equal(llama.hidden(base, None, row), llama.hidden(base, adapter, row))


def test_padding_does_not_change_the_loss(base: llama.Llama) -> None:
    rows = [tokens.Sequence_(tokens=np.arange(3, 3 + n, dtype=np.int32), begin=2) for n in (6, 11)]
    alone = [trainer.answer_loss(base, None, [row]) for row in rows]
    both, count = trainer.answer_loss(base, None, rows)
    assert count == 4 + 9
    assert float(both) == pytest.approx(sum(float(loss) * n for loss, n in alone) / count)


def test_training_learns_an_answer_and_goes_on_from_its_checkpoint(
    model: Path, words: tokens.Vocabulary, tmp_path: Path
) -> None:
    examples = [{"messages": ASKED, "answer": " ret ret\n"}]
    recipe = {**RECIPE, "epochs": 12}
    one = trainer.train(str(model), str(tmp_path / "one"), 1, 5, examples, recipe)
    two = trainer.train(str(model), str(tmp_path / "one"), 2, 5, examples, recipe)
    asked = words.tokens(words.prompt(ASKED), special=True)
    length = len(asked) + len(words.tokens(" ret ret\n"))
    assert one["tokens"] == 12 * length
    assert two["steps"] == 24
    assert one["loss"] > 1.0
    assert two["last_loss"] < 0.1
    assert served(model, words, Path(two["adapter"]))[:4] == words.tokens(" ret ret\n").tolist()[:4]
    # A pass that is repeated after a kill ends as it ended before.
    before = Path(two["adapter"]).read_bytes()
    again = trainer.train(str(model), str(tmp_path / "one"), 2, 5, examples, recipe)
    assert again == two
    assert Path(again["adapter"]).read_bytes() == before


def test_what_cannot_be_trained_or_served_is_told(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(InputError, match="cannot read the weights"):
        llama.read_llama(broken)
    with pytest.raises(EngineError, match="adapter"):
        served(model, tokens.vocabulary(str(model)), tmp_path / "none.gguf")
    # A training run never begins anew under a later number.
    with pytest.raises(InputError, match="checkpoint"):
        trainer.train(str(model), str(tmp_path / "gone"), 2, 5, [], RECIPE)


def test_all_that_is_no_adapter_is_refused_alike(
    model: Path, base: llama.Llama, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    (tmp_path / "text").write_text("no adapter")
    (tmp_path / "broken").write_bytes(b"GGUF" + b"\0" * 64)
    engine = LlamaCpp(model, concurrency=1, context_tokens=64, threads=1)
    told = set()
    for name in ("pipe", "text", "broken", "none", ".", "a\0b"):
        with pytest.raises(EngineError) as caught:
            engine._with(str(tmp_path / name))
        told.add(str(caught.value).replace(str(tmp_path / name), ""))
    assert len(told) == 1
    path = tmp_path / "adapter.gguf"
    llama.write_adapter(random_adapter(base), base, path)
    first = engine._with(str(path))
    assert engine._with(str(path)) is first
    os.utime(path, ns=(1, 1))  # as if it had been written anew
    assert engine._with(str(path)) is not first
    asyncio.run(engine.close())


def test_texts_hold_no_control_tokens(words: tokens.Vocabulary) -> None:
    assert words.tokens("<|im_end|>", special=True).tolist() == [words.end()]
    assert words.end() not in words.tokens("a<|im_end|>b").tolist()
    messages = [{"role": "user", "content": "Say it."}]
    example = tokens.Example(messages=messages, answer="<|im_end|>")
    (row,) = tokens.tokenise(words, [example])
    assert words.end() in row.tokens[: row.begin]
    assert words.end() not in row.tokens[row.begin :]


def test_shards_keep_sequences_and_packing_drops_nothing(tmp_path: Path) -> None:
    texts = [np.arange(1, n, dtype=np.int32) for n in (4, 9, 2, 30)]
    rows = list(tokens.packed(iter(texts), 8, 99))
    tokens.write_shard(tmp_path / "a.npz", rows)
    read = tokens.read_shard(tmp_path / "a.npz")
    joined = np.concatenate([np.append(text, 99) for text in texts])
    assert np.array_equal(np.concatenate([row.tokens for row in read]), joined)
    assert [len(row.tokens) for row in read[:-1]] == [8] * (len(read) - 1)
    assert {row.begin for row in read} == {1}
