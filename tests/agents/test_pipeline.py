from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.agents.pipeline import AGENT, agent, stages
from polysilicon.agents.posttrain import tokens
from polysilicon.errors import InputError
from polysilicon.runtime.engines.lexical import embed
from polysilicon.runtime.search import open_index


class DirectContext:
    """Makes every step at once, in this process; arguments and results pass as messages do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.task_id = "pipeline-00000"
        self.steps: list[str] = []

    async def call(self, fn: Any, *args: Any, timeout_s: float) -> Any:
        assert timeout_s > 0
        self.steps.append(fn.__name__)
        result = fn(*msgspec.msgpack.decode(msgspec.msgpack.encode(args)))
        return msgspec.msgpack.decode(msgspec.msgpack.encode(result))

    async def embed(self, texts: list[str]) -> list[list[float]]:
        self.steps.append("embed-step")
        return embed(texts)

    async def map(self, fn: Any, items: Any) -> list[Any]:
        return list(await asyncio.gather(*(fn(self, item) for item in items)))


def play(value: Any, folder: Path) -> tuple[dict[str, Any], DirectContext]:
    ctx = DirectContext(folder)
    output = asyncio.run(AGENT.run(ctx, value))  # type: ignore[arg-type]
    return output, ctx


def grade(value: dict[str, Any], output: Any) -> float | None:
    assert AGENT.grade is not None
    return AGENT.grade(value, output)


def bundled() -> list[dict[str, Any]]:
    assert AGENT.inputs is not None
    return list(AGENT.inputs())


@pytest.mark.parametrize("value", bundled(), ids=lambda value: Path(value["folder"]).name)
def test_the_bundled_folders_are_counted_right(value: dict[str, Any], tmp_path: Path) -> None:
    output, ctx = play(value, tmp_path)
    assert {name: output[name] for name in value["expected"]} == value["expected"]
    assert grade(value, output) == 1.0
    assert ctx.steps[:3] == ["split", "clean", "mask"]
    assert output["vectors"] == output["chunks"] == len(open_index(Path(output["index"])))


def test_the_bundled_folders_hold_what_they_are_for() -> None:
    total = [value["expected"] for value in bundled()]
    assert sum(e["documents"] for e in total) >= 40
    assert {code for e in total for code in e["languages"]} == {"en", "de", "fr", "es"}
    assert {kind for e in total for kind in e["personal_data_masked"]} == {
        "card", "email", "iban", "ip", "phone",
    }  # fmt: skip
    assert all(sum(e[name] for e in total) for name in ("near_duplicates", "malformed_lines"))


def test_malformed_lines_are_told_with_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [
        "{bad",
        '{"text": "A line that is all right and long enough."}',
        "",
        "[]",
        '{"text": 1}',
    ]
    (folder / "a.jsonl").write_text("\n".join(lines))
    output, _ = play({"folder": str(folder)}, tmp_path)
    assert output["documents"] == 1
    assert output["malformed_lines"] == 3
    assert [(line["file"], line["line"]) for line in output["malformed"]] == [
        ("a.jsonl", 1), ("a.jsonl", 4), ("a.jsonl", 5),
    ]  # fmt: skip
    kept = tmp_path / "work" / "pipeline-00000" / "malformed" / "00000.jsonl"
    assert len(kept.read_text().splitlines()) == 3


def test_only_twenty_malformed_lines_are_shown_and_all_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n" * 50)
    output, _ = play({"files": [str(tmp_path / "a.jsonl")]}, tmp_path)
    assert output["malformed_lines"] == 50
    assert len(output["malformed"]) == 20


def test_personal_data_is_nowhere_in_the_index(tmp_path: Path) -> None:
    [value] = [v for v in bundled() if v["folder"].endswith("invoices")]
    output, _ = play(value, tmp_path)
    index = open_index(Path(output["index"]))
    texts = [hit.text for hit in index.search("invoice rechnung facture factura konto", 50)]
    assert texts
    assert "DE89" not in " ".join(texts)
    assert "<IBAN>" in " ".join(texts)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    output, _ = play({"folder": str(tmp_path / "in")}, tmp_path)
    assert (output["files"], output["documents"], output["chunks"], output["vectors"]) == (
        0,
        0,
        0,
        0,
    )
    assert open_index(Path(output["index"])).search("anything", 3) == []


def corpus(folder: Path, count: int) -> None:
    folder.mkdir()
    with (folder / "a.jsonl").open("w") as stream:
        for n in range(count):
            text = f"Document {n} speaks of {n * n} things, of {n % 7} ships and {n % 11} sails."
            stream.write(json.dumps({"text": text}) + "\n")


def test_big_inputs_are_cut_into_shards_and_embedded_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(tmp_path / "in", 400)
    few, small = play({"folder": str(tmp_path / "in")}, tmp_path / "one")
    monkeypatch.setattr(stages.sources, "SHARD_BYTES", 5000)
    monkeypatch.setattr(agent, "STEP_CHUNKS", 10)
    many, big = play({"folder": str(tmp_path / "in")}, tmp_path / "two")
    assert small.steps.count("clean") == 1
    assert "embed" not in small.steps
    assert big.steps.count("clean") > 4
    assert "embed-step" not in big.steps
    for output in (few, many):
        del output["index"]
    assert few == many


def test_stages_can_be_repeated(tmp_path: Path) -> None:
    value = bundled()[0]
    first, _ = play(value, tmp_path)
    again, _ = play(value, tmp_path)
    assert first == again


@pytest.mark.parametrize(
    "value", [{}, {"folder": "a", "files": ["b"]}, {"folder": 3}, [], {"files": []}]
)
def test_a_wrong_input_is_the_users_mistake(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='give {"folder": PATH}'):
        play(value, tmp_path)


def test_a_missing_folder_or_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        play({"folder": str(tmp_path / "none")}, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        play({"files": [str(tmp_path / "none.txt")]}, tmp_path)


def test_grade_is_the_share_of_right_counts() -> None:
    value = {"expected": {"documents": 2, "chunks": 3}}
    assert grade(value, {"documents": 2, "chunks": 4}) == 0.5
    assert grade(value, None) == 0.0
    assert grade({}, {"documents": 2}) is None


def test_chunks_become_a_training_set(tmp_path: Path, local_model: Path) -> None:
    value = {**bundled()[0], "sequence_tokens": 64}
    output, ctx = play(value, tmp_path)
    assert grade(value, output) == 1.0
    shards = [tokens.read_shard(path) for path in sorted(Path(output["training_set"]).iterdir())]
    rows = [row for shard in shards for row in shard]
    assert ctx.steps.count("pack") == len(shards)
    assert all(len(row.tokens) == 64 for shard in shards for row in shard[:-1])
    assert len(rows) == output["training_sequences"]
    words = tokens.vocabulary(str(local_model))
    work = str(tmp_path / "work" / ctx.task_id)
    texts = [text for n in range(len(shards)) for text in stages.chunk_texts(work, n)]
    expected = [[*words.tokens(text).tolist(), words.end()] for text in texts]
    assert [t for row in rows for t in row.tokens.tolist()] == [t for row in expected for t in row]
    assert output["training_tokens"] == sum(map(len, expected))


def test_sequences_of_a_few_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sequence_tokens"):
        play({"folder": str(tmp_path), "sequence_tokens": 4}, tmp_path)


def test_no_task_makes_the_server_fetch_an_address(tmp_path: Path) -> None:
    model = "http://169.254.0.1/secret.gguf"
    with pytest.raises(InputError, match="is a URL"):
        play({"folder": str(tmp_path), "sequence_tokens": 64, "model": model}, tmp_path)
