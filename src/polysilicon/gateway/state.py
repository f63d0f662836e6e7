"""What the parts of the gateway share: the fleet at work, the journal, callers, events, sums."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import HTTPConnection

from polysilicon.catalog.policy import Policy, read_policy
from polysilicon.errors import EngineError, InputError, PolysiliconError
from polysilicon.gateway.access import Access, Caller
from polysilicon.gateway.audit import Audit
from polysilicon.gateway.dashboard.board import Board
from polysilicon.gateway.feed import Feed
from polysilicon.gateway.metrics import Metrics, StateCollector
from polysilicon.gateway.outside import Tasks as OutsideTasks
from polysilicon.gateway.retention import Retention, rooted
from polysilicon.gateway.tasks.service import Tasks, Wall
from polysilicon.gateway.totals import Totals
from polysilicon.gateway.traces.store import TraceStore
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.folder import locked
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.journal import Journal, last_end_s
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.machine import Machine, open_machine, reopened
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import ANY_MODEL, StepCall, TaskState
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.types import Engine
from polysilicon.workload.record import RunInfo, StepRecord
from polysilicon.workload.run_folder import RunFolder

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from polysilicon.gateway.traces.outgoing import Exporter

NAME = "gateway"
_SAVE_S = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve.

    Attributes:
        folder: where the journal, the ledger and the audit log are kept, also over restarts.
        model: of this machine, where there is no fleet file.
        fleet: path of a fleet file; None is this machine alone.
        policy: path of a policy file; None allows everything.
        keys: path of a file of keys; None lets everybody in, which only loopback may.
        host: address to listen on.
        port: to listen on; 0 for any free one.
        names: host names that callers may use, beside addresses and localhost.
        tls_cert: file of a certificate chain; None is plain HTTP.
        tls_key: file of its private key.
        timeout_s: limit of one step.
        placement: path of a placement that the dashboard shows.
        plan: path of a plan that it shows.
        agents: agents that may be asked for beside the bundled ones, as the operator named them.
        otlp: address of an endpoint that gets the gateway's own spans; None for none.
        tasks_at_once: tasks under way at once.
        tasks_waiting: tasks that may wait; more are refused.
        task_timeout_s: limit of a task.
        keep_days: how long steps and tasks that ended are kept; their sums stay.
        drain_s: how long calls that are under way may go on after SIGTERM.
    """

    folder: Path
    model: str | None = None
    fleet: Path | None = None
    policy: Path | None = None
    keys: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    timeout_s: float = 600.0
    placement: Path | None = None
    plan: Path | None = None
    agents: tuple[str, ...] = ()
    otlp: str | None = None
    tasks_at_once: int = 16
    tasks_waiting: int = 1000
    task_timeout_s: float = 1800.0
    keep_days: float = 30.0
    drain_s: float = 30.0


