"""Fleet files: the pools that there are, as TOML.

Example:
    [[pool]]
    name = "here"
    offer = "local"
    serves = ["tool:*", "embed:*", "llm:smollm2-135m-instruct"]
    engine = "llama.cpp"
    concurrency = 8

    [[pool]]
    name = "gpu"
    offer = "aws/g6.xlarge"
    region = "us-east-1"
    serves = ["llm:llama-3.1-8b-instruct"]
    engine = "openai"
    endpoint = "http://127.0.0.1:8000/v1"
    model = "llama-3.1-8b-instruct"
    price = "spot"
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from polysilicon.disk import read_toml, toml_bytes, write_whole
from polysilicon.errors import InputError

LOCAL = "local"

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts of addresses that only this machine reaches."""

RECIPES = {"vllm": "vllm-cpu", "llamacpp": "llama-server"}
"""Engine, as its servers call it → the recipe that starts one on the cores of a machine."""

# Beyond these a figure is a slip of the pen.
MOST_UNITS = 10**12
MOST_AT_ONCE = 10**6


class OwnPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price that the user states."""

    usd_per_hour: float


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Machines of one offer that serve some steps through one engine.

    Attributes:
        name: unique in the fleet.
        offer: `local` or a name of the catalog, such as `aws/m9g.48xlarge`.
        region: where; empty for `local`.
        units: how many machines.
        serves: patterns of step classes: `tool:*`, `llm:MODEL`, `embed:*`.
        engine: what answers `llm` steps: `llama.cpp` in process, or `openai` for an endpoint.
        endpoint: base URL of an `openai` engine, with `/v1`.
        recipe: by which `pool start` starts that engine; None for the one of the offer.
        model: model of the engine: a name, or a path of a GGUF file.
        tools: the endpoint's engine knows tools; where not, the gateway asks it for a call's JSON.
        key_env: environment variable that holds the endpoint's key; no key is sent without it.
        concurrency: `llm` steps at once on one unit.
        prompt_lookup: `llama.cpp` guesses what follows from where the prompt or the answer had the
            same last tokens, and checks the guess in one go: for answers that quote. No estimate
            knows of it.
        threads: that `llama.cpp` computes with, so that tools and training have the other cores;
            None for as many as were found best, mostly all. No estimate knows of it.
        count: accelerators of a unit that one copy of the model takes; None for the fewest that
            hold it. A unit holds as many copies as fit, which share its concurrency.
        price: which of the offer's prices holds, or dollars an hour.
        interruptions_per_hour: how often one machine fails or is taken away, on average.
        restart_s: until a machine in its place serves.
        usd_per_s: dual value of a placement: dollars for one second of a step's share; None for
            the price over what shares a unit.
    """

    name: str
    offer: str = LOCAL
    region: str = ""
    units: int = 1
    serves: tuple[str, ...] = ("*",)
    engine: Literal["llama.cpp", "openai"] = "llama.cpp"
    endpoint: str | None = None
    recipe: str | None = None
    model: str | None = None
    tools: bool = True
    key_env: str | None = None
    concurrency: int = 8
    prompt_lookup: bool = False
    threads: int | None = None
    count: int | None = None
    price: Literal["on-demand", "spot", "1y", "3y"] | OwnPrice = "on-demand"
    interruptions_per_hour: float = 0.0
    restart_s: float = 0.0
    usd_per_s: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether its engine is, or will be, a server that shares the cores of this machine."""
        if self.offer != LOCAL or self.engine != "openai":
            return False
        try:
            return self.endpoint is None or urlsplit(self.endpoint).hostname in LOOPBACK
        except ValueError:  # whoever opens it says so
            return False

    def serves_step(self, kind: str, what: str) -> bool:
        """Tell whether this pool serves steps of `kind` with the model or tool name `what`."""
        return any(fnmatchcase(f"{kind}:{what}", pattern) for pattern in self.serves)


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way between two regions.

    Attributes:
        regions: both.
        delay_s: there and back.
    """

    regions: tuple[str, str]
    delay_s: float


class Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pools, and the ways between their regions; where none is told it takes no time."""

    pool: tuple[Pool, ...]
    link: tuple[Link, ...] = ()


def read_fleet(path: Path) -> Fleet:
    """Read a fleet file.

    Raises:
        InputError: no such file, not TOML, an unknown key, or pools that cannot be. Pools that
            are not there yet are no fault, so that they can be simulated.
    """
    fleet = read_toml(path, Fleet, mend="see docs/running.md and examples/fleet.toml")
    check(fleet, str(path))
    return fleet


def write_fleet(fleet: Fleet, path: Path) -> None:
    """Write a fleet file, all or not at all.

    Raises:
        InputError: the path does not end in `.toml`.
        PolysiliconError: it cannot be written.
    """
    if path.suffix != ".toml":
        raise InputError("a fleet file ends in .toml", where=str(path))
    write_whole(path, toml_bytes(fleet))


def check(fleet: Fleet, where: str) -> None:
    """Raise `InputError` where pools contradict themselves or each other."""
    names = [pool.name for pool in fleet.pool]
    if not names:
        raise InputError("the fleet has no pool", where=where, mend="add a [[pool]]")
    if sum(pool.offer == LOCAL and not pool.is_here for pool in fleet.pool) > 1:
        mend = "one has all its cores; a server beside it has engine openai and listens on loopback"
        raise InputError("two pools have offer local", where=where, mend=mend)
    check_links(fleet.link, where)
    for pool in fleet.pool:
        place = f"{where}, pool {pool.name!r}"
        if names.count(pool.name) > 1:
            raise InputError("two pools have this name", where=place)
        _check_pool(pool, place)


def check_links(links: Sequence[Link], where: str) -> None:
    """Raise `InputError` where ways between regions cannot be, or are told twice."""
    ends = [frozenset(link.regions) for link in links]
    for link in links:
        place = f"{where}, link {' - '.join(link.regions)}"
        if ends.count(frozenset(link.regions)) > 1 or link.regions[0] == link.regions[1]:
            raise InputError("a link is between two regions, and told once", where=place)
        if not 0 <= link.delay_s < math.inf:
            raise InputError("delay_s must be from 0", where=place)


def _check_pool(pool: Pool, place: str) -> None:
    """Raise `InputError` where a pool contradicts itself."""
    if pool.concurrency < 1 or pool.units < 1:
        raise InputError("units and concurrency must be at least 1", where=place)
    if pool.units > MOST_UNITS or pool.concurrency > MOST_AT_ONCE:
        mend = f"at most {MOST_UNITS:,} units and a concurrency of {MOST_AT_ONCE:,}"
        raise InputError("too large", where=place, mend=mend)
    for key, number in (("count", pool.count), ("threads", pool.threads)):
        if number is not None and number < 1:
            raise InputError(f"{key} must be at least 1", where=place)
    if not (0 <= pool.interruptions_per_hour < math.inf and 0 <= pool.restart_s < math.inf):
        raise InputError("interruptions_per_hour and restart_s must be from 0", where=place)
    if pool.usd_per_s is not None and not 0 <= pool.usd_per_s < math.inf:
        raise InputError("usd_per_s must be a number from 0", where=place)
    if isinstance(pool.price, OwnPrice) and not 0 <= pool.price.usd_per_hour < math.inf:
        raise InputError("usd_per_hour must be a number from 0", where=place)


def read_running_fleet(path: Path, *, cluster: bool = False) -> Fleet:
    """Read a fleet file whose pools are there, so that steps can be sent to them from here.

    Args:
        path: of the file.
        cluster: pools may be nodes of a cluster, where tools and llama.cpp run on any offer.

    Raises:
        InputError: as `read_fleet`, or this machine could not reach a pool.
    """
    fleet = read_fleet(path)
    for pool in fleet.pool:
        _check_runs(pool, f"{path}, pool {pool.name!r}", cluster=cluster)
    return fleet


def _check_runs(pool: Pool, place: str, *, cluster: bool) -> None:
    """Raise `InputError` where this machine could not reach a pool."""
    if pool.engine == "openai" and not pool.endpoint:
        raise InputError("engine openai needs an endpoint", where=place, mend='add endpoint = "…"')
    for key, value in (("prompt_lookup", pool.prompt_lookup), ("threads", pool.threads)):
        if pool.engine == "openai" and value:
            mend = "set it where the endpoint's engine is started"
            raise InputError(f"{key} is for llama.cpp in this process", where=place, mend=mend)
    if pool.engine == "openai" and not pool.model:
        raise InputError("engine openai needs a model", where=place, mend='add model = "…"')
    if pool.engine == "llama.cpp" and pool.offer != LOCAL and not cluster:
        mend = "start a server there and use engine openai, or give --ray"
        raise InputError("llama.cpp in process runs only on offer local", where=place, mend=mend)
    if pool.engine == "openai" and any(s.startswith(("tool", "*")) for s in pool.serves):
        mend = 'give serves = ["llm:MODEL"]'
        raise InputError("an endpoint serves no tools", where=place, mend=mend)
