"""What a machine finds out before it is measured and serves: itself, and whether it may join.

Nothing here takes long, to be imported neither, so that what is wrong is told at once.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from polysilicon import catalog
from polysilicon.catalog.chips.devices import bindings
from polysilicon.catalog.chips.hardware import Hardware, hardware_of, offer_of
from polysilicon.catalog.machine import PRICE_VARIABLE, Machine, detect, local_offer
from polysilicon.catalog.offers import Offer, Price
from polysilicon.cost.declared import mismatches
from polysilicon.cost.profile import CoreSpeed
from polysilicon.errors import InputError
from polysilicon.gateway.joined.joiner import Place, pool_name, shown_address, try_out
from polysilicon.gateway.joined.types import JoinRequest, Name, Work
from polysilicon.gateway.listening import listening
from polysilicon.gateway.settings import Settings, is_loopback
from polysilicon.runtime.models import DEFAULT_MODEL, served_name

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


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the machine before it is measured; `priced` are fields of a `JoinRequest`.

    `declared` is the offer that it is said to be of; None where nobody says.
    """

    hardware: Hardware
    offer: str
    declared: Offer | None
    priced: dict[str, Any]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that the gateway would take.

    Attributes:
        wanted: how it is to join.
        machine: what it is.
        known: what is known of it.
        place: where it joins.
        address: at which the gateway finds it.
        request: what it told, as far as that is known before it serves.
    """

    wanted: Wanted
    machine: Machine
    known: Known
    place: Place
    address: str
    request: JoinRequest


async def ask(wanted: Wanted, tell: Tell) -> Asked:
    """Ask a gateway whether it would take this machine.

    Args:
        wanted: how it is to join.
        tell: takes progress, for a person.

    Raises:
        InputError: the gateway would refuse it, it is not as its offer says, or cannot listen.
        PolysiliconError: the gateway cannot be reached.
    """
    name = _name(wanted.name)
    address = shown_address(wanted.listen, wanted.gateway)
    if not wanted.direct(address):
        # Another process may take the port meanwhile; then that is told later.
        listening(Settings(folder=Path(), host=wanted.listen, port=wanted.port)).close()
    machine = detect()
    known = known_of(wanted, machine, tell)
    place = Place(gateway=wanted.gateway, pool=name, key=wanted.key)
    request = JoinRequest(
        id=secrets.token_hex(16), endpoint=url(address, wanted.port),
        concurrency=wanted.concurrency, region=wanted.region, strict=wanted.strict,
        hardware=known.hardware, **known.priced,
        **served_by(wanted, address, _model(wanted), ("monty",)),
    )  # fmt: skip
    await try_out(place, request)
    return Asked(wanted=wanted, machine=machine, known=known, place=place, address=address,
                 request=request)  # fmt: skip


def _model(wanted: Wanted) -> str | None:
    """Return the model as its engine will call it; that of another's engine is as it is given."""
    if wanted.model is None or wanted.endpoints:
        return wanted.model
    return served_name(wanted.model)


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


def served_by(
    wanted: Wanted, address: str, model: str | None, sandboxes: Sequence[str]
) -> dict[str, Any]:
    """Return what a machine serves, as fields of a `JoinRequest`."""
    found: dict[str, Any] = {}
    if wanted.serves != "code":
        name = model or DEFAULT_MODEL
        patterns = (f"llm:{name}", f"embed:{name}")
        found = {"model": name, "serves": patterns[:1] if wanted.endpoints else patterns}
    if wanted.serves != "models" and not wanted.direct(address):
        found["sandboxes"] = tuple(sandboxes)
    return found


def url(address: str, port: int | str) -> str:
    """Return the base URL of this machine; without a port while that is not known."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}{f':{port}' if port else ''}/v1"


def known_of(wanted: Wanted, machine: Machine, tell: Tell) -> Known:
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
        return Known(hardware=hardware, offer=like.note, declared=None, priced=priced)
    declared = facts.offer(offer, wanted.region or None)
    declared.usd_per_hour(wanted.price)
    priced = {"offer": offer, "price": wanted.price}
    known = Known(hardware=hardware, offer=offer, declared=declared, priced=priced)
    check_strictly(wanted, known, None)
    return known


def check_strictly(wanted: Wanted, known: Known, speed: CoreSpeed | None) -> None:
    """Raise `InputError` where a machine must be as its offer says, and is not."""
    if known.declared is None or not wanted.strict:
        return
    found = mismatches(known.declared, known.hardware, speed)
    if found:
        told = "; ".join(f"{m.what} is {m.found}, {m.declared} declared" for m in found)
        what = f"this machine is not as {known.offer} is: {told}"
        raise InputError(what, mend="leave out --strict")
