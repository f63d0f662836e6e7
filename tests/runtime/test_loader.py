from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.loader import bundled_names, load_agent, sample_inputs
from polysilicon.runtime.types import Agent

FILE = '''
async def hello(ctx, value):
    """Greet a person.

    More words.
    """
    return {"text": await ctx.call(shout, value["name"])}

def shout(name):
    return name.upper()

NUMBER = 3
'''


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_bundled_agents_have_inputs_that_they_grade() -> None:
    for name in bundled_names():
        agent = load_agent(name)
        assert agent.name == name
        assert agent.help
        assert all("expected" in value for value in sample_inputs(agent))


def test_a_function_of_a_file(agent_file: Path) -> None:
    agent = load_agent(f"{agent_file}:hello")
    assert (agent.name, agent.help) == ("hello", "Greet a person.")
    with pytest.raises(InputError, match="no sample inputs; give --input FILE"):
        sample_inputs(agent)


def test_a_function_of_a_file_runs_in_a_worker(agent_file: Path) -> None:
    shout = load_agent(f"{agent_file}:hello").run.__globals__["shout"]

    async def main() -> str:
        workers = Workers(1)
        try:
            return msgspec.msgpack.decode((await workers.call(shout, ("ada",), {}, 30)).data)
        finally:
            await workers.close()

    assert asyncio.run(main()) == "ADA"


def test_a_module_attribute() -> None:
    assert isinstance(load_agent("polysilicon.agents.support:AGENT"), Agent)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("suport", "there is no agent 'suport'; did you mean support"),
        ("zzz", "give file.py:function"),
        ("missing.py:agent", "missing.py: there is no such file"),
        ("no.such.module:agent", "cannot import"),
        ("{file}:helo", "did you mean hello"),
        ("{file}:NUMBER", "no async function"),
        ("{file}:shout", "write `async def`"),
    ],
)
def test_names_that_are_no_agents(agent_file: Path, name: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_agent(name.format(file=agent_file))


def test_a_file_that_raises_when_imported(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0")
    with pytest.raises(InputError, match="cannot import: ZeroDivisionError"):
        load_agent(f"{path}:agent")
