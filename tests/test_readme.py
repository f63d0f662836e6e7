"""Every command of README.md and docs/ works when pasted, and every file that it names is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from polysilicon.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """Return the commands of `$ …` lines in the pages, and the first page of each."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
            for line in block.splitlines():
                if line.startswith("$ "):
                    found.setdefault(line[2:], page.name)
    return [(page, command) for command, page in found.items()]


def test_there_are_commands() -> None:
    assert sum(command.startswith("polysilicon ") for _, command in commands()) >= 5
    assert {"make demo", "make test"} <= {command for _, command in commands()}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, shared by all commands, so that one can use another's run."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_works_when_pasted(
    page: str,
    command: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        plan = subprocess.run([*words, "-n"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert plan.stdout, page
        return
    assert words[0] == "polysilicon", f"{page}: {command}"
    latest = max((folder / "runs").glob("*"), default=None, key=lambda path: path.stat().st_mtime)
    words = [word.replace("RUN", str(latest)) for word in words[1:]]
    monkeypatch.chdir(folder)
    code, out, err = in_a_process(words) if words[0] == "run" else here(words, capsys)
    assert code == 0, f"{page}: {command}\n{err}"
    assert out.strip(), page


def in_a_process(words: list[str]) -> tuple[int, str, str]:
    """Return exit code and output of a run, which has processes and an engine of its own."""
    script = Path(sys.executable).parent / "polysilicon"
    done = subprocess.run(
        [script, *words], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


def here(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return exit code and output of another command, with what others have loaded."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
