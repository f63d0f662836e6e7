"""The trained adapter against llama.cpp itself, on a random Llama of two layers."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")

import tiny_llama  # noqa: E402 - needs gguf
from polysilicon.agents.posttrain import llama, tokens, trainer  # noqa: E402
from polysilicon.agents.posttrain.prefixes import Tree, tree_of  # noqa: E402
from polysilicon.agents.posttrain.step import Example, Lesson, Recipe  # noqa: E402
from polysilicon.errors import EngineError, InputError  # noqa: E402
from polysilicon.runtime.calibration import training  # noqa: E402
from polysilicon.runtime.engines.llamacpp import LlamaCpp  # noqa: E402
from polysilicon.runtime.types import ChatRequest  # noqa: E402

ASKED = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "    return"}]
RECIPE: dict[str, Any] = {
    "rank": 4,
    "alpha": 8.0,
    "threads": 1,
    "precision": "float32",
    "learning_rate": 0.02,
}


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


def path(row: list[int]) -> Tree:
    """Return the tree of one sequence."""
    return tree_of([tokens.Sequence_(tokens=np.array(row, dtype=np.int32), begin=1)])


def continued(base: llama.Llama, adapter: llama.Adapter | None, begin: list[int]) -> list[int]:
    row = list(begin)
    with torch.no_grad():
        for _ in range(8):
            states = llama.hidden(base, adapter, path(row))
            row.append(int((base.output @ states[-1]).argmax()))
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
    row = path([5, 9, 33, 70])
    adapter = llama.new_adapter(base, 4, 8.0, torch.Generator().manual_seed(1))
    assert torch.equal(llama.hidden(base, None, row), llama.hidden(base, adapter, row))


def test_packed_by_prefixes_tokens_are_as_likely_as_alone(base: llama.Llama) -> None:
    texts = [[7, 8, 9, 10, 11], [7, 8, 9, 40], [7, 8, 50, 51, 52, 53], [60, 8, 9], [7, 8, 9, 10]]
    rows = [tokens.Sequence_(tokens=np.array(t, dtype=np.int32), begin=2) for t in texts]
    adapter = random_adapter(base)
    together = tree_of(rows)
    assert len(together.tokens) == 13
    found = trainer.log_probs(base, adapter, together, 0.7)
    for row, members in zip(rows, together.members, strict=True):
        alone = trainer.log_probs(base, adapter, tree_of([row]), 0.7)
        assert found[members].tolist() == pytest.approx(alone.tolist(), abs=1e-4)


def test_training_learns_an_answer_and_goes_on_from_its_checkpoint(
    model: Path, words: tokens.Vocabulary, tmp_path: Path
) -> None:
    examples = [Example(messages=ASKED, answer=" ret ret\n")]
    how = Recipe(**RECIPE, epochs=12)

    def learn(number: int) -> dict[str, Any]:
        lesson = Lesson(checkpoints="c", number=number, seed=5, examples=examples)
        return trainer.train(str(model), lesson, how, str(tmp_path))

    one, two = learn(1), learn(2)
    asked = words.tokens(words.prompt(ASKED), special=True)
    length = len(asked) + len(words.tokens(" ret ret\n"))
    assert one["tokens"] == 12 * length
    assert two["steps"] == 24
    assert one["loss"] > 1.0
    assert two["last_loss"] < 0.1
    assert two["adapter"] == "c/002.gguf"
    assert (
        served(model, words, tmp_path / two["adapter"])[:4]
        == words.tokens(" ret ret\n").tolist()[:4]
    )
    # A pass that is repeated after a kill ends as it ended before.
    before = (tmp_path / two["adapter"]).read_bytes()
    assert {**learn(2), "startup_s": 0.0} == {**two, "startup_s": 0.0}
    assert (tmp_path / two["adapter"]).read_bytes() == before


def test_grpo_makes_the_better_answers_likelier_and_leaves_equal_ones_alone(
    model: Path, base: llama.Llama, words: tokens.Vocabulary, tmp_path: Path
) -> None:
    how = Recipe(**RECIPE, method="grpo", epochs=2, batch=2)
    other = [{"role": "user", "content": "Say more."}, ASKED[1]]

    def learn(number: int, rewards: list[tuple[float, float]], by: int) -> dict[str, Any]:
        examples = [
            Example(messages=messages, answer=f" {text}\n", reward=reward)
            for messages, pair in zip((ASKED, other), rewards, strict=False)
            for text, reward in zip(("ret", "fig"), pair, strict=True)
        ]
        lesson = Lesson(checkpoints="c", number=number, seed=5, examples=examples,
                        sampled_by=by, temperature=0.8)  # fmt: skip
        return trainer.train(str(model), lesson, how, str(tmp_path))

    def numbers(number: int) -> np.ndarray:
        with np.load(tmp_path / "c" / f"{number:03d}.npz") as arrays:
            return np.array(arrays["numbers"])

    def likely(number: int, text: str) -> float:
        row = tokens.tokenise(words, [Example(messages=ASKED, answer=f" {text}\n")])
        adapter = llama.Adapter(numbers=torch.from_numpy(numbers(number)), rank=4, alpha=8.0)
        return float(trainer.log_probs(base, adapter, tree_of(list(row)), 0.8).sum())

    # Nobody or everybody was right: nothing is learnt, and B stays zero.
    even = learn(1, [(0.0, 0.0), (1.0, 1.0)], 0)
    assert (even["steps"], even["tokens"], even["loss"]) == (0, 0, 0.0)
    told = learn(2, [(1.0, 0.0), (0.0, 0.0)], 1)
    assert told["steps"] == 2
    # Where it samples and learns from one adapter each ratio is 1: the mean advantage, zero.
    assert told["loss"] == pytest.approx(0.0, abs=1e-5)
    assert told["last_loss"] < 0.0
    assert likely(2, "ret") > likely(1, "ret")
    assert likely(2, "fig") < likely(1, "fig")
    again = learn(3, [(1.0, 0.0), (0.0, 1.0)], 1)  # sampled one update before
    assert again["steps"] == 6
    assert again["scored"] > told["scored"] / 2


def test_training_is_timed_by_real_steps(model: Path) -> None:
    found = asyncio.run(training.train_speed(str(model), 1))
    assert training.can_train()
    assert (found.threads, found.tokens) == (1, 43 + 8 * 40)
    assert 0 < found.tokens_per_s.low <= found.tokens_per_s.median <= found.tokens_per_s.high
    assert found.core_s_per_token.median > 0
    assert found.setup_s > 0.0
    assert found.first_s >= 0.0


def test_serving_an_adapter_is_timed_beside_serving_none(model: Path) -> None:
    engine = LlamaCpp(model, concurrency=2, context_tokens=256, threads=1)

    async def measure() -> training.Served:
        try:
            return await training.served(engine, str(model), 2, random.Random(1))
        finally:
            await engine.close()

    found = asyncio.run(measure())
    for times in (found.times, found.beside):
        assert times.repeats == 4
        assert 0 < times.low <= times.median <= times.high
    assert found.load_s >= 0.0


def test_what_cannot_be_trained_or_served_is_told(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(InputError, match="cannot read the weights"):
        llama.read_llama(broken)
    with pytest.raises(EngineError, match="adapter"):
        served(model, tokens.vocabulary(str(model)), tmp_path / "none.gguf")
    # A training run never begins anew under a later number.
    lesson = Lesson(checkpoints="gone", number=2, seed=5, examples=[])
    with pytest.raises(InputError, match="checkpoint"):
        trainer.train(str(model), lesson, Recipe(**RECIPE), str(tmp_path))


def test_an_adapter_is_loaded_once_until_its_file_is_written_anew(
    model: Path, base: llama.Llama, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.gguf"
    llama.write_adapter(random_adapter(base), base, path)
    engine = LlamaCpp(model, concurrency=1, context_tokens=64, threads=1)
    first = engine._with(str(path))
    assert engine._with(str(path)) is first
    os.utime(path, ns=(1, 1))  # as if it had been written anew
    assert engine._with(str(path)) is not first
    asyncio.run(engine.close())
