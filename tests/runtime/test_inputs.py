from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.inputs import read_inputs
from polysilicon.runtime.types import Agent


async def _run(*_: Any) -> None:
    pass


ANY = Agent(name="any", run=_run)


def test_objects_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "é"}\n')
    assert list(read_inputs(path, ANY)) == [{"a": 1}, {"a": "é"}]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": 2}')))
    assert list(read_inputs(Path("-"), ANY)) == [{"a": 2}]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"a": ', "line 2: not JSON"),
        (b"[1, 2]", "line 2: a JSON list, not an object"),
        (b'{"a": "\xff"}', "line 2: not JSON"),
        (b"\x00\x01", "line 2: not JSON"),
    ],
)
def test_malformed_lines_name_file_and_line(tmp_path: Path, line: bytes, text: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(InputError, match=text) as caught:
        list(read_inputs(path, ANY))
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        list(read_inputs(tmp_path / "missing.jsonl", ANY))


def test_an_agent_says_what_it_accepts(tmp_path: Path) -> None:
    def accept(value: dict[str, Any]) -> dict[str, Any]:
        if "a" not in value:
            raise InputError("no a", where="input", mend="give one")
        return {"a": value["a"] + 1}

    agent = Agent(name="adds", run=_run, accept=accept)
    path = tmp_path / "in.jsonl"
    path.write_text('{"a": 1}\n\n{"b": 1}\n')
    found = read_inputs(path, agent)
    assert next(found) == {"a": 2}
    with pytest.raises(InputError, match=r"in.jsonl, line 3: input: no a; give one$"):
        next(found)
