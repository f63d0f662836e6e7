"""One pass of training an adapter: AdamW on sequences of tokens, from checkpoint to checkpoint.

Runs in a worker process, and is the same however often it is run: it begins with the checkpoint
before it, draws from a generator that is seeded by its number, and writes the next one last.

Source: AdamW, I. Loshchilov and F. Hutter, arXiv 1711.05101.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from polysilicon.agents.posttrain import grpo, llama
from polysilicon.agents.posttrain.grpo import Numbers
from polysilicon.agents.posttrain.llama import Adapter, Llama, Tensor
from polysilicon.agents.posttrain.prefixes import Tree, tree_of
from polysilicon.agents.posttrain.step import Example, Lesson, Recipe
from polysilicon.agents.posttrain.tokens import Sequence_, Vocabulary, tokenise, vocabulary
from polysilicon.disk import atomic
from polysilicon.errors import InputError

_WARM_UP = 4
"""Steps of the optimizer over which the rate grows to its full size."""

_LARGEST_GRADIENT = 1.0
_PROBE_STEPS, _PROBE_ALIKE, _PROBE_OWN, _PROBE_WORDS = 3, 43, 40, 4096
"""A prompt begins with as many tokens as all do, and has with its answer as many of its own."""

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MOST_TOKENS = 2048
"""Of the sequences of one tree, which bounds its memory; a single longer one is its own tree."""


Loss = Callable[[Numbers], tuple[float, Numbers]]
"""Makes of the log-probabilities of a tree's counted tokens a part of the loss, and its slopes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the optimizer: trees with their parts of its loss, and its weight in the mean."""

    parts: list[tuple[Tree, Loss]]
    weight: float


def train(model: str, lesson: Lesson, how: Recipe, folder: str) -> dict[str, Any]:
    """Train on examples from the checkpoint before a lesson, and write the lesson's own.

    Args:
        model: path of the GGUF file.
        lesson: what to learn; checkpoint 0 is an adapter that changes nothing.
        how: the recipe.
        folder: the agent's.

    Returns:
        `adapter` (the GGUF file, from the folder), `tokens` computed forward and backward, `scored`
        (forward only), `startup_s` until the optimizer is ready, `steps` of the optimizer so far,
        `loss` before (of the first epoch) and `last_loss` (of the last one), in nats a token, or
        what `grpo.loss` says.

    Raises:
        InputError: a checkpoint is missing.
    """
    place = Path(folder) / lesson.checkpoints
    torch.set_num_threads(how.threads)
    place.mkdir(parents=True, exist_ok=True)
    begin_s = time.perf_counter()
    base, words = _base(model, how.chosen()), vocabulary(model)
    generator = torch.Generator().manual_seed(lesson.seed * 1000 + lesson.number)
    before = _checkpoint(place, lesson.number - 1)
    # The first optimizer of a process imports a good part of PyTorch.
    state = State(base, how, before, generator)
    startup_s = time.perf_counter() - begin_s
    epochs = range(how.epochs)
    if how.method == "grpo":
        sampler = _sampler(how, _checkpoint(place, lesson.sampled_by))
        groups = Groups(base, how, lesson, sampler, words)
        scored = groups.scored
        losses = [state.epoch(groups.steps(generator), lesson.temperature) for _ in epochs]
    else:
        rows, scored = list(tokenise(words, lesson.examples)), 0
        losses = [state.epoch(passed(rows, how.batch, generator)) for _ in epochs]
    state.write(place / f"{lesson.number:03d}.npz")
    target = f"{lesson.checkpoints}/{lesson.number:03d}.gguf"
    llama.write_adapter(state.adapter, base, Path(folder) / target)
    return {
        "adapter": target,
        "tokens": state.tokens,
        "scored": scored,
        "startup_s": startup_s,
        "steps": state.steps,
        "loss": losses[0],
        "last_loss": losses[-1],
    }


def probe(model: str, how: Recipe) -> dict[str, Any]:
    """Time steps of the optimizer over sequences as they are usual here.

    Returns:
        `tokens` of a step, `precision`, `seconds` and `core_s` of each but the first, `first_s`
        that the first takes more, and `setup_s`, until the optimizer is ready.
    """
    torch.set_num_threads(how.threads)
    begin_s = time.perf_counter()
    base = _base(model, how.chosen())
    generator = torch.Generator().manual_seed(1)
    state = State(base, how, None, generator)
    setup_s = time.perf_counter() - begin_s
    rng = np.random.default_rng(1)
    words = min(_PROBE_WORDS, len(base.embedding))
    alike = rng.integers(0, words, _PROBE_ALIKE)
    rows = [
        Sequence_(
            tokens=np.concatenate([alike, rng.integers(0, words, _PROBE_OWN)]).astype(np.int32),
            begin=_PROBE_ALIKE + _PROBE_OWN // 2,
        )
        for _ in range(how.batch)
    ]
    times = []
    for _ in range(_PROBE_STEPS + 1):
        begin_s, cpu_begin_s = time.perf_counter(), time.process_time()
        state.epoch(passed(rows, how.batch, generator))
        times.append((time.perf_counter() - begin_s, time.process_time() - cpu_begin_s))
    seconds, core_s = zip(*times[1:], strict=True)
    return {
        "tokens": state.tokens // len(times),
        "precision": how.chosen(),
        "seconds": list(seconds),
        "core_s": list(core_s),
        "first_s": max(times[0][0] - statistics.median(seconds), 0.0),
        "setup_s": setup_s,
    }


