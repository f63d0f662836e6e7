"""Reads a folder and leaves a search index: split, clean, mask, deduplicate, chunk, embed, index.

Documents go from stage to stage in files under the agent's folder; steps return statistics only.
So neither memory nor the journal grows with the input, and an interrupted run goes on after the
last step that ended.

Embeddings of a small input are `embed` steps, which the fleet may serve. Vectors of a big one would
fill the journal (256 numbers for every 1,000 characters are more bytes than the text), so there the
worker processes embed shard by shard, straight into files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from polysilicon.agents.pipeline import stages
from polysilicon.errors import InputError
from polysilicon.runtime.models import DEFAULT_MODEL, check_no_url
from polysilicon.runtime.types import Agent

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context

DATA = Path(__file__).with_name("data")
STEP_CHUNKS = 512
"""Up to so many chunks are embedded by `embed` steps."""

_BATCH = 64
_LEAST_SEQUENCE = 16
_TIMEOUT_S = 900.0
_SUMS = ("documents", "empty_documents", "encoding_faults_fixed", "malformed_lines")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """An input: a folder, or files; `expected` is for `grade`.

    With `sequence_tokens` the chunks become a training set too: shards of sequences of so many
    tokens of the vocabulary of `model`.
    """

    folder: str | None = None
    files: list[str] = []
    sequence_tokens: int | None = None
    model: str = DEFAULT_MODEL
    expected: Any = None


async def run(ctx: Context, value: Any) -> dict[str, Any]:
    """Prepare the documents of a folder.

    Returns:
        Counts for each stage, and the path of the search index.

    Raises:
        InputError: the input names neither a folder nor files, or both.
        ToolError: a file cannot be read, or the disk is full.
    """
    task = _task(value)
    work = str(ctx.folder / "work" / ctx.task_id)
    target = ctx.folder / "indexes" / ctx.task_id
    plan = await ctx.call(stages.split, task.folder, task.files, work, timeout_s=_TIMEOUT_S)
    shards = range(plan["shards"])

    async def first(ctx: Context, shard: int) -> tuple[dict[str, Any], dict[str, int]]:
        cleaned = await ctx.call(stages.clean, work, shard, timeout_s=_TIMEOUT_S)
        return cleaned, await ctx.call(stages.mask, work, shard, timeout_s=_TIMEOUT_S)

    async def second(ctx: Context, shard: int) -> dict[str, int]:
        counts: dict[str, int] = await ctx.call(stages.chunk, work, shard, timeout_s=_TIMEOUT_S)
        return counts

    read = await ctx.map(first, shards)
    alike = await ctx.call(stages.deduplicate, work, len(shards), timeout_s=_TIMEOUT_S)
    pieces = sum(counts["chunks"] for counts in await ctx.map(second, shards))
    vectors = await _embed(ctx, work, shards, is_small=pieces <= STEP_CHUNKS)
    await ctx.call(stages.index, work, str(target), len(shards), timeout_s=_TIMEOUT_S)
    training = {} if task.sequence_tokens is None else await _pack(ctx, work, shards, task)
    return {
        "files": plan["files"],
        "files_left_out": plan["files_left_out"],
        **_totals(read),
        **alike,
        "chunks": pieces,
        "vectors": vectors,
        "index": str(target),
        **training,
    }


async def _pack(ctx: Context, work: str, shards: range, task: Task) -> dict[str, Any]:
    """Write the chunks as a training set; return where it is and how large."""

    async def one(ctx: Context, shard: int) -> dict[str, int]:
        given = (work, shard, task.model, task.sequence_tokens)
        counts: dict[str, int] = await ctx.call(stages.pack, *given, timeout_s=_TIMEOUT_S)
        return counts

    packed = await ctx.map(one, shards)
    return {
        "training_set": str(Path(work) / "training"),
        "training_sequences": sum(counts["sequences"] for counts in packed),
        "training_tokens": sum(counts["tokens"] for counts in packed),
    }


async def _embed(ctx: Context, work: str, shards: range, *, is_small: bool) -> int:
    """Embed all chunks; return how many vectors there are."""

    async def by_steps(ctx: Context, shard: int) -> int:
        texts = stages.chunk_texts(work, shard)
        batches = [texts[n : n + _BATCH] for n in range(0, len(texts), _BATCH)]
        rows = await ctx.map(_embed_batch, batches)
        return stages.keep_vectors(work, shard, [row for batch in rows for row in batch])["vectors"]

    async def by_workers(ctx: Context, shard: int) -> int:
        counts = await ctx.call(stages.embed, work, shard, timeout_s=_TIMEOUT_S)
        return int(counts["vectors"])

    return sum(await ctx.map(by_steps if is_small else by_workers, shards))


async def _embed_batch(ctx: Context, texts: list[str]) -> list[list[float]]:
    return await ctx.embed(texts)


def _task(value: Any) -> Task:
    mend = 'give {"folder": PATH} or {"files": [PATH, ...]}'
    try:
        task = msgspec.convert(value, Task)
    except msgspec.ValidationError as error:
        raise InputError(f"input of pipeline: {error}", mend=mend) from error
    if task.sequence_tokens is not None and task.sequence_tokens < _LEAST_SEQUENCE:
        raise InputError(f"input of pipeline: sequence_tokens is below {_LEAST_SEQUENCE}")
    check_no_url(task.model, "pipeline")
    if (task.folder is None) == (not task.files):
        raise InputError("input of pipeline must name a folder or files", mend=mend)
    return task


def _totals(read: list[tuple[dict[str, Any], dict[str, int]]]) -> dict[str, Any]:
    """Return the sums of what the shards' first stages counted."""
    languages: Counter[str] = Counter()
    masked: Counter[str] = Counter()
    for cleaned, found in read:
        languages.update(cleaned["languages"])
        masked.update(found)
    lines = [line for cleaned, _ in read for line in cleaned["malformed"]]
    return {
        **{name: sum(cleaned[name] for cleaned, _ in read) for name in _SUMS},
        "malformed": lines[: stages.MALFORMED_SHOWN],
        "languages": dict(sorted(languages.items())),
        "personal_data_masked": dict(sorted(masked.items())),
    }


def accept(value: dict[str, Any]) -> dict[str, Any]:
    """Return an input with whole paths, so that a run goes on alike from any folder.

    Raises:
        InputError: it is wrong.
    """
    task = _task(value)
    if task.folder is not None:
        return value | {"folder": str(Path(task.folder).absolute())}
    return value | {"files": [str(Path(path).absolute()) for path in task.files]}


def inputs() -> Iterator[dict[str, Any]]:
    """Yield the folders that come with the package, each with the counts that are right for it."""
    manifest = msgspec.json.decode((DATA / "manifest.json").read_bytes())
    for name, expected in manifest.items():
        yield {"folder": str(DATA / name), "expected": expected}


def grade(value: dict[str, Any], output: Any) -> float | None:
    """Return the share of the expected counts that the output has, or None where none are given."""
    expected = value.get("expected")
    if not isinstance(expected, dict) or not expected:
        return None
    if not isinstance(output, dict):
        return 0.0
    right = [bool(output.get(name) == count) for name, count in expected.items()]
    return sum(right) / len(right)


AGENT = Agent(
    name="pipeline",
    run=run,
    accept=accept,
    inputs=inputs,
    grade=grade,
    help="Prepares a folder of text and JSONL: clean, mask, deduplicate, chunk, embed, index.",
)
