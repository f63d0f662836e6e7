"""One pass of training an adapter: AdamW on sequences of tokens, from checkpoint to checkpoint.

Runs in a worker process, and is the same however often it is run: it begins with the checkpoint
before it, draws from a generator that is seeded by its number, and writes the next one last.

Source: AdamW, I. Loshchilov and F. Hutter, arXiv 1711.05101.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.nn import functional

from polysilicon.agents.posttrain import llama
from polysilicon.agents.posttrain.llama import Adapter, Llama, Tensor
from polysilicon.agents.posttrain.step import Recipe
from polysilicon.agents.posttrain.tokens import Example, Sequence_, tokenise, vocabulary
from polysilicon.disk import atomic
from polysilicon.errors import InputError

_WARM_UP = 4
"""Steps of the optimizer over which the rate grows to its full size."""

_LARGEST_GRADIENT = 1.0


def train(
    model: str,
    folder: str,
    number: int,
    seed: int,
    examples: list[dict[str, Any]],
    recipe: dict[str, Any],
) -> dict[str, Any]:
    """Train on examples from checkpoint `number` - 1 of a folder, and write checkpoint `number`.

    Args:
        model: path of the GGUF file.
        folder: of the checkpoints; number 0 is an adapter that changes nothing.
        number: of the checkpoint to write.
        seed: of the run.
        examples: fields of `Example`.
        recipe: fields of `Recipe`.

    Returns:
        `adapter` (path of the GGUF file), `tokens` trained on, `steps` of the optimizer, `loss`
        before (of the first epoch) and `last_loss` (of the last one), in nats a token.

    Raises:
        InputError: the checkpoint before is missing.
    """
    how = msgspec.convert(recipe, Recipe)
    place = Path(folder)
    before = place / f"{number - 1:03d}.npz"
    if number > 1 and not before.exists():
        mend = "begin a new run: what this one trained is gone"
        raise InputError("the checkpoint to go on from is missing", where=str(before), mend=mend)
    torch.set_num_threads(how.threads)
    place.mkdir(parents=True, exist_ok=True)
    base = _base(model, how.precision)
    words = vocabulary(model)
    rows = list(tokenise(words, msgspec.convert(examples, list[Example])))
    generator = torch.Generator().manual_seed(seed * 1000 + number)
    state = State(base, how, before, generator)
    losses = [state.epoch(rows, generator) for _ in range(how.epochs)]
    state.write(place / f"{number:03d}.npz")
    target = place / f"{number:03d}.gguf"
    llama.write_adapter(state.adapter, base, target)
    return {
        "adapter": str(target),
        "tokens": how.epochs * sum(len(row.tokens) for row in rows),
        "steps": state.steps,
        "loss": losses[0],
        "last_loss": losses[-1],
    }


@lru_cache(maxsize=1)
def _base(model: str, precision: str) -> Llama:
    """Return the frozen model; a worker reads it once."""
    return llama.read_llama(Path(model), getattr(torch, precision))


class State:
    """An adapter in training, and its optimizer.

    Args:
        base: the frozen model.
        how: the recipe.
        path: of the checkpoint to begin with; a new adapter where there is none.
        generator: of a new adapter's numbers.
    """

    def __init__(self, base: Llama, how: Recipe, path: Path, generator: Tensor) -> None:
        self._base, self._how = base, how
        self.steps = 0
        fresh = llama.new_adapter(base, how.rank, how.alpha, generator)
        numbers = fresh.numbers.requires_grad_()
        self.adapter = Adapter(numbers=numbers, rank=how.rank, alpha=how.alpha)
        self._optimizer = torch.optim.AdamW([numbers], lr=how.learning_rate, weight_decay=0.0)
        if path.exists():
            self._read(path)

    def epoch(self, rows: Sequence[Sequence_], generator: Tensor) -> float:
        """Train once on all sequences, in random batches of similar length; return the mean loss.

        The loss of a batch is over its tokens, and the mean over all tokens.
        """
        total, count = 0.0, 0
        for batch in _batches(rows, self._how.batch, generator):
            loss, answers = answer_loss(self._base, self.adapter, batch)
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([self.adapter.numbers], _LARGEST_GRADIENT)
            self.steps += 1
            warm = min(1.0, self.steps / _WARM_UP)
            self._optimizer.param_groups[0]["lr"] = self._how.learning_rate * warm
            self._optimizer.step()
            total, count = total + loss.item() * answers, count + answers
        return total / max(count, 1)

    def write(self, path: Path) -> None:
        """Write the checkpoint, which appears when it is whole."""
        state = self._optimizer.state[self.adapter.numbers]
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                numbers=self.adapter.numbers.detach().numpy(),
                first=state["exp_avg"].numpy(),
                second=state["exp_avg_sq"].numpy(),
                steps=np.array(self.steps),
            )

    def _read(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            numbers, first = (torch.from_numpy(arrays[name]) for name in ("numbers", "first"))
            second, self.steps = torch.from_numpy(arrays["second"]), int(arrays["steps"])
        with torch.no_grad():
            self.adapter.numbers.copy_(numbers)
        self._optimizer.state[self.adapter.numbers] = {
            "step": torch.tensor(float(self.steps)),
            "exp_avg": first,
            "exp_avg_sq": second,
        }


def answer_loss(
    base: Llama, adapter: Adapter | None, rows: Sequence[Sequence_]
) -> tuple[Tensor, int]:
    """Return the mean cross-entropy of the tokens that count, in nats, and how many they are."""
    length = max(len(row.tokens) for row in rows)
    tokens = torch.zeros((len(rows), length), dtype=torch.int64)
    counts = torch.zeros((len(rows), length), dtype=torch.bool)
    for number, row in enumerate(rows):
        size = len(row.tokens)
        tokens[number, :size] = torch.from_numpy(row.tokens.astype(np.int64))
        counts[number, row.begin : size] = True
    # The vocabulary, the widest matrix, is multiplied out only where an answer's token follows.
    states = llama.hidden(base, adapter, tokens[:, :-1])[counts[:, 1:]]
    logits = functional.linear(states, base.output).float()
    targets = tokens[:, 1:][counts[:, 1:]]
    return functional.cross_entropy(logits, targets), len(targets)


def _batches(rows: Sequence[Sequence_], size: int, generator: Tensor) -> Iterator[list[Sequence_]]:
    """Yield all sequences, in batches of similar length, which come in random order."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    order.sort(key=lambda number: len(rows[number].tokens))  # stable: equal lengths stay shuffled
    batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
    for place in torch.randperm(len(batches), generator=generator).tolist():
        yield [rows[number] for number in batches[place]]