def blank(model: str, how: Recipe, path: str) -> None:
    """Write a new adapter, which changes nothing, to see what it costs to serve one.

    Args:
        model: path of the GGUF file.
        how: the recipe.
        path: of the file to write.
    """
    base = _base(model, how.chosen())
    generator = torch.Generator().manual_seed(1)
    llama.write_adapter(llama.new_adapter(base, how.rank, how.alpha, generator), base, Path(path))


def _checkpoint(place: Path, number: int) -> Path | None:
    """Return a checkpoint; None for number 0, which is no file.

    Raises:
        InputError: it is missing.
    """
    if number == 0:
        return None
    path = place / f"{number:03d}.npz"
    if not path.exists():
        mend = "begin a new run: what this one trained is gone"
        raise InputError("the checkpoint to go on from is missing", where=str(path), mend=mend)
    return path


@lru_cache(maxsize=1)
def _base(model: str, precision: str) -> Llama:
    """Return the frozen model; a worker reads it once."""
    return llama.read_llama(Path(model), getattr(torch, precision))


def _sampler(how: Recipe, path: Path | None) -> Adapter | None:
    """Return the adapter of a checkpoint, fixed."""
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as arrays:
        numbers = torch.from_numpy(arrays["numbers"])
    return Adapter(numbers=numbers, rank=how.rank, alpha=how.alpha)


