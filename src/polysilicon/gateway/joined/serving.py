"""A machine that joins a gateway: it is measured, serves its own engine, and stays until told."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
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
from polysilicon.catalog.offers import Offer, Price
from polysilicon.cost.declared import Mismatch, mismatches
from polysilicon.cost.profile import CoreSpeed, find_profile, profile_path, write_profile
from polysilicon.errors import InputError
from polysilicon.gateway.access import add_key
from polysilicon.gateway.joined.joiner import Place, pool_name, shown_address, stay, try_out
from polysilicon.gateway.joined.types import JoinAnswer, JoinRequest, Name, Work
from polysilicon.gateway.logs import log_to_stderr
from polysilicon.gateway.server import listening, serve
from polysilicon.gateway.settings import Settings, is_loopback
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.calibration.measure import calibrate
from polysilicon.runtime.calibration.rows import write_rows
from polysilicon.runtime.folder import locked
from polysilicon.runtime.models import DEFAULT_MODEL
from polysilicon.runtime.sandboxes import SANDBOXES, available

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
        serves: what it does; None for both, or for models alone where the gateway reaches the
            engine itself.
        model: that it serves; None for the default one.
        endpoints: engines that are there already, with the same model; none to serve its own.
        concurrency: steps of models at once.
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
    serves: Work | None = None
    model: str | None = None
    endpoints: tuple[str, ...] = ()
    concurrency: int = 8
    listen: str = "127.0.0.1"
    port: int = 0
    folder: Path | None = None

    def direct(self, address: str) -> bool:
        """Tell whether the gateway reaches the engine itself, as this machine at `address`."""
        if len(self.endpoints) != 1:
            return False
        inner = is_loopback(urlsplit(self.endpoints[0]).hostname or "")
        return not inner or is_loopback(address)


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


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the machine before it is measured; `priced` are fields of a `JoinRequest`.

    `declared` is the offer that it is said to be of; None where nobody says.
    """

    hardware: Hardware
    offer: str
    declared: Offer | None
    priced: dict[str, Any]


async def join(
    wanted: Wanted, tell: Tell, joined: Callable[[Joined], None], since_s: Callable[[], float]
) -> None:
    """Join a gateway with this machine, and serve it until SIGTERM or Ctrl-C.

    The gateway is asked whether it would take the machine before that is measured for minutes.

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
    if not wanted.direct(address):
        _check_port(wanted)
    machine = detect()
    known = _known(wanted, machine, tell)
    leaving = asyncio.Event()
    place = Place(gateway=wanted.gateway, pool=name, key=wanted.key)
    request = JoinRequest(
        id=secrets.token_hex(16), endpoint=_url(address, wanted.port),
        concurrency=wanted.concurrency, region=wanted.region, strict=wanted.strict,
        hardware=known.hardware, **known.priced, **_served_by(wanted, address, wanted.model),
    )  # fmt: skip
    if await try_out(place, request, leaving) is None:
        return
    speed = await _speed(wanted, machine, tell)
    _check_strictly(wanted, known, speed)
    with _until_signals(leaving):
        async with _endpoint(wanted, name, address, leaving) as (endpoint, key, model):
            request = msgspec.structs.replace(
                request, endpoint=endpoint, key=key, core_speed=speed,
                **_served_by(wanted, address, model),
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

            await stay(place, request, told, leaving)


def _served_by(wanted: Wanted, address: str, model: str | None) -> dict[str, Any]:
    """Return what a machine serves, as fields of a `JoinRequest`."""
    found: dict[str, Any] = {}
    if wanted.serves != "code":
        name = model or DEFAULT_MODEL
        patterns = (f"llm:{name}", f"embed:{name}")
        found = {"model": name, "serves": patterns[:1] if wanted.endpoints else patterns}
    if wanted.serves != "models" and not wanted.direct(address):
        found["sandboxes"] = tuple(box for box in SANDBOXES if available(box) is None)
    return found


def _url(address: str, port: int | str) -> str:
    """Return the base URL of this machine; without a port while that is not known."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}{f':{port}' if port else ''}/v1"


def _check_port(wanted: Wanted) -> None:
    """Raise `InputError` where this machine could not listen."""
    where = Settings(folder=Path(), host=wanted.listen, port=wanted.port)
    listening(where).close()


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


def _known(wanted: Wanted, machine: Machine, tell: Tell) -> _Known:
    """Return what is known of this machine without measuring it.

    Raises:
        InputError: there is no such offer, or the machine is not as that says.
    """
    facts = catalog.load()
    hardware = hardware_of(facts, machine=machine, nvml=bindings())
    offer = wanted.offer or offer_of(hardware, facts)
    if not offer:
        if hardware.accelerators and not os.environ.get(PRICE_VARIABLE):
            what = f"nothing tells what a machine with {hardware.processor.name} costs"
            raise InputError(what, mend=f"give --offer, or set {PRICE_VARIABLE}")
        like = local_offer(facts, machine)
        tell(f"no offer is declared: {like.note}")
        priced: dict[str, Any] = {"usd_per_hour": like.usd_per_hour()}
        return _Known(hardware=hardware, offer=like.note, declared=None, priced=priced)
    declared = facts.offer(offer, wanted.region or None)
    declared.usd_per_hour(wanted.price)
    priced = {"offer": offer, "price": wanted.price}
    known = _Known(hardware=hardware, offer=offer, declared=declared, priced=priced)
    _check_strictly(wanted, known, None)
    return known


def _check_strictly(wanted: Wanted, known: _Known, speed: CoreSpeed | None) -> None:
    """Raise `InputError` where a machine must be as its offer says, and is not."""
    if known.declared is None or not wanted.strict:
        return
    found = mismatches(known.declared, known.hardware, speed)
    if found:
        told = "; ".join(f"{m.what} is {m.found}, {m.declared} declared" for m in found)
        what = f"this machine is not as {known.offer} is: {told}"
        raise InputError(what, mend="leave out --strict")


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
            yield _url(address, port), key, model


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
    key = add_key(keys, "gateway", code=True)  # of this process, for that gateway alone
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
