"""Engines: what answers `llm` and `embed` steps. A name and a class each, imported when used."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from polysilicon.errors import InputError, nearest
from polysilicon.runtime.types import Engine

ENGINES = {
    "llama.cpp": "polysilicon.runtime.engines.llamacpp:LlamaCpp",
    "openai": "polysilicon.runtime.engines.openai:OpenAI",
}


def open_engine(name: str, **options: Any) -> Engine:
    """Make the engine `name`; other packages add theirs as entry points `polysilicon.engines`.

    Raises:
        InputError: no engine has that name, or it cannot be made of these options.
    """
    table = ENGINES | {e.name: e.value for e in entry_points(group="polysilicon.engines")}
    if name not in table:
        raise InputError(f"there is no engine {name!r}", mend=nearest(name, table))
    module, _, attribute = table[name].partition(":")
    engine: Engine = getattr(import_module(module), attribute)(**options)
    return engine
