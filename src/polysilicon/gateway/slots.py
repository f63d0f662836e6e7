"""Which slot of the engine in this process takes a request that is passed on to its endpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from polysilicon.gateway.bodies import Raws
from polysilicon.runtime.engines.native.slots import MOST_CHARACTERS, Slot, Slots
from polysilicon.runtime.pools import RunningPool


def held(pool: RunningPool, fields: Raws) -> AbstractContextManager[Slot]:
    """Hold a slot for a request; an engine elsewhere chooses for itself.

    Several prompts of one request take several, which the engine chooses, too.

    Args:
        pool: that takes it.
        fields: of the request.
    """
    slots: Slots | None = getattr(pool.engine, "slots", None) if pool.in_process else None
    prompt = bytes(fields.get("messages") or fields.get("prompt") or b"")
    if slots is None or ("messages" not in fields and prompt.lstrip().startswith(b"[")):
        return nullcontext(Slot(None, ""))
    return slots.taken(prompt[:MOST_CHARACTERS].decode(errors="replace"))


def at(body: bytes, slot: Slot) -> bytes:
    """Return the body of a request, an object with fields, for a slot."""
    return body if slot.number is None else b'%b,"id_slot":%d}' % (body[:-1], slot.number)
