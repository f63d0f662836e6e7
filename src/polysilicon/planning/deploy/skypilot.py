"""SkyPilot tasks: one for each pool of a placement, or for machines of a plan that are paid alike.

All nodes of a task are machines of one type, so that each pool is a task of its own, in a file of
its own: `sky launch` takes one, and a file of several is a pipeline, of which the next begins when
the one before has ended. Each machine joins the gateway that `--env` and `--secret` name. Source:
https://docs.skypilot.co/en/latest/reference/yaml-spec.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec

from polysilicon.errors import InputError
from polysilicon.planning.deploy.machines import Machines, Served, of_vendors
from polysilicon.planning.deploy.text import yaml_documents

CLOUDS = ("aws", "gcp", "azure", "oci", "lambda", "runpod", "nebius", "fluidstack", "paperspace")
MODEL = "POLYSILICON_MODEL"
"""Environment variable by which a person names the model, where nothing else does."""

_KEY = """umask 077
printenv POLYSILICON_KEY > polysilicon.key
"""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine runs, in Bash.

    Attributes:
        setup: once, before it.
        run: until it ends.
    """

    setup: str
    run: str


ScriptOf = Callable[[Machines, Served | None, str], Script]
"""Returns what machines run for what they are to do, None where a plan does not say, and the kind
of price; raises `InputError` where no command does that."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A task: `units` machines, by on-demand prices or on the spot market."""

    name: str
    machines: Machines
    served: Served | None
    units: float
    price: str


def write(
    each: Sequence[Machines], notes: Sequence[str], script_of: ScriptOf
) -> tuple[dict[str, str], list[str]]:
    """Return a task for each pool by its name, and why others have none.

    Raises:
        InputError: nothing that SkyPilot could rent, or no command serves anything of it.
    """
    mine, left_out = of_vendors(each, CLOUDS, "SkyPilot")
    tasks: dict[str, str] = {}
    refused = []
    for asked in (task for one in mine for task in _tasks(one)):
        try:
            script = script_of(asked.machines, asked.served, asked.price)
        except InputError as error:
            refused.append(f"{asked.name}: {error}")
        else:
            name = next(n for n in _names(asked.name) if n not in tasks)
            tasks[name] = _text(name, asked, script, [*notes, *left_out])
    if not tasks:
        raise InputError("no command serves any of it", where="; ".join(refused))
    return tasks, refused


def _tasks(one: Machines) -> Iterator[_Asked]:
    """Yield what machines of an offer are to do: as placed, or as they are paid."""
    for served in one.served:
        yield _Asked(name=served.pool, machines=one, served=served, units=served.units,
                     price=served.price)  # fmt: skip
    if one.served:
        return
    steady = one.committed + (one.hourly or 0.0)
    for units, price in ((steady, "on-demand"), (one.spot or 0.0, "spot")):
        if units > 0:
            yield _Asked(name=f"{one.label}-{price}", machines=one, served=None, units=units,
                         price=price)  # fmt: skip


def _names(text: str) -> Iterator[str]:
    """Yield names that SkyPilot takes: the text's, then the same with numbers."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    name = "-".join(part for part in kept.split("-") if part)[:60].strip("-") or "pool"
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _text(name: str, asked: _Asked, script: Script, notes: Sequence[str]) -> str:
    """Return a task."""
    one = asked.machines
    variables = {"POLYSILICON_GATEWAY": None} | ({} if asked.served else {MODEL: None})
    task = {
        "name": f"polysilicon-{name}",
        "num_nodes": max(math.ceil(asked.units - 1e-6), 1),
        "envs": variables,
        "secrets": {"POLYSILICON_KEY": None},
        "resources": {
            "infra": f"{one.vendor}/{one.region}",
            "instance_type": one.type,
            "use_spot": asked.price == "spot",
        },
        "setup": script.setup,
        "run": _KEY + script.run,
    }
    if asked.served is None and one.needs:
        notes = [*notes, f"For {', '.join(one.needs)}; {MODEL} says with which model."]
    return yaml_documents([task], notes)
