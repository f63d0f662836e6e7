"""Polysilicon runs AI agents on the cheapest silicon that is fast enough.

What an agent's author needs: `Context`, and the types of what its calls take and return. Names are
imported when they are first used, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context
    from polysilicon.runtime.types import (
        Agent,
        ChatResult,
        CodeResult,
        Document,
        Hit,
        Limits,
        Setup,
    )

__all__ = ["Agent", "ChatResult", "CodeResult", "Context", "Document", "Hit", "Limits", "Setup"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "context" if name == "Context" else "types"
    return getattr(import_module(f"polysilicon.runtime.{module}"), name)
