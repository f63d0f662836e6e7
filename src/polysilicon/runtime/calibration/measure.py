"""All parts of the calibration, one after the other; a part that fails leaves the others."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

import msgspec

from polysilicon.catalog.fleet import LOCAL, Pool
from polysilicon.catalog.machine import Machine
from polysilicon.cost.engine_choice import (
    EngineChoice,
    choices_path,
    version_in_use,
    write_choice,
)
from polysilicon.cost.profile import LlmProfile, Profile, SandboxStart, TrainSpeed
from polysilicon.errors import PolysiliconError
from polysilicon.runtime import models
from polysilicon.runtime.calibration import training
from polysilicon.runtime.calibration.engine import EngineBench, Setting
from polysilicon.runtime.calibration.extent import FULL, Extent
from polysilicon.runtime.calibration.quiet import Watch
from polysilicon.runtime.calibration.speed import core_speed, memory_bandwidth
from polysilicon.runtime.calibration.starts import sandbox_start, search_speed
from polysilicon.runtime.calibration.trial import trial
from polysilicon.runtime.engines import open_engine
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.engines.native.choice import chosen
from polysilicon.runtime.engines.native.search import Search, known
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.sandboxes import SANDBOXES

T = TypeVar("T")
Tell = Callable[[str, str], None]
"""`tell(part, what)`: what is being measured now."""

BUDGET_S = 150.0
"""After so long nothing is measured any more that can be done without; what is under way ends."""

LLM_LEAST_S = 60.0
"""Of the model, whatever time is left, as after a download."""

_TRAIN_S = 20.0
"""What is kept of the time for training, where it is timed."""

SEED = 3


@dataclass(slots=True)
class _Parts:
    """What was measured so far, and what failed."""

    tell: Tell
    found: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    async def add(self, part: str, measure: Callable[[], Awaitable[Any]]) -> None:
        """Measure a part."""
        self.tell(part, "")
        try:
            self.found[part] = await measure()
        except (PolysiliconError, OSError, MemoryError) as error:
            self.failed[part] = " ".join(str(error).split()) or type(error).__name__


async def calibrate(
    machine: Machine, model: str | None, tell: Tell, extent: Extent = FULL
) -> Profile:
    """Measure this machine.

    Args:
        machine: what it is.
        model: name, path or URL of the local model; the default one where None.
        tell: takes what is being measured, for a person.
        extent: how much is measured.
    """
    begin_s = time.monotonic()
    watch = Watch(machine.cores)
    parts = _Parts(tell)
    name = model or models.DEFAULT_MODEL
    await parts.add(
        "core speed", lambda: asyncio.to_thread(core_speed, machine.cores, extent.text_bytes)
    )
    await parts.add(
        "memory bandwidth",
        lambda: asyncio.to_thread(memory_bandwidth, machine.cores, extent.array_bytes),
    )
    for sandbox in SANDBOXES:
        await parts.add(f"sandbox {sandbox}", _start_of(sandbox, machine.cores))
    await parts.add("search", lambda: asyncio.to_thread(search_speed, extent.documents))
    elsewhere = [watch.elsewhere()]

    if extent.search:
        await parts.add("engine", lambda: asyncio.to_thread(_fit_engine, name, machine, tell))
    trains = extent.train and training.can_train()
    end_s = begin_s + BUDGET_S - (_TRAIN_S if trains else 0.0)
    until_s = max(end_s, time.monotonic() + LLM_LEAST_S)

    async def llm() -> LlmProfile:
        opened = await _open(name, machine, until_s, extent, tell)
        return await _llm(*opened, tell, elsewhere)

    await parts.add("llm", llm)
    measured: LlmProfile | None = parts.found.get("llm")
    if trains:
        await parts.add("train", lambda: _train(name, machine, until_s, extent))
    return Profile(
        version=version("polysilicon"),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.monotonic() - begin_s,
        cpu=machine.cpu,
        arch=machine.arch,
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
        elsewhere=sum(elsewhere) / len(elsewhere),
        core_speed=parts.found.get("core speed"),
        memory_bandwidth=parts.found.get("memory bandwidth"),
        sandboxes={
            box: parts.found[f"sandbox {box}"]
            for box in SANDBOXES
            if f"sandbox {box}" in parts.found
        },
        search=parts.found.get("search"),
        llm={measured.model: measured} if measured is not None else {},
        train=parts.found.get("train", {}),
        failed=parts.failed,
    )


def _start_of(sandbox: str, workers: int) -> Callable[[], Awaitable[SandboxStart]]:
    """Return what measures a sandbox."""
    return lambda: sandbox_start(sandbox, workers)


async def _train(
    name: str, machine: Machine, until_s: float, extent: Extent
) -> dict[str, TrainSpeed]:
    """Return how fast adapters of a model are trained and served, by its name.

    Raises:
        PolysiliconError: the model cannot be had, or not be trained.
    """
    path = await asyncio.to_thread(models.pull, name)
    speed = await training.train_speed(str(path), machine.cores)
    engine, setting = await _open(name, machine, until_s, extent, lambda _part, _what: None)
    rng = random.Random(SEED)  # noqa: S311 - no secret
    try:
        found = await training.served(engine, str(path), setting.slots, rng)
    finally:
        await engine.close()
    whole = msgspec.structs.replace(
        speed, served=found.times, beside=found.beside, load_s=found.load_s
    )
    return {models.model_name(path): whole}


def _fit_engine(name: str, machine: Machine, tell: Tell) -> EngineChoice:
    """Return what the model is served with, searched for where nothing is known; see `search`.

    Raises:
        PolysiliconError: the model cannot be had, or not be timed.
    """
    path = models.pull(name)
    found = known(path, machine)
    if found is None:
        found = Search(path, machine, lambda what: tell("engine", what)).run()
        write_choice(models.model_name(path), found, choices_path())
    return found


async def _open(
    name: str, machine: Machine, until_s: float, extent: Extent, tell: Tell
) -> tuple[LlamaCpp, Setting]:
    """Open the engine as the runtime opens it.

    Raises:
        InputError: the model cannot be had.
    """
    tell("llm", "loading the model")
    path = await asyncio.to_thread(models.pull, name)
    slots = Pool(name=LOCAL).concurrency
    setup = chosen(path, machine.cores, machine).setup
    engine = await asyncio.to_thread(
        open_engine, "llama.cpp", path=path, concurrency=slots, setup=setup
    )
    assert isinstance(engine, LlamaCpp)
    return engine, Setting(
        threads=machine.cores,
        engine_version=version_in_use(engine.name, engine.model, machine, choices_path()),
        slots=slots,
        slot_tokens=engine.context_tokens,
        batch_tokens=setup.batch,
        begin_s=time.monotonic(),
        until_s=until_s,
        extent=extent,
    )


async def _llm(
    engine: LlamaCpp, setting: Setting, tell: Tell, elsewhere: list[float]
) -> LlmProfile:
    """Measure the local model, and close its engine.

    Raises:
        EngineError: the engine failed.
    """
    workers = Workers(setting.threads)
    rng = random.Random(SEED)  # noqa: S311 - no secret
    try:
        bench = EngineBench(engine, setting, rng, lambda what: tell("llm", what))
        measured = await bench.run(workers)
        elsewhere.extend(bench.elsewhere)
        tell("llm", "a mixed load, to see how well it is predicted")
        scored = await trial(engine, measured, rng, setting, workers)
        return msgspec.structs.replace(measured, trial=scored)
    finally:
        await workers.close()
        await engine.close()
