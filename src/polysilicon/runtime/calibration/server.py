"""What a model does in another engine, a server on this machine: measured as the local one is."""

from __future__ import annotations

import random
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from polysilicon.catalog.fleet import LOOPBACK, RECIPES
from polysilicon.cost.llm.loop import BATCH_TOKENS
from polysilicon.cost.profile import LlmProfile
from polysilicon.errors import InputError, nearest
from polysilicon.runtime.calibration.engine import EngineBench, Setting
from polysilicon.runtime.calibration.extent import FULL, Extent
from polysilicon.runtime.calibration.measure import BUDGET_S, SEED, Tell
from polysilicon.runtime.calibration.quiet import listening
from polysilicon.runtime.calibration.trial import trial
from polysilicon.runtime.engines import open_engine
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.servers.recipes import CONTEXT_TOKENS

PRECISION = {"vllm": "bf16"}
"""Of the weights that the recipe for CPUs serves, by engine."""

OURS = "polysilicon"
"""What a gateway says of its models."""

_ASK_S = 10.0
_PORT = 80


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself.

    Attributes:
        engine: its name, one of `RECIPES`.
        version: of the engine; blank where it does not tell.
        model: the name by which it is asked.
        tokens: of prompt and answer together.
    """

    engine: str
    version: str
    model: str
    tokens: int


def told_by(endpoint: str, model: str | None) -> Told:
    """Ask a server what it is.

    Args:
        endpoint: its address, with `/v1`.
        model: that it should serve; its first one where None.

    Raises:
        InputError: it is no server of this machine, does not answer, has not this model, or is of
            an engine that no pool of this machine could have.
    """
    if urlsplit(endpoint).hostname not in LOOPBACK:
        mend = "only what shares its cores is measured; give a port of loopback"
        raise InputError("no server of this machine", where=endpoint, mend=mend)
    base = endpoint.rstrip("/")
    try:
        with httpx.Client(timeout=_ASK_S, trust_env=False) as client:
            models = client.get(f"{base}/models").raise_for_status().json()["data"]
            version = client.get(f"{base.removesuffix('/v1')}/version")
            number = version.json().get("version", "") if version.is_success else ""
        known: dict[str, dict[str, Any]] = {one["id"]: one for one in models}
        name = model or next(iter(known))
    except (httpx.HTTPError, ValueError, LookupError, TypeError, StopIteration) as error:
        reason = str(error) or type(error).__name__
        mend = "start it: `polysilicon pool start vllm-cpu`"
        raise InputError(f"no engine answers: {reason}", where=endpoint, mend=mend) from error
    if name not in known:
        mend = nearest(name, known) or f"it serves {', '.join(known)}"
        raise InputError(f"it does not serve {name!r}", where=endpoint, mend=mend)
    engine = str(known[name].get("owned_by") or "an engine that does not tell its name")
    if engine not in RECIPES:
        mend = f"measure {' or '.join(RECIPES)}; no recipe starts another one on this machine"
        if engine == OURS:
            mend = "leave --endpoint out: that measures the local engine"
        raise InputError(f"{engine} is not measured", where=endpoint, mend=mend)
    return Told(
        engine=engine,
        version=str(number),
        model=name,
        tokens=int(known[name].get("max_model_len") or CONTEXT_TOKENS),
    )


async def measure_server(
    endpoint: str, told: Told, at_once: int, cores: int, tell: Tell, extent: Extent = FULL
) -> tuple[LlmProfile, float]:
    """Measure a server.

    Args:
        endpoint: its address, with `/v1`.
        told: what it says of itself.
        at_once: sequences that it was started for.
        cores: of this machine.
        tell: takes what is being measured, for a person.
        extent: how much is measured.

    Returns:
        What it does, and the mean share of the machine that programs other than the server and this
        one used meanwhile; 0 where nobody tells which process the server is.

    Raises:
        EngineError: it failed, or answered too shortly to be timed.
    """
    beside = listening(urlsplit(endpoint).port or _PORT)
    if beside is None:
        tell(told.engine, "its process cannot be told, so other programs are not watched")
    engine = open_engine("openai", endpoint=endpoint, model=told.model, concurrency=at_once)
    begin_s = time.monotonic()
    setting = Setting(
        threads=cores,
        engine_version=told.version or "unknown",
        slots=at_once,
        slot_tokens=told.tokens,
        batch_tokens=BATCH_TOKENS,
        begin_s=begin_s,
        until_s=begin_s + BUDGET_S,
        extent=msgspec.structs.replace(
            extent, at_once=(*(n for n in extent.at_once if n < at_once), at_once)
        ),
        beside=beside,
    )
    workers = Workers(cores)
    rng = random.Random(SEED)  # noqa: S311 - no secret
    try:
        bench = EngineBench(engine, setting, rng, lambda what: tell(told.engine, what))
        measured = await bench.run(workers)
        tell(told.engine, "a mixed load, to see how well it is predicted")
        scored = await trial(engine, measured, rng, setting, workers)
    finally:
        await workers.close()
        await engine.close()
    found = msgspec.structs.replace(
        measured, engine=told.engine, precision=PRECISION.get(told.engine, ""), trial=scored
    )
    return found, sum(bench.elsewhere) / len(bench.elsewhere)
