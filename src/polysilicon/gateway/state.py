"""What the parts of the gateway share: the fleet at work, the journal, callers, events, sums."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

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
from polysilicon.gateway.settings import Settings
from polysilicon.gateway.tasks.service import Tasks, Wall
from polysilicon.gateway.totals import Totals
from polysilicon.gateway.traces.store import TraceStore
from polysilicon.runtime.dispatch import Dispatcher, check_fleet
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.folder import locked
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.journal import Journal, last_end_s
from polysilicon.runtime.journals import open_journal, open_shared, shared_address
from polysilicon.runtime.machine import Machine, open_machine, reopened
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import ANY_MODEL, StepCall, TaskState
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.types import Engine
from polysilicon.workload.record import RunInfo, StepRecord
from polysilicon.workload.run_folder import RunFolder

if TYPE_CHECKING:
    from polysilicon.gateway.joined.register import Register
    from polysilicon.gateway.mcp.sessions import Sessions
    from polysilicon.gateway.shared import SharedRetention
    from polysilicon.gateway.traces.outgoing import Exporter
    from polysilicon.runtime.journals.shared import SharedJournal

NAME = "gateway"
_SAVE_S = 1.0


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
        shared: the journal, where other gateways share it.
        clock: seconds since the folder's first start, downtime left out; of a shared journal since
            it was made, by its database's clock.
        audit: the log of all requests.
        metrics: what Prometheus scrapes.
        retention: lets the journal forget what is old.
        wall: the time of day.
        outside: tasks of agents that run elsewhere and call `/v1`.
        forwarders: connections to the engines' endpoints, those of clusters left out.
        tasks: the tasks of `/v1/tasks`; None before they are served.
        traces: what came in at `/v1/traces`; None before they are served.
        exporter: sends spans to `--otlp`; None where there is none.
        mcp: the sessions of `/mcp`; None before they are served.
        joined: the pools of machines that joined, beside those of the fleet file.
        register: takes machines in; None before they are.
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
    retention: Retention | SharedRetention
    shared: SharedJournal | None = None
    wall: Wall = time.time
    outside: OutsideTasks = field(default_factory=OutsideTasks)
    forwarders: dict[Engine, Forwarder] = field(default_factory=dict)
    tasks: Tasks | None = None
    traces: TraceStore | None = None
    exporter: Exporter | None = None
    mcp: Sessions | None = None
    joined: list[RunningPool] = field(default_factory=list)
    register: Register | None = None
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

    @asynccontextmanager
    async def forwarder(self, engine: Engine) -> AsyncIterator[Forwarder]:
        """Yield the connections to an engine's endpoint; of several machines, take a slot of one.

        Raises:
            EngineError: it has none.
        """
        several, address = getattr(engine, "forwarder", None), getattr(engine, "address", None)
        if address and engine not in self.forwarders:
            self.forwarders[engine] = Forwarder(address, getattr(engine, "key", None))
        async with several() if several else nullcontext(self.forwarders.get(engine)) as found:
            if found is None:
                raise EngineError(f"engine {engine.name} has no endpoint to forward to", down=True)
            yield found

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
        own = [pool for pool in machine.pools if pool not in self.joined]
        own = await reopened(machine, settings.fleet) if settings.fleet else own
        try:
            self._take(own, self.joined, policy)
        except InputError:
            await machine.discard(own)
            raise

    async def join(self, come: list[RunningPool], gone: list[RunningPool]) -> None:
        """Work with other machines' pools, but those put out; `InputError` where policy forbids."""
        async with self._reloading:
            own = [pool for pool in self.machine.pools if pool not in self.joined]
            stay = [pool for pool in self.joined if pool not in gone]
            self._take(own, [*stay, *come], self.policy)

    def _take(self, own: list[RunningPool], joined: list[RunningPool], policy: Policy) -> None:
        """Work with pools of the fleet file and of machines; `InputError` where policy forbids."""
        names = {pool.name for pool in own}  # they put out machines that joined
        joined = [pool for pool in joined if pool.name not in names]
        machine, pools = self.machine, [*own, *joined]
        check_fleet(pools, policy)
        machine.take(pools)
        dispatcher = _dispatcher(pools, policy, self.feed, self.totals)
        self.joined = joined
        engines = {pool.engine for pool in pools if pool.engine}
        for engine in [engine for engine in self.forwarders if engine not in engines]:
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
    access = Access(settings.keys, folder / "spent.json")
    lock = _locked(folder)
    try:
        address = shared_address(folder, settings.journal)
        shared = open_shared(folder, address, settings.lease_s) if address else None
        journal = shared or open_journal(folder)
        try:
            fleet = str(settings.fleet) if settings.fleet else None
            machine = await open_machine(settings.model, fleet, settings.ray)
            try:
                gateway = _assembled(settings, machine, journal, access, shared)
                await _warmed(gateway)
                if shared is not None:
                    shared.begin()  # last: what holds all threads up would let a lease run out
                async with _kept(gateway):
                    yield gateway
            finally:
                await machine.close()
        finally:
            journal.close()
    finally:
        lock.close()


