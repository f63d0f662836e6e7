"""A machine that joins a gateway: it is measured, serves its own engine, and stays until told."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from polysilicon import catalog
from polysilicon.catalog.chips.devices import bindings
from polysilicon.catalog.chips.hardware import Hardware, hardware_of, offer_of
from polysilicon.catalog.fleet import LOCAL, Fleet, OwnPrice, Pool, write_fleet
from polysilicon.catalog.machine import PRICE_VARIABLE, Machine, detect, local_offer
from polysilicon.catalog.offers import Price
from polysilicon.cost.declared import Mismatch, mismatches
from polysilicon.cost.profile import CoreSpeed, find_profile, profile_path, write_profile
from polysilicon.errors import InputError
from polysilicon.gateway.access import add_key
from polysilicon.gateway.joined.joiner import Place, pool_name, shown_address, stay
from polysilicon.gateway.joined.types import JoinAnswer, JoinRequest, Name
from polysilicon.gateway.server import serve
from polysilicon.gateway.settings import Settings, is_loopback
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.calibration.measure import calibrate
from polysilicon.runtime.calibration.rows import write_rows
from polysilicon.runtime.folder import locked

Tell = Callable[[str], None]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How a machine is to join.

    Attributes:
        gateway: its address.
        key: of the gateway; None where it asks for none.
        name: of the pool; None for the host's.
        offer: that the machine is said to be of; None for what its firmware says.
        region: where it is.
        price: which of the offer's prices holds.
        strict: a machine that is not as its offer says does not join.
        model: that it serves; None for the default one.
        endpoint: an engine that is there already; None to serve its own.
        concurrency: steps at once.
        listen: address to listen on.
        port: to listen on; 0 for any.
        folder: of the journal; None for `runs/pool-NAME`.
    """

    gateway: str
    key: str | None = None
    name: str | None = None
    offer: str | None = None
    region: str = ""
    price: Price = "on-demand"
    strict: bool = False
    model: str | None = None
    endpoint: str | None = None
    concurrency: int = 8
    listen: str = "127.0.0.1"
    port: int = 0
    folder: Path | None = None


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What is told once a machine has joined.

    Attributes:
        pool: its name.
        gateway: that it joined.
        endpoint: at which the gateway finds it.
        model: that it serves.
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
    offer: str
    usd_per_hour: float
    processor: str
    hardware: Hardware
    mismatches: list[Mismatch]
    seconds: float


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the machine before it serves; `priced` are fields of a `JoinRequest`."""

    hardware: Hardware
    speed: CoreSpeed | None
    offer: str
    priced: dict[str, Any]


async def join(
    wanted: Wanted, tell: Tell, joined: Callable[[Joined], None], since_s: Callable[[], float]
) -> None:
    """Join a gateway with this machine, and serve it until SIGTERM or Ctrl-C.

    Args:
        wanted: how.
        tell: takes progress, for a person.
        joined: called once it has joined.
        since_s: tells the seconds since that was asked for.

    Raises:
        InputError: the gateway refuses the machine, or it is not as its offer says.
        PolysiliconError: the gateway cannot be reached.
    """
    name = _name(wanted.name)
    address = shown_address(wanted.listen, wanted.gateway)
    known = await _known(wanted, tell)
    leaving = asyncio.Event()
    place = Place(gateway=wanted.gateway, pool=name, key=wanted.key)
    with _until_signals(leaving):
        async with _endpoint(wanted, name, address, leaving) as (endpoint, key, model):
            serves: tuple[str, ...] = (f"llm:{model}", f"embed:{model}")
            serves = serves[:1] if wanted.endpoint else serves
            request = JoinRequest(
                id=secrets.token_hex(16), endpoint=endpoint, key=key, model=model, serves=serves,
                concurrency=wanted.concurrency, region=wanted.region, strict=wanted.strict,
                hardware=known.hardware, core_speed=known.speed, **known.priced,
            )  # fmt: skip

            def told(answer: JoinAnswer) -> None:
                joined(
                    Joined(
                        pool=name, gateway=wanted.gateway, endpoint=endpoint, model=model,
                        offer=known.offer, usd_per_hour=answer.usd_per_hour,
                        processor=known.hardware.processor.name, hardware=known.hardware,
                        mismatches=answer.mismatches, seconds=since_s(),
                    )
                )  # fmt: skip

            await stay(place, request, told, leaving)


def _name(given: str | None) -> str:
    """Return the name of the pool.

    Raises:
        InputError: no pool may be called so.
    """
    if given is None:
        return pool_name(socket.gethostname())
    try:
        return msgspec.convert(given, Name)
    except msgspec.ValidationError as error:
        mend = "1 to 63 of a-z, 0-9, '.', '_' and '-'"
        raise InputError("no name of a pool", where=f"--name {given}", mend=mend) from error


async def _known(wanted: Wanted, tell: Tell) -> _Known:
    """Return what is known of this machine, measured where it was not before.

    Raises:
        InputError: there is no such offer, or the machine is not as that says.
    """
    facts, machine = catalog.load(), detect()
    hardware = hardware_of(facts, machine=machine, nvml=bindings())
    offer = wanted.offer or offer_of(hardware, facts)
    declared = facts.offer(offer, wanted.region or None) if offer else None
    speed = await _speed(wanted, machine, tell)
    if declared is None:
        if hardware.accelerators and not os.environ.get(PRICE_VARIABLE):
            what = f"nothing tells what a machine with {hardware.processor.name} costs"
            raise InputError(what, mend=f"give --offer, or set {PRICE_VARIABLE}")
        like = local_offer(facts, machine)
        tell(f"no offer is declared: {like.note}")
        priced: dict[str, Any] = {"usd_per_hour": like.usd_per_hour()}
        return _Known(hardware=hardware, speed=speed, offer=like.note, priced=priced)
    found = mismatches(declared, hardware, speed)
    if found and wanted.strict:
        told = "; ".join(f"{m.what} is {m.found}, {m.declared} declared" for m in found)
        raise InputError(f"this machine is not as {offer} is: {told}", mend="leave out --strict")
    declared.usd_per_hour(wanted.price)
    priced = {"offer": offer, "price": wanted.price}
    return _Known(hardware=hardware, speed=speed, offer=offer, priced=priced)


async def _speed(wanted: Wanted, machine: Machine, tell: Tell) -> CoreSpeed | None:
    """Return how fast the machine's cores are; None where another engine's are what matters."""
    found = find_profile(machine)
    if found.note:
        tell(found.note)
    profile = found.profile
    if profile is None and wanted.endpoint is None:
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
    if wanted.endpoint is not None and wanted.model is not None:
        inner = is_loopback(urlsplit(wanted.endpoint).hostname or "")
        if not inner or is_loopback(address):
            yield wanted.endpoint, None, wanted.model
            return
    folder = wanted.folder or Path("runs") / f"pool-{name}"
    with _owned(folder / "own") as own:
        async with _served(wanted, name, folder, own, leaving) as (port, key, model):
            host = f"[{address}]" if ":" in address else address
            yield f"http://{host}:{port}/v1", key, model


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
    key = add_key(keys, "gateway")  # of this process, for that gateway alone
    write_fleet(_fleet(wanted, name), fleet)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.INFO)
    for noisy in ("uvicorn", "httpx", "httpcore", "mcp", "numexpr"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
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
    """Return what this machine serves: its own engine, or one on its loopback."""
    if wanted.endpoint is None:
        return Fleet(pool=(Pool(name=LOCAL, model=wanted.model, concurrency=wanted.concurrency),))
    engine = Pool(
        name="engine", offer=f"own/{name}", serves=(f"llm:{wanted.model}",), engine="openai",
        endpoint=wanted.endpoint, model=wanted.model, concurrency=wanted.concurrency,
        price=OwnPrice(usd_per_hour=0.0),  # the gateway knows what the machine costs
    )  # fmt: skip
    return Fleet(pool=(Pool(name=LOCAL, serves=("tool:*",)), engine))


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