@dataclass(slots=True)
class Gateway:
    """The state of a gateway, from its start to its end. Used from one event loop.

    Attributes:
        settings: how it serves.
        machine: pools with their engines, workers, sandboxes.
        journal: of the gateway's folder; steps of `/v1` calls and tasks of `/v1/tasks` are in it.
        runner: chooses pools and runs steps; all work goes through it.
        resources: what contexts of agents share.
        access: callers.
        feed: what happens.
        totals: the ledger so far, those of earlier starts of the same folder included.
        clock: seconds since the folder's first start, downtime left out.
        audit: the log of all requests.
        metrics: what Prometheus scrapes.
        retention: lets the journal forget what is old.
        wall: the time of day.
        outside: tasks of agents that run elsewhere and call `/v1`.
        forwarders: connections to the engines' endpoints.
        tasks: the tasks of `/v1/tasks`; None before they are served.
        traces: what came in at `/v1/traces`; None before they are served.
        exporter: sends spans to `--otlp`; None where there is none.
        mcp: the sessions of `/mcp`; None before they are served.
        draining: no new calls are taken.
        on_fleet: called after the fleet has changed.
        board: what the dashboard keeps.
    """

    settings: Settings
    machine: Machine
    journal: Journal
    runner: StepRunner
    resources: Resources
    access: Access
    feed: Feed
    totals: Totals
    clock: Callable[[], float]
    audit: Audit
    metrics: Metrics
    retention: Retention
    wall: Wall = time.time
    outside: OutsideTasks = field(default_factory=OutsideTasks)
    forwarders: dict[Engine, Forwarder] = field(default_factory=dict)
    tasks: Tasks | None = None
    traces: TraceStore | None = None
    exporter: Exporter | None = None
    mcp: StreamableHTTPSessionManager | None = None
    draining: bool = False
    on_fleet: list[Callable[[], None]] = field(default_factory=list)
    board: Board = field(init=False)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        """Begin to see what happens.

        Raises:
            InputError: a file that the dashboard is to show is missing or wrong.
        """
        self.board = Board(self)
        self.metrics.registry.register(StateCollector(self))

    @property
    def folder(self) -> Path:
        """The gateway's folder."""
        return self.settings.folder

    @property
    def policy(self) -> Policy:
        """What is allowed and wanted."""
        return self.runner.policy

    def forwarder(self, engine: Engine) -> Forwarder:
        """Return the connections to an engine's endpoint.

        Raises:
            EngineError: it has none.
        """
        if engine not in self.forwarders:
            address = getattr(engine, "address", None)
            if address is None:
                raise EngineError(f"engine {engine.name} has no endpoint to forward to")
            self.forwarders[engine] = Forwarder(address, getattr(engine, "key", None))
        return self.forwarders[engine]

    async def reload(self) -> None:
        """Read the fleet file, the policy and the keys anew; pools that stay keep their engines.

        The keys go first: one that was taken out is out, whatever is wrong with the other files.

        Raises:
            InputError: a file is wrong; what it and those after it tell stays as it was.
        """
        self.access.read()
        async with self._reloading:  # SIGHUP may come while a change is taken up
            await self._reload_fleet()

    async def _reload_fleet(self) -> None:
        """Read the policy and the fleet file anew.

        Raises:
            InputError: one of them is wrong; both stay as they were.
        """
        settings, machine = self.settings, self.machine
        policy = read_policy(settings.policy) if settings.policy else Policy()
        pools = await reopened(machine, settings.fleet) if settings.fleet else machine.pools
        try:
            dispatcher = _dispatcher(pools, policy, self.feed, self.totals)
        except InputError:
            await machine.discard(pools)
            raise
        machine.take(pools)
        for engine in set(self.forwarders) - {pool.engine for pool in pools if pool.engine}:
            self.forwarders.pop(engine).close()
        self.runner.dispatch_by(dispatcher)
        for told in self.on_fleet:
            told()
        self.feed.publish("fleet", [pool.name for pool in self.machine.pools])


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Gateway]:
    """Open a gateway's state, and close it at the end.

    Raises:
        InputError: a file is wrong, or another process has the folder.
        PolysiliconError: the folder cannot be written.
    """
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", where=str(folder)) from error
    policy = read_policy(settings.policy) if settings.policy else Policy()
    access = Access(settings.keys, folder / "spent.json")
    lock = locked(folder)
    try:
        journal = open_journal(folder)
        try:
            fleet = str(settings.fleet) if settings.fleet else None
            machine = await open_machine(settings.model, fleet)
            try:
                gateway = _assembled(settings, machine, journal, access, policy)
                await _warmed(gateway)
                async with _kept(gateway):
                    yield gateway
            finally:
                await machine.close()
        finally:
            journal.close()
    finally:
        lock.close()


