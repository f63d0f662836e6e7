"""Agents by name: bundled ones, `file.py:function`, or `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from polysilicon.errors import InputError, nearest
from polysilicon.runtime.types import Agent

FILE_PREFIX = "polysilicon_file:"
"""Module names of agent files begin so; the absolute path follows."""

BUNDLED = {
    "support": "polysilicon.agents.support:AGENT",
    "coder": "polysilicon.agents.coder:AGENT",
    "researcher": "polysilicon.agents.researcher:AGENT",
    "pipeline": "polysilicon.agents.pipeline:AGENT",
    "posttrain": "polysilicon.agents.posttrain:AGENT",
}


def load_agent(name: str) -> Agent:
    """Return the agent that `name` stands for.

    Raises:
        InputError: there is none, its file cannot be imported, or it is no agent.
    """
    table = BUNDLED | {e.name: e.value for e in entry_points(group="polysilicon.agents")}
    target = table.get(name, name)
    place, _, attribute = target.rpartition(":")
    if not place:
        mend = nearest(name, table) or "give file.py:function or package.module:function"
        raise InputError(f"there is no agent {name!r}", mend=mend)
    module = _load_module(place)
    value = getattr(module, attribute, None)
    if value is None:
        functions = [n for n, v in vars(module).items() if inspect.iscoroutinefunction(v)]
        raise InputError(
            f"there is no {attribute!r}", where=place, mend=nearest(attribute, functions)
        )
    if isinstance(value, Agent):
        return value
    if not inspect.iscoroutinefunction(value):
        raise InputError(f"{attribute} is no async function", where=place, mend="write `async def`")
    doc = (inspect.getdoc(value) or "").partition("\n")[0]
    return Agent(name=attribute, run=value, help=doc)


def _load_module(place: str) -> ModuleType:
    """Import a module by its name or its file."""
    _import_from(Path.cwd())
    path = Path(place).expanduser().resolve() if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise InputError("there is no such file", where=place)
    try:
        return load_file(f"{FILE_PREFIX}{path}") if path else importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise InputError(f"cannot import: {error}", where=place, mend="check the name") from error
    except Exception as error:  # foreign code may raise anything while it is imported
        raise InputError(f"cannot import: {type(error).__name__}: {error}", where=place) from error


def load_file(module_name: str) -> ModuleType:
    """Import the file that `module_name` names, once a process."""
    if module_name in sys.modules:
        return sys.modules[module_name]
    path = module_name.removeprefix(FILE_PREFIX)
    _import_from(Path(path).parent)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _import_from(folder: Path) -> None:
    """Let modules of `folder` be imported, after all others; worker processes inherit this."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def bundled_names() -> tuple[str, ...]:
    """Return the names of the bundled agents."""
    return tuple(BUNDLED)


def sample_inputs(agent: Agent) -> list[dict[str, Any]]:
    """Return the sample inputs that come with an agent.

    Raises:
        InputError: it has none.
    """
    if agent.inputs is None:
        raise InputError(f"agent {agent.name!r} has no sample inputs", mend="give --input FILE")
    return list(agent.inputs())
