"""What the tools of MCP take. Their JSON schemas are made of these types; limits are in them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from polysilicon.catalog.offers import Price
from polysilicon.catalog.policy import Policy
from polysilicon.catalog.processors import ProcessorKind
from polysilicon.placement.rates import Sizing
from polysilicon.workload.record import Kind

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Meta(max_length=200)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Tokens = Annotated[int, Meta(ge=0, le=100_000_000)]

_WORKLOAD = (
    "`gateway`, the steps of this gateway; `traces`, what came in at /v1/traces; or the name of a "
    "workload file in the gateway's folder `workloads`."
)
Workload = Annotated[str, Meta(min_length=1, max_length=200, description=_WORKLOAD)]


class RunCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run Python code in a sandbox without files or network; its errors are results."""

    code: Annotated[str, Meta(max_length=200_000, description="What to run.")]
    inputs: Annotated[dict[str, Any], Meta(description="Variables that it finds.")] = {}
    time_s: Annotated[float, Meta(gt=0, le=30, description="Seconds that it may take.")] = 10.0
    memory_mb: Annotated[int, Meta(ge=16, le=1024, description="Memory, in 10^6 bytes.")] = 256


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Find documents of a search index, best first."""

    index: Annotated[str, Meta(max_length=200, description="`agent/index`, or `index` alone.")]
    query: Annotated[str, Meta(max_length=10_000, description="Words.")]
    k: Annotated[int, Meta(ge=1, le=50, description="How many at most.")] = 5


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Estimate seconds, dollars and joules of one step on CPUs, GPUs and ASICs, cheapest first."""

    kind: Kind = "llm"
    model: Annotated[Name | None, Meta(description="Needed for llm and train.")] = None
    prompt: Annotated[Count | None, Meta(description="Prompt tokens.")] = None
    output: Annotated[Tokens | None, Meta(description="Output tokens.")] = None
    cached: Annotated[Tokens | None, Meta(description="Prompt tokens that a cache holds.")] = None
    cpu_s: Annotated[Seconds | None, Meta(description="Core-seconds of a tool.")] = None
    measured_on: Annotated[Name | None, Meta(description="The offer of these.")] = None
    method: Literal["full", "lora"] | None = None
    engine: Name | None = None
    precision: Name | None = None
    count: Annotated[Count | None, Meta(description="Accelerators for one copy.")] = None
    tp: Count | None = None
    dp: Count | None = None
    ep: Count | None = None
    concurrency: Annotated[Count | None, Meta(description="Such steps at once.")] = None
    utilisation: Annotated[float, Meta(ge=0, le=1000)] | None = None
    offers: Annotated[Names, Meta(description="Offers; all by default.")] = ()
    chips: tuple[ProcessorKind, ...] = ()
    region: Name | None = None
    price: Price = "on-demand"
    slo: Annotated[Seconds | None, Meta(description="Only offers as fast as this.")] = None
    slo_ttft: Seconds | None = None
    slo_tpot: Seconds | None = None
    sort: Literal["usd", "speed"] = "usd"
    limit: Annotated[int, Meta(ge=1, le=100, description="How many offers.")] = 10


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Find the cheapest fleet for a workload that meets a policy."""

    workload: Workload = "gateway"
    policy: Policy = Policy()
    offers: Annotated[Names, Meta(description="Names or patterns such as aws/g6*, all.")] = ()
    size_for: Sizing = "peak"


class Describe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what a workload is made of: kinds, models, arrivals, times, shares."""

    workload: Workload = "gateway"
