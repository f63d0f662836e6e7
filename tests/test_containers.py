"""The images' files name what is there: files, options, packages, and a path that is served."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from polysilicon.cli.app import app
from polysilicon.gateway.app import ROUTES

ROOT = Path(__file__).parents[1]


def instructions(name: str) -> list[tuple[str, str]]:
    """Return instruction and argument of each line, continued ones joined, comments left out."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def told(name: str, word: str) -> list[str]:
    return [argument for one, argument in instructions(name) if one == word]


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.tests"])
def test_what_is_copied_is_there_and_not_ignored(name: str) -> None:
    ignored = (ROOT / ".containerignore").read_text().split()
    copied = [c.split() for c in told(name, "COPY") if not c.startswith("--from")]
    sources = [word for words in copied for word in words[:-1] if not word.startswith("--")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored), source
    base = [image.split()[0] for image in told(name, "FROM")]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = wanted["requires-python"].removeprefix(">=")
    assert all(image.startswith(f"docker.io/library/python:{python}") for image in base)
    assert not told(name, "USER") or told(name, "USER")[-1] not in ("0", "root")


def test_the_command_and_its_options_are_there() -> None:
    program = json.loads(told("Containerfile", "ENTRYPOINT")[0])
    verb, *words = json.loads(told("Containerfile", "CMD")[0])
    assert program == ["polysilicon"]
    command = app.get_command(None, verb)  # type: ignore[arg-type]
    context = command.make_context(verb, words)
    given = {key: str(context.params[key]) for key in ("host", "keys", "folder")}
    volume = told("Containerfile", "VOLUME")[0]
    assert given["host"] == "0.0.0.0"
    assert given["folder"].startswith(f"{volume}/")
    (check,) = told("Containerfile", "HEALTHCHECK")
    url = urlsplit(re.search(r"http://[^']+", check)[0])
    assert str(url.port) == told("Containerfile", "EXPOSE")[0] == str(context.params["port"])
    assert url.path in {route.path for part in ROUTES for route in part if hasattr(route, "path")}


def test_pinned_packages_hold_all_that_is_installed() -> None:
    """The pattern by which the image pins versions finds every package of the project."""
    (run,) = (r for r in told("Containerfile", "RUN") if "constraints" in r)
    pattern = re.search(r"grep -oE '([^']+)'", run)[1]
    extras = re.search(r'"\.\[(\w+)\]"', run)[1].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in extras for one in project["optional-dependencies"][extra]),
    ]
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {plain(found.split("==")[0]) for found in re.findall(pattern, lock, re.MULTILINE)}
    assert {plain(re.match(r"[\w.-]+", one)[0]) for one in wanted} <= pinned


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
