"""What a machine that joins tells, and what it and others are told."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.catalog.offers import Price
from polysilicon.cost.declared import Mismatch
from polysilicon.cost.profile import CoreSpeed

Work = Literal["models", "code"]
"""What a machine does for a gateway: it answers with a model, or runs code in sandboxes."""

LEASE_S = 15.0
"""So long a machine may say nothing before it gets no more steps."""

Name = Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$(?!\\n)", max_length=63)]
Text = Annotated[str, Meta(max_length=256)]
Region = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]*$(?!\\n)", max_length=64)]
Model = Annotated[str, Meta(pattern="^[^\\x00-\\x1f\\x7f]+$(?!\\n)", max_length=256)]
Secret = Annotated[str, Meta(pattern="^[\\x21-\\x7e]+$(?!\\n)", max_length=256)]
SandboxName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$(?!\\n)")]
Pattern = Annotated[str, Meta(pattern="^(llm|embed):.", max_length=256)]


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that joins, or says that it is still there.

    Attributes:
        id: of the process that joins; another one may not take its name.
        endpoint: base URL of what it serves, with `/v1`; its host is the address it calls from.
        key: that the endpoint asks for.
        model: that its engine serves; None where it has no engine.
        serves: patterns of step classes, `llm:MODEL` or `embed:MODEL`.
        sandboxes: whose code it runs, at `/v1/code`, on as many cores as it has.
        concurrency: steps of the engine at once.
        tools: the engine knows tools.
        offer: that the machine is said to be of; blank for none.
        region: where it is.
        price: which of the offer's prices holds.
        usd_per_hour: what it costs, where no offer is named.
        hardware: what was found of it.
        core_speed: of its cores as measured.
        strict: a machine that is not as its offer says is refused.
    """

    id: Annotated[str, Meta(min_length=16, max_length=64)]
    endpoint: Annotated[str, Meta(max_length=512)]
    key: Secret | None = None
    model: Model | None = None
    serves: Annotated[tuple[Pattern, ...], Meta(max_length=16)] = ()
    sandboxes: Annotated[tuple[SandboxName, ...], Meta(max_length=16)] = ()
    concurrency: Annotated[int, Meta(ge=1, le=4096)] = 8
    tools: bool = True
    offer: Text = ""
    region: Region = ""
    price: Price = "on-demand"
    usd_per_hour: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    hardware: Hardware
    core_speed: CoreSpeed | None = None
    strict: bool = False


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine that joined is told.

    Attributes:
        pool: its name.
        lease_s: it is drained when it says nothing for so long.
        usd_per_hour: that it is priced with.
        mismatches: in what it is not as its offer says.
    """

    pool: str
    lease_s: float
    usd_per_hour: float
    mismatches: list[Mismatch]


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of the gateway.

    Attributes:
        name: of it.
        offer: that its machines are of.
        region: where.
        model: of its engine.
        serves: patterns of step classes.
        sandboxes: whose code runs there, of its tools; of machines that joined.
        concurrency: steps at once on one of its machines.
        units: machines.
        up: its engine gets steps.
        running: steps.
        waiting: steps.
        joined: it is a machine that joined, and not of the fleet file.
        processor: that was found there; of machines that joined.
        left_s: until it is drained, unless it says that it is there; of machines that joined.
        mismatches: in what it is not as its offer says.
    """

    name: str
    offer: str
    region: str
    model: str
    serves: list[str]
    concurrency: int
    units: int
    up: bool
    running: int
    waiting: int
    joined: bool
    sandboxes: list[str] = []
    processor: str = ""
    left_s: float | None = None
    mismatches: list[Mismatch] = []


class PoolList(msgspec.Struct, frozen=True, kw_only=True):
    """The pools that a key may use."""

    pools: list[PoolView]