def _assembled(
    settings: Settings, machine: Machine, journal: Journal, access: Access, policy: Policy
) -> Gateway:
    """Put the parts together, and count what the journal has from before."""
    retention = Retention(journal, settings.folder)
    begin_s = time.monotonic() - max(last_end_s(journal), retention.until_s)
    totals = Totals()
    totals.include(retention.totals.by_group.items())
    for step in journal.steps():
        totals.add(step)

    def clock() -> float:
        return time.monotonic() - begin_s

    feed = Feed(clock)

    metrics = Metrics()

    def ended(step: StepRecord) -> None:
        totals.add(step)
        metrics.step(step)
        feed.publish("step", step)

    runner = StepRunner(journal, _dispatcher(machine.pools, policy, feed, totals), clock)
    runner.on_begin = lambda step: feed.publish("begin", step)
    runner.on_end = ended
    return Gateway(
        settings=settings, machine=machine, journal=journal, runner=runner, access=access,
        resources=machine.resources(runner, clock), feed=feed, totals=totals, clock=clock,
        audit=Audit(settings.folder), metrics=metrics, retention=retention,
    )  # fmt: skip


async def _warmed(gateway: Gateway) -> None:
    """Choose and wait once, as the first call of each compiled rule takes half a second."""
    call = StepCall(kind="llm", name="chat", model=ANY_MODEL, resource="engine", timeout_s=1.0)
    task = TaskState("", "", 0.0, random.Random(0))  # noqa: S311 - chooses nothing
    if any(pool.serves_call(call) for pool in gateway.machine.pools):
        gateway.runner.try_out(call, task)
    gate = Gate(1)
    await gate.enter(task)
    others = [asyncio.create_task(gate.enter(task)) for _ in range(2)]
    await asyncio.sleep(0)
    for other in others:
        gate.leave(0.0)
        await other
    gate.leave(0.0)


def _dispatcher(pools: list[RunningPool], policy: Policy, feed: Feed, totals: Totals) -> Dispatcher:
    """Return what chooses pools, told what was spent at each vendor before.

    Raises:
        InputError: the policy does not allow the fleet.
    """
    told = len(pools) > 1 or policy != Policy()
    tell = (lambda decision: feed.publish("decision", decision)) if told else None
    dispatcher = Dispatcher(pools, policy, tell)
    offers = {pool.name: pool.offer_name for pool in pools}
    for (_, _, _, pool), sums in totals.by_group.items():
        dispatcher.spend(offers.get(pool), sums.cost_usd)
    return dispatcher


@asynccontextmanager
async def _kept(gateway: Gateway) -> AsyncIterator[None]:
    """Keep what was spent while the gateway runs, and leave a run folder at its end."""
    files = RunFolder(gateway.folder)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    info = RunInfo(
        run=gateway.folder.resolve().name, version=version("polysilicon"), started_at=started,
        agents={}, model=gateway.machine.model, offer=gateway.machine.priced_as,
        fleet=str(gateway.settings.fleet) if gateway.settings.fleet else None,
        policy=str(gateway.settings.policy) if gateway.settings.policy else None,
    )  # fmt: skip
    files.write_info(info)

    async def save() -> None:
        while True:
            await asyncio.sleep(_SAVE_S)
            with suppress(PolysiliconError):  # the next second, or the end, tries again
                await asyncio.to_thread(gateway.access.save, gateway.access.spent())

    saving = asyncio.create_task(save())
    try:
        yield
    finally:
        saving.cancel()
        gateway.audit.close()
        for forwarder in gateway.forwarders.values():
            forwarder.close()
        gateway.access.save(gateway.access.spent())
        tasks = list(gateway.journal.tasks())
        files.write_tasks(tasks)
        files.write_steps(rooted(gateway.journal.steps()))
        done = not gateway.journal.pending()
        wall_s = gateway.clock()
        files.write_info(
            msgspec.structs.replace(info, wall_s=wall_s, tasks=len(tasks), finished=done)
        )


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway that answers a request."""
    gateway: Gateway = connection.app.state.gateway
    return gateway


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who makes a request."""
    caller: Caller = connection.scope["polysilicon.caller"]
    return caller


def maybe_caller_of(connection: HTTPConnection) -> Caller | None:
    """Return who makes a request; None where the route is to ask for a key."""
    caller: Caller | None = connection.scope["polysilicon.caller"]
    return caller
