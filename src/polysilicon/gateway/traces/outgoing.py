"""The gateway's own steps as OTLP spans to an endpoint, with the names that `export` gives them.

A step is a span once it has ended; a task of `/v1/tasks` is their parent, and is sent when it has
ended. What the endpoint does not take in time is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx
import msgspec
import pyarrow as pa

from polysilicon.errors import InputError
from polysilicon.gateway.feed import Event, Feed
from polysilicon.gateway.state import Gateway
from polysilicon.gateway.tasks.types import OVER, TaskEvent
from polysilicon.gateway.traces.routes import PROTOBUF
from polysilicon.workload.checks import SCHEMA
from polysilicon.workload.exports.otlp import SPANS, SpanIds
from polysilicon.workload.exports.otlp_pieces import ERROR, INTERNAL, UNSET, Ids, ProtoPieces
from polysilicon.workload.exports.otlp_steps import StepPieces
from polysilicon.workload.record import StepRecord

HEADERS_ENV = "OTEL_EXPORTER_OTLP_HEADERS"
"""OpenTelemetry's variable of headers such as keys: `name=value,name=value`."""

MOST_WAITING = 20_000
_EVERY_S = 1.0
_TIMEOUT_S = 10.0
_TRIES = 5
_LAST_S = 5.0
_AGAIN = {408, 429, 502, 503, 504}
_NS = 1_000_000_000
_STORED = pa.schema([field.with_nullable(nullable=True) for field in SCHEMA])
_log = logging.getLogger("polysilicon.gateway")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A task of `/v1/tasks` that has ended; times as in the step record."""

    task: TaskEvent
    begin_s: float
    end_s: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step that has ended, and whether its task is one of `/v1/tasks`."""

    record: StepRecord
    child: bool


class Encoder:
    """Makes requests of steps and tasks.

    Args:
        salt: a number of this gateway's folder, so that ids are the same after a restart.
        start_ns: what times count from, nanoseconds since 1970.
    """

    def __init__(self, salt: int, start_ns: int) -> None:
        self._pieces, self._ids, self._start_ns = ProtoPieces(), SpanIds(salt), start_ns
        self._steps = StepPieces(self._pieces, self._ids.step)
        self._version = version("polysilicon")
        self._resource = [
            self._pieces.text("service.name", "polysilicon"),
            self._pieces.text("service.version", self._version),
        ]

    def request(self, ended: Iterable[Step | Ended]) -> bytes:
        """Return a request with a span for each."""
        found = list(ended)
        steps = [one for one in found if isinstance(one, Step)]
        spans = [self._task(one) for one in found if isinstance(one, Ended)]
        rows = [msgspec.structs.asdict(step.record) for step in steps]
        table = pa.Table.from_pylist(rows, _STORED)
        ids, times = [], []
        for step in steps:
            task = step.record.task_id
            ids.append((self._ids.trace(task), self._ids.task(task) if step.child else b""))
            times.append(self._times(step.record))
        spans += self._steps.spans(table, ids, times)
        return self._pieces.batch(self._resource, self._version, spans)

    def _times(self, step: StepRecord) -> tuple[int, int]:
        told = (step.start_s, step.ready_s, step.arrival_s, step.end_s)
        begin_s = next((value for value in told if value is not None), 0.0)
        end_s = begin_s if step.end_s is None else max(step.end_s, begin_s)
        return self._ns(begin_s), self._ns(end_s)

    def _ns(self, at_s: float) -> int:
        return self._start_ns + round(at_s * _NS)

    def _task(self, ended: Ended) -> bytes:
        task, pieces = ended.task, self._pieces
        told = {
            "polysilicon.task_id": task.task_id,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": task.task_id,
            "gen_ai.agent.name": task.agent,
        }
        attributes = b"".join(pieces.text(key, value) for key, value in told.items())
        failed = task.status != "completed"
        return pieces.span(
            Ids(self._ids.trace(task.task_id), self._ids.task(task.task_id), b""),
            (self._ns(ended.begin_s), self._ns(ended.end_s)),
            pieces.head(f"invoke_agent {task.agent}", INTERNAL),
            (attributes, b"", pieces.status(ERROR if failed else UNSET, task.status * failed)),
        )


