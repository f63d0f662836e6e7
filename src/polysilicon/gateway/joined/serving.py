"""A machine that joins a gateway: it is measured, serves its own engine, and stays until told."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.catalog.fleet import LOCAL, Fleet, OwnPrice, Pool, write_fleet
from polysilicon.catalog.machine import Machine
from polysilicon.cost.declared import Mismatch
from polysilicon.cost.profile import CoreSpeed, profile_path, write_profile
from polysilicon.cost.profile_found import find_profile
from polysilicon.errors import InputError
from polysilicon.gateway.access import add_key
from polysilicon.gateway.joined.asking import Asked, Tell, Wanted, check_strictly, served_by, url
from polysilicon.gateway.joined.joiner import stay
from polysilicon.gateway.joined.types import JoinAnswer
from polysilicon.gateway.logs import log_to_stderr
from polysilicon.gateway.server import serve
from polysilicon.gateway.settings import Settings
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.calibration.measure import calibrate
from polysilicon.runtime.calibration.rows import write_rows
from polysilicon.runtime.folder import locked
from polysilicon.runtime.sandboxes import SANDBOXES, available


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What is told once a machine has joined.

    Attributes:
        pool: its name.
        gateway: that it joined.
        endpoint: at which the gateway finds it.
        model: that it serves; blank where it serves none.
        sandboxes: whose code it runs.
        offer: that it is priced as.
        usd_per_hour: that it is priced with.
        processor: that was found.
        hardware: all that was found.
        mismatches: in what it is not as its offer says.
        seconds: since the command began.
    """

    pool: str
    gateway: str
    endpoint: str
    model: str
    sandboxes: tuple[str, ...]
    offer: str
    usd_per_hour: float
    processor: str
    hardware: Hardware
    mismatches: list[Mismatch]
    seconds: float


async def join(
    asked: Asked, tell: Tell, joined: Callable[[Joined], None], since_s: Callable[[], float]
) -> None:
    """Join a gateway with this machine, and serve it until SIGTERM or Ctrl-C.

    Args:
        asked: how, and that the gateway would take it.
        tell: takes progress, for a person.
        joined: called once it has joined.
        since_s: tells the seconds since that was asked for.

    Raises:
        InputError: the gateway refuses the machine, or it is not as its offer says.
        PolysiliconError: the gateway cannot be reached.
    """
    wanted, known, leaving = asked.wanted, asked.known, asyncio.Event()
    speed = await _speed(wanted, asked.machine, tell)
    check_strictly(wanted, known, speed)
    name = asked.place.pool
    with _until_signals(leaving):
        async with _endpoint(wanted, name, asked.address, leaving) as (endpoint, key, model):
            boxes = tuple(box for box in SANDBOXES if available(box) is None)
            request = msgspec.structs.replace(
                asked.request, endpoint=endpoint, key=key, core_speed=speed,
                **served_by(wanted, asked.address, model, boxes),
            )  # fmt: skip

            def told(answer: JoinAnswer) -> None:
                joined(
                    Joined(
                        pool=name, gateway=wanted.gateway, endpoint=endpoint,
                        model=request.model or "", sandboxes=request.sandboxes,
                        offer=known.offer, usd_per_hour=answer.usd_per_hour,
                        processor=known.hardware.processor.name, hardware=known.hardware,
                        mismatches=answer.mismatches, seconds=since_s(),
                    )
                )  # fmt: skip

            await stay(asked.place, request, told, leaving)


async def _speed(wanted: Wanted, machine: Machine, tell: Tell) -> CoreSpeed | None:
    """Return how fast the machine's cores are; None where another engine's are what matters."""
    found = find_profile(machine)
    if found.note:
        tell(found.note)
    profile = found.profile
    if profile is None and not wanted.endpoints and wanted.serves != "code":
        tell("this machine was not measured yet; that takes some minutes, this once")
        profile = await calibrate(machine, wanted.model, lambda *words: tell(": ".join(words)))
        write_profile(profile, profile_path())
        write_rows(profile, profile_path())
    return None if profile is None else profile.core_speed


@asynccontextmanager
async def _endpoint(
    wanted: Wanted, name: str, address: str, leaving: asyncio.Event
) -> AsyncIterator[tuple[str, str | None, str]]:
    """Serve this machine's engine, and give endpoint, key and model.

    An engine that is there already is given as it is, where the gateway can reach it.
    """
    if wanted.direct(address) and wanted.model is not None:
        yield wanted.endpoints[0], None, wanted.model
        return
    folder = wanted.folder or Path("runs") / f"pool-{name}"
    with _owned(folder / "own") as own:
        async with _served(wanted, name, folder, own, leaving) as (port, key, model):
            yield url(address, port), key, model


@contextmanager
def _owned(folder: Path) -> Iterator[Path]:
    """Take the folder of this process's key before another's would be overwritten.

    Raises:
        InputError: another process joined from there, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", where=str(folder)) from error
    except InputError:
        mend = "give each a --name and a --folder of its own"
        raise InputError("another process joined from this folder", where=str(folder.parent),
                         mend=mend) from None  # fmt: skip
    with lock:
        yield folder


@asynccontextmanager
async def _served(
    wanted: Wanted, name: str, folder: Path, own: Path, leaving: asyncio.Event
) -> AsyncIterator[tuple[str, str, str]]:
    """Serve what this machine has behind a new key, and give port, key and model."""
    keys, fleet = own / "keys.toml", own / "fleet.toml"
    keys.unlink(missing_ok=True)
    # Of this process, for that gateway alone.
    key = add_key(keys, "gateway", code=wanted.serves != "models")
    write_fleet(_fleet(wanted, name), fleet)
    log_to_stderr()
    settings = Settings(folder=folder, fleet=fleet, host=wanted.listen, port=wanted.port, keys=keys)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()

    def started(gateway: Gateway, at: str) -> None:
        ready.set_result((gateway.machine.model, at.rpartition(":")[2]))

    serving = asyncio.create_task(serve(settings, started, stop))
    try:
        await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving  # raises what kept it from serving
        model, port = ready.result()
        serving.add_done_callback(lambda _: leaving.set())
        yield port, key, model
    finally:
        stop.set()
        await serving


def _fleet(wanted: Wanted, name: str) -> Fleet:
    """Return what this machine serves: its own engine, those on its loopback, or code alone."""
    if wanted.serves == "code":
        return Fleet(pool=(Pool(name=LOCAL, serves=("tool:*",)),))
    if not wanted.endpoints:
        return Fleet(pool=(Pool(name=LOCAL, model=wanted.model, concurrency=wanted.concurrency),))
    engines = [
        Pool(
            name=f"engine-{number}", offer=f"own/{name}", serves=(f"llm:{wanted.model}",),
            engine="openai", endpoint=endpoint, model=wanted.model,
            concurrency=max(wanted.concurrency // len(wanted.endpoints), 1),
            price=OwnPrice(usd_per_hour=0.0),  # the gateway knows what the machine costs
        )
        for number, endpoint in enumerate(wanted.endpoints, 1)
    ]  # fmt: skip
    return Fleet(pool=(Pool(name=LOCAL, serves=("tool:*",)), *engines))


@contextmanager
def _until_signals(leaving: asyncio.Event) -> Iterator[None]:
    """Leave on SIGTERM and Ctrl-C."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, leaving.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
