"""The socket that a gateway listens on."""

from __future__ import annotations

import socket

from polysilicon.errors import InputError
from polysilicon.gateway.settings import Settings


def listening(settings: Settings) -> socket.socket:
    """Return the socket to listen on.

    Raises:
        InputError: the address cannot be had.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except (OSError, OverflowError) as error:
        raise InputError(f"no such address: {error}", where=where) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        mend = "another program may listen there; give another --port"
        raise InputError(f"cannot listen: {error.strerror}", where=where, mend=mend) from error
    return listener
