"""Serves a gateway until it is told to end: signals, draining, reloading, TLS."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from math import ceil
from pathlib import Path

import uvicorn

from polysilicon.catalog.policy import read_policy
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.gateway.access import read_keys
from polysilicon.gateway.app import SERVICES, make_app
from polysilicon.gateway.listening import listening
from polysilicon.gateway.protocol import BoundedHttp
from polysilicon.gateway.settings import Settings, is_loopback
from polysilicon.gateway.state import Gateway, opened
from polysilicon.gateway.tasks.routes import agents_of
from polysilicon.placement.placement_file import read_placement
from polysilicon.planning.plan_file import read_plan

_KEEP_ALIVE_S = 20
_BACKLOG = 2048
_LOOK_S = 1.0
_LAST_S = 1.0
"""Requests that were cancelled at the end have so long to say so."""
_log = logging.getLogger("polysilicon.gateway")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: SIGTERM ends this process well."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.takes_requests = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests, and say so."""
        await super().startup(sockets)
        self.takes_requests.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end, for a time, and tell of it; then close what connections are left."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_S)
        for connection in list(self.server_state.connections):
            connection.transport.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


async def serve(
    settings: Settings,
    started: Callable[[Gateway, str], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, Ctrl-C or `stop`; calls under way are finished first.

    Args:
        settings: how.
        started: called with the state and the address once requests are taken.
        stop: ends serving when it is set; None for the signals of the process.

    Raises:
        InputError: a file is wrong, keys are missing, or the address cannot be had.
    """
    check(settings)
    listener = listening(settings)
    with listener:
        async with opened(settings) as gateway, AsyncExitStack() as stack:
            for service in SERVICES:
                await stack.enter_async_context(service(gateway))
            config = uvicorn.Config(
                make_app(gateway), http=BoundedHttp, ws="none", lifespan="off", log_config=None,
                access_log=False, server_header=False, proxy_headers=False, backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=ceil(settings.drain_s),
                ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key,
            )  # fmt: skip
            server = _Server(config)
            ending = stop or asyncio.Event()
            async with _signals(gateway, ending, take=stop is None), _watched(gateway):
                serving = asyncio.create_task(server.serve([listener]))
                await server.takes_requests.wait()
                started(gateway, _address(settings, listener))
                waiting = asyncio.create_task(ending.wait())
                await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                gateway.draining = True
                gateway.feed.close()
                server.should_exit = True
                await serving


def check(settings: Settings) -> None:
    """Raise `InputError` where nobody should serve like that."""
    if settings.keys is None and not is_loopback(settings.host):
        mend = "give --keys FILE (make one with `polysilicon serve keys`), or --host 127.0.0.1"
        raise InputError("without keys only loopback is served", where=settings.host, mend=mend)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InputError("--tls-cert and --tls-key go together")
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                settings.tls_cert, settings.tls_key
            )
        except (OSError, ssl.SSLError) as error:
            where = f"{settings.tls_cert}, {settings.tls_key}"
            reason = error.strerror or error
            raise InputError(f"no certificate with its key: {reason}", where=where) from error


def check_files(settings: Settings) -> None:
    """Read what a command names, before anything is opened or downloaded for it.

    Raises:
        InputError: a file is missing or wrong, or an agent cannot be had.
    """
    agents_of(settings.agents)
    if settings.keys is not None:
        read_keys(settings.keys)
    if settings.policy is not None:
        read_policy(settings.policy)
    if settings.placement is not None:
        read_placement(settings.placement)
    if settings.plan is not None:
        read_plan(settings.plan)


def _address(settings: Settings, listener: socket.socket) -> str:
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


@asynccontextmanager
async def _signals(gateway: Gateway, ending: asyncio.Event, *, take: bool) -> AsyncIterator[None]:
    """SIGTERM and Ctrl-C end serving, SIGHUP reads the files anew."""
    if not take:
        yield
        return
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(gateway))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGINT, ending.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _reload(gateway: Gateway) -> None:
    """Read the files anew; where one is wrong all stays as it was, and the log says why."""
    try:
        await gateway.reload()
    except PolysiliconError as error:
        _log.error("not reloaded: %s", error)
    else:
        _log.info("reloaded: %s", ", ".join(pool.name for pool in gateway.machine.pools))


@asynccontextmanager
async def _watched(gateway: Gateway) -> AsyncIterator[None]:
    """Read the files anew when one of them changes."""
    settings = gateway.settings
    paths = [path for path in (settings.fleet, settings.policy, settings.keys) if path]

    async def watch() -> None:
        seen = [_stamp(path) for path in paths]
        while True:
            await asyncio.sleep(_LOOK_S)
            now = [_stamp(path) for path in paths]
            if now != seen:
                seen = now
                await _reload(gateway)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells one version of a file from another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