def _locked(folder: Path) -> IO[bytes]:
    """Take the folder.

    Raises:
        InputError: another gateway has it.
    """
    try:
        return locked(folder)
    except InputError:
        what = "another gateway serves this folder"
        mend = "give each a --folder of its own; they share tasks by --journal postgresql://…"
        raise InputError(what, where=str(folder), mend=mend) from None


def _assembled(
    settings: Settings,
    machine: Machine,
    journal: Journal,
    access: Access,
    shared: SharedJournal | None,
) -> Gateway:
    """Put the parts together, and count what the journal has from before."""
    retention, begin_s = _kept_before(settings, journal, shared)
    policy = read_policy(settings.policy) if settings.policy else Policy()
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
        audit=Audit(settings.folder), metrics=metrics, retention=retention, shared=shared,
    )  # fmt: skip


def _kept_before(
    settings: Settings, journal: Journal, shared: SharedJournal | None
) -> tuple[Retention | SharedRetention, float]:
    """Return what was forgotten, and when by `time.monotonic` the gateway's clock was 0."""
    if shared is None:
        own = Retention(journal, settings.folder)
        return own, time.monotonic() - max(last_end_s(journal), own.until_s)
    from polysilicon.gateway.shared import SharedRetention  # noqa: PLC0415 - an extra

    return SharedRetention(shared), shared.begin_s


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

    save_once = _saving(gateway)

    async def save() -> None:
        while True:
            await asyncio.sleep(_SAVE_S)
            with suppress(PolysiliconError):  # the next second, or the end, tries again
                await save_once()

    if gateway.shared is not None:
        await save_once()  # before the first call: what was spent elsewhere counts
    saving = asyncio.create_task(save())
    try:
        yield
    finally:
        saving.cancel()
        gateway.audit.close()
        for forwarder in gateway.forwarders.values():
            forwarder.close()
        await save_once()
        tasks = list(gateway.journal.tasks())
        files.write_tasks(tasks)
        files.write_steps(rooted(gateway.journal.steps()))
        done = not gateway.journal.pending()
        wall_s = gateway.clock()
        files.write_info(
            msgspec.structs.replace(info, wall_s=wall_s, tasks=len(tasks), finished=done)
        )


def _saving(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    """Return what keeps what was spent: in the folder, or where all gateways see it."""
    if gateway.shared is not None:
        from polysilicon.gateway.shared import Spending  # noqa: PLC0415 - an extra

        return Spending(gateway.shared, gateway.access).exchange
    access = gateway.access
    return lambda: asyncio.to_thread(access.save, access.spent())


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway that answers a request."""
    return cast("Gateway", connection.app.state.gateway)


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who makes a request."""
    return cast("Caller", connection.scope["polysilicon.caller"])


def maybe_caller_of(connection: HTTPConnection) -> Caller | None:
    """Return who makes a request; None where the route is to ask for a key."""
    return cast("Caller | None", connection.scope["polysilicon.caller"])