class Exporter:
    """Sends what ends to an endpoint.

    Args:
        url: of the endpoint; without a path it is `/v1/traces` there.
        encoder: makes the requests.
        client: sends them.

    Attributes:
        sent: spans that the endpoint took.
        dropped: spans that nobody took, as too many waited or the endpoint failed.

    Raises:
        InputError: this is no URL of HTTP.
    """

    def __init__(self, url: str, encoder: Encoder, client: httpx.AsyncClient) -> None:
        self._url, self._encoder, self._client = endpoint(url), encoder, client
        self._waiting: deque[Step | Ended] = deque()
        self._begun: dict[str, float] = {}
        self.sent = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many spans wait."""
        return len(self._waiting)

    def take(self, event: Event) -> None:
        """Take what happened in the gateway."""
        data = event.data
        if event.kind == "step" and isinstance(data, StepRecord):
            self._put(Step(record=data, child=data.task_id in self._begun))
        elif isinstance(data, TaskEvent):
            if data.status not in OVER:
                self._begun.setdefault(data.task_id, event.at_s)
            else:
                begin_s = self._begun.pop(data.task_id, event.at_s)
                self._put(Ended(task=data, begin_s=begin_s, end_s=event.at_s))

    def _put(self, ended: Step | Ended) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
        else:
            self._waiting.append(ended)

    async def follow(self, feed: Feed) -> None:
        """Take all events from now on."""
        after = feed.seq
        async for event in feed.follow(after):
            self.dropped += event.seq - after - 1
            after = event.seq
            self.take(event)

    async def send_on(self) -> None:
        """Send what waits, again and again."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Send what waits."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(SPANS, len(self._waiting)))]
            body = self._encoder.request(batch)
            try:
                taken = await self._taken(body)
            except asyncio.CancelledError:
                self.dropped += len(batch)
                raise
            self.sent += len(batch) * taken
            self.dropped += len(batch) * (not taken)

    async def _taken(self, body: bytes) -> bool:
        """Send a request until it is taken, refused for good, or tried often enough."""
        why = ""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(2.0 ** (attempt - 1))
            try:
                headers = {"content-type": PROTOBUF}
                answer = await self._client.post(self._url, content=body, headers=headers)
            except httpx.HTTPError as error:
                why = type(error).__name__
                continue
            if answer.is_success:
                return True
            why = f"status {answer.status_code}"
            if answer.status_code not in _AGAIN:
                break
        _log.warning("spans are dropped: the endpoint of --otlp does not take them: %s", why)
        return False

    def lose(self) -> None:
        """Count what still waits as dropped."""
        self.dropped += len(self._waiting)
        self._waiting.clear()


def endpoint(url: str) -> str:
    """Return the address that spans are sent to.

    Raises:
        InputError: this is no URL of HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        mend = "give http://HOST:PORT, or the whole address"
        raise InputError(f"{url!r} is no address of an endpoint", where="--otlp", mend=mend)
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/traces"


def _headers() -> dict[str, str]:
    """Return the headers that the environment names."""
    pairs = (pair.partition("=") for pair in os.environ.get(HEADERS_ENV, "").split(","))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


@asynccontextmanager
async def sending_traces(gateway: Gateway) -> AsyncIterator[None]:
    """Send the gateway's own spans while it serves, where `--otlp` names an endpoint."""
    url = gateway.settings.otlp
    if url is None:
        yield
        return
    start_ns = time.time_ns() - round(gateway.clock() * _NS)
    encoder = Encoder(int.from_bytes(gateway.journal.run.encode()[:15]), start_ns)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers=_headers()) as client:
        exporter = gateway.exporter = Exporter(url, encoder, client)
        tasks = [
            asyncio.create_task(exporter.follow(gateway.feed)),
            asyncio.create_task(exporter.send_on()),
        ]
        await asyncio.sleep(0)  # it follows from here on
        try:
            yield
        finally:
            tasks[1].cancel()
            gateway.feed.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await exporter.flush()
            exporter.lose()
