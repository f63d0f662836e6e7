"""Sandboxes: where code that nobody trusts runs. A name and a class each, imported when used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol

from polysilicon.errors import InputError, nearest
from polysilicon.runtime.types import Sandbox

SANDBOXES = {
    "monty": "polysilicon.runtime.sandboxes.monty:Monty",
    "bubblewrap": "polysilicon.runtime.sandboxes.bubblewrap:Bubblewrap",
}


class SandboxClass(Protocol):
    """What the table names: makes a sandbox, and tells whether it works here."""

    def __call__(self, workers: int) -> Sandbox:
        """Make the sandbox with `workers` runs at once.

        Where it has an attribute `yields`, that is set to False for code that somebody waits for.
        """
        ...

    missing: Callable[[], str | None]
    """Returns None where the sandbox works on this machine, else the reason why not."""


def open_sandbox(name: str, workers: int, *, yields: bool = True) -> Sandbox:
    """Make the sandbox `name`; other packages add theirs as entry points `polysilicon.sandboxes`.

    Args:
        name: `monty`, `bubblewrap` or what a package adds.
        workers: runs at once; further ones wait.
        yields: its code lets engines go before, as what nobody waits for does; of those of other
            packages only where they know of it.

    Raises:
        InputError: no sandbox has that name, or it does not work on this machine.
    """
    kind = _load(name)
    reason = kind.missing()
    if reason is not None:
        mend = "" if name == "monty" else "use sandbox monty"
        raise InputError(f"sandbox {name!r} does not work here: {reason}", mend=mend)
    sandbox = kind(workers)
    if hasattr(sandbox, "yields"):
        sandbox.yields = yields
    return sandbox


def available(name: str) -> str | None:
    """Return None where the sandbox `name` works on this machine, else the reason why not.

    Raises:
        InputError: no sandbox has that name.
    """
    return _load(name).missing()


def _load(name: str) -> SandboxClass:
    table = SANDBOXES | {e.name: e.value for e in entry_points(group="polysilicon.sandboxes")}
    if name not in table:
        raise InputError(f"there is no sandbox {name!r}", mend=nearest(name, table))
    module, _, attribute = table[name].partition(":")
    kind: SandboxClass = getattr(import_module(module), attribute)
    return kind