class State:
    """An adapter in training, and its optimizer.

    Args:
        base: the frozen model.
        how: the recipe.
        path: of the checkpoint to begin with; a new adapter where None.
        generator: of a new adapter's numbers.
    """

    def __init__(self, base: Llama, how: Recipe, path: Path | None, generator: Tensor) -> None:
        self._base, self._how = base, how
        self.steps = self.tokens = 0
        fresh = llama.new_adapter(base, how.rank, how.alpha, generator)
        numbers = fresh.numbers.requires_grad_()
        self.adapter = Adapter(numbers=numbers, rank=how.rank, alpha=how.alpha)
        self._optimizer = torch.optim.AdamW([numbers], lr=how.learning_rate, weight_decay=0.0)
        if path is not None:
            self._read(path)

    def epoch(self, steps: Iterable[Step], temperature: float = 1.0) -> float:
        """Make steps of the optimizer; return the mean of their losses by their weights."""
        total = weight = 0.0
        for step in steps:
            total += self._step(step.parts, temperature) * step.weight
            weight += step.weight
        return total / max(weight, 1.0)

    def _step(self, parts: Sequence[tuple[Tree, Loss]], temperature: float) -> float:
        """Make one step of the optimizer; return its loss."""
        self._optimizer.zero_grad()
        total = 0.0
        for tree, loss_of in parts:
            now = log_probs(self._base, self.adapter, tree, temperature)
            loss, slopes = loss_of(now.detach().double().numpy())
            now.backward(torch.from_numpy(slopes).to(now.dtype))
            total += loss
            self.tokens += len(tree.tokens)
        torch.nn.utils.clip_grad_norm_([self.adapter.numbers], _LARGEST_GRADIENT)
        self.steps += 1
        warm = min(1.0, self.steps / _WARM_UP)
        self._optimizer.param_groups[0]["lr"] = self._how.learning_rate * warm
        self._optimizer.step()
        return total

    def write(self, path: Path) -> None:
        """Write the checkpoint, which appears when it is whole."""
        numbers = self.adapter.numbers.detach()
        state = self._optimizer.state.get(self.adapter.numbers, {})
        first, second = (state.get(name, torch.zeros_like(numbers)) for name in _MOMENTS)
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                numbers=numbers.numpy(),
                first=first.numpy(),
                second=second.numpy(),
                steps=np.array(self.steps),
            )

    def _read(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            numbers, first, second = (
                torch.from_numpy(arrays[name]) for name in ("numbers", "first", "second")
            )
            self.steps = int(arrays["steps"])
        with torch.no_grad():
            self.adapter.numbers.copy_(numbers)
        moments = dict(zip(_MOMENTS, (first, second), strict=True))
        step = torch.tensor(float(self.steps))
        self._optimizer.state[self.adapter.numbers] = {"step": step, **moments}


def log_probs(base: Llama, adapter: Adapter | None, tree: Tree, temperature: float = 1.0) -> Tensor:
    """Return the log-probability of each counted token of a tree, shape (m,), in nats."""
    # The vocabulary, the widest matrix, is multiplied out only where an answer's token follows.
    states = llama.hidden(base, adapter, tree)[torch.from_numpy(tree.parents)]
    logits = functional.linear(states, base.output).float() / temperature
    targets = torch.from_numpy(tree.tokens[tree.counted])
    return -functional.cross_entropy(logits, targets, reduction="none")


def passed(rows: Sequence[Sequence_], size: int, generator: Tensor) -> Iterator[Step]:
    """Yield steps over answers that passed, in random order: the mean cross-entropy of tokens."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    for begin in range(0, len(order), size):
        batch = [rows[number] for number in order[begin : begin + size]]
        count = sum(len(row.tokens) - row.begin for row in batch)
        parts: list[tuple[Tree, Loss]] = []
        for piece in pieces(batch):
            tree = tree_of(piece)
            # A token that several answers share counts for each.
            times = np.bincount(np.concatenate(tree.members), minlength=len(tree.counted))
            parts.append((tree, partial(_mean_loss, times / count)))
        yield Step(parts=parts, weight=float(count))


def _mean_loss(weights: Numbers, now: Numbers) -> tuple[float, Numbers]:
    """Return the cross-entropy of tokens by their weights, and its slopes."""
    return float(-(weights @ now)), -weights


class Groups:
    """Answers to problems, with what all steps over them need once.

    Groups whose rewards are all equal tell nothing, and are passed over.

    Args:
        base: the frozen model.
        how: the recipe.
        lesson: its examples are groups by their conversations.
        sampler: the adapter that gave the answers; None for the base.
        words: the model's vocabulary.
    """

    def __init__(
        self, base: Llama, how: Recipe, lesson: Lesson, sampler: Adapter | None, words: Vocabulary
    ) -> None:
        self.scored = 0
        self._steps: list[Step] = []
        answers: list[tuple[Sequence_, float]] = []
        for group in _by_problem(lesson.examples):
            gains = grpo.advantages([example.reward for example in group])
            if gains.any():
                answers += zip(tokenise(words, group), gains.tolist(), strict=True)
            if len(answers) >= how.batch:
                self._add(base, how, sampler, answers, lesson.temperature)
                answers = []
        if answers:
            self._add(base, how, sampler, answers, lesson.temperature)

    def steps(self, generator: Tensor) -> Iterator[Step]:
        """Yield all steps in random order."""
        for place in torch.randperm(len(self._steps), generator=generator).tolist():
            yield self._steps[place]

    def _add(
        self,
        base: Llama,
        how: Recipe,
        sampler: Adapter | None,
        answers: list[tuple[Sequence_, float]],
        temperature: float,
    ) -> None:
        """Add a step over some answers of whole groups."""
        worth = {id(row): gain for row, gain in answers}
        parts: list[tuple[Tree, Loss]] = []
        for piece in pieces([row for row, _ in answers]):
            tree = tree_of(piece)
            with torch.no_grad():
                reference = log_probs(base, None, tree, temperature).double().numpy()
                sampled = reference
                if sampler is not None:
                    sampled = log_probs(base, sampler, tree, temperature).double().numpy()
            self.scored += len(tree.tokens) * (1 + (sampler is not None))
            share = len(piece) / len(answers)
            gains = [worth[id(row)] for row in piece]
            loss_of = partial(_share_of_loss, share, sampled, reference, tree.members, gains, how)
            parts.append((tree, loss_of))
        self._steps.append(Step(parts=parts, weight=float(len(answers))))


def _share_of_loss(
    share: float,
    sampled: Numbers,
    base: Numbers,
    members: Sequence[npt.NDArray[np.int64]],
    gains: Sequence[float],
    how: Recipe,
    now: Numbers,
) -> tuple[float, Numbers]:
    """Return the part of a step's loss that some of its answers make, and its slopes."""
    loss, slopes = grpo.loss(now, sampled, base, members, gains, clip=how.clip, beta=how.kl)
    return loss * share, slopes * share


def _by_problem(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Yield the examples of each conversation, which follow each other."""
    for _, group in groupby(examples, key=lambda example: example.messages):
        yield list(group)


def pieces(batch: Sequence[Sequence_]) -> Iterator[list[Sequence_]]:
    """Yield a batch in pieces that fit into memory, those that begin alike beside each other."""
    piece: list[Sequence_] = []
    held = 0
    for row in sorted(batch, key=lambda row: row.tokens.tolist()):
        if piece and held + len(row.tokens) > _MOST_TOKENS:
            yield piece
            piece, held = [], 0
        piece.append(row)
        held += len(row.tokens)
    if piece:
        yield piece
