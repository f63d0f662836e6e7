"""Mistakes at the command line are a line each, with the place and what mends them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polysilicon.cli import main


def mistaken(capsys: pytest.CaptureFixture[str], *args: str, code: int = 2) -> str:
    """Return the one line that a wrong command prints."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    shown = capsys.readouterr()
    assert (stop.value.code, shown.out) == (code, "")
    assert shown.err.count("\n") == 1
    return shown.err.removeprefix("error: ").rstrip()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("palce",), "No such command 'palce'; did you mean place?"),
        (("pool", "lst"), "No such command 'lst'; did you mean list?"),
        (("workload", "shrink"), "No such command 'shrink'; see polysilicon workload --help"),
        (("catalog", "dif"), "No such command 'dif'; did you mean diff?"),
        (("models", "lsit"), "No such command 'lsit'; did you mean list?"),
        (("engine", "biuld"), "No such command 'biuld'; did you mean build?"),
        (("bench", "egnine"), "No such command 'egnine'; did you mean engine?"),
        (("serve", "kyes"), "No such command 'kyes'; did you mean keys?"),
        (("plan", "explan"), "there is no verb and no file 'explan'; did you mean explain?"),
    ],
)
def test_an_unknown_command_is_told_the_nearest(capsys, args: tuple[str, ...], told: str) -> None:
    assert mistaken(capsys, *args) == told


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (("run", "support", "--fleet", "flete.toml"), "flete.toml"),
        (("run", "support", "--policy", "flete.toml"), "flete.toml"),
        (("serve", "--fleet", "flete.toml"), "flete.toml"),
        (("serve", "--keys", "flete.toml"), "flete.toml"),
        (("serve", "--policy", "flete.toml"), "flete.toml"),
        (("plan", "flete.toml"), "flete.toml"),
        (("pool", "start", "--fleet", "flete.toml"), "flete.toml"),
        (("workload", "generate", "--shape", "flete.toml", "-o", "w.parquet"), "flete.toml"),
    ],
)
def test_a_missing_file_is_told_what_is_near(
    capsys, args: tuple[str, ...], where: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text("")
    told = mistaken(capsys, *args)
    assert told == f"{where}: cannot read: No such file or directory; did you mean fleet.toml?"
    assert {path.name for path in tmp_path.iterdir()} == {"fleet.toml"}


def test_files_that_cannot_be_read_are_told_apart(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("folder.toml")
    folder.mkdir()
    for args, told in (
        (("plan", "none/x.toml"), "No such file or directory; there is no folder none"),
        (("plan", "folder.toml"), "Is a directory; give a file of it"),
        (("plan", "zzz.toml"), "No such file or directory; check its path"),
        (("plan", "explain", "zzz.json"), "; make one with `polysilicon plan"),
        (("run", "support", "--input", "zzz.jsonl"), "cannot read the inputs: No such file"),
    ):
        assert told in mistaken(capsys, *args)


def test_a_gateway_and_a_key_that_are_not_there(capsys, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    for verb in (("list", nowhere), ("leave", nowhere, "n")):
        told = mistaken(capsys, "pool", *verb, code=1)
        assert told.startswith(f"{nowhere}: the gateway cannot be reached: ")
        assert told.endswith("; start it with `polysilicon serve`, or name its port")
    path = tmp_path / "node.key"
    told = mistaken(capsys, "pool", "list", nowhere, "--key-file", str(path))
    mend = "write into it what `polysilicon serve keys NAME --file keys.toml --join` prints"
    assert told == f"{path}: cannot read the key: No such file or directory; {mend}"
    path.write_bytes(b"two words")
    told = mistaken(capsys, "pool", "list", nowhere, "--key-file", str(path))
    assert told == f"{path}: the file holds no key, which is one word; {mend}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--agent", "none.py:x"), "none.py: there is no such file"),
        (("--agent", "suport"), "there is no agent 'suport'; did you mean support?"),
        (("--plan", "none.json"), "none.json: cannot read: No such file or directory; make one"),
        (("--placement", "none.json"), "none.json: cannot read: No such file or directory; give"),
        (("--policy", "none.toml"), "none.toml: cannot read: No such file or directory"),
    ],
)
def test_serve_looks_at_what_it_is_given_first(
    capsys, options: tuple[str, ...], told: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mistaken(capsys, "serve", "--model", "none.gguf", *options).startswith(told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("agent", "wrong", "told"),
    [
        ("posttrain", {"seeds": 1}, "Object contains unknown field `seeds`; did you mean seed?"),
        ("posttrain", {"problems": 0}, "input of posttrain: Expected `int` >= 1 - at `$.problems`"),
        ("coder", {"prompt": "def f():"}, "input of coder: Object missing required field"),
        ("pipeline", {}, "input of pipeline must name a folder or files; give"),
        ("researcher", {"q": 1}, "the task has no 'question'; a task is"),
        ("support", {"text": "hi"}, "the ticket has no 'from'; a ticket is"),
    ],
)
def test_inputs_are_looked_at_before_there_is_a_run(
    capsys, agent: str, wrong: dict[str, object], told: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("\n" + json.dumps(wrong) + "\n")
    line = mistaken(capsys, "run", agent, "--input", "in.jsonl")
    assert line.startswith("in.jsonl, line 2: ")
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
