"""`/metrics`: what Prometheus scrapes. Sums are read from the state when it asks, not kept twice.

Names begin with `polysilicon_`; docs/serve.md lists them, and grafana.json charts them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polysilicon.gateway.errors import ApiError
from polysilicon.workload.record import StepRecord

if TYPE_CHECKING:
    from polysilicon.gateway.state import Gateway

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_LABELS = ("agent", "kind", "model", "pool")
_SUMS = (
    ("steps", "Steps that ended.", "steps"),
    ("steps_failed", "Steps that did not end well.", "failed"),
    ("prompt_tokens", "Tokens of prompts, cached ones included.", "prompt_tokens"),
    ("cached_tokens", "Tokens of prompts that were found in a prefix cache.", "cached_tokens"),
    ("output_tokens", "Tokens that were written.", "output_tokens"),
    ("busy_seconds", "Seconds in which steps were served.", "busy_s"),
    ("cost_usd", "Dollars of the steps, metered.", "cost_usd"),
    ("energy_joules", "Joules of the steps, where they are known.", "energy_j"),
    ("steps_unpriced", "Steps whose cost is not known, and in no sum.", "unpriced"),
)
"""Name, help, and attribute of `totals.Sums`."""


class Metrics:
    """What is counted as it happens, and the registry that all metrics are in.

    Attributes:
        registry: others add theirs to it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "polysilicon_requests", "Requests, by status of the answer.", ["status"],
            registry=self.registry,
        )  # fmt: skip
        self._service = self._histogram("step_seconds", "Seconds of service of a step.")
        self._first = self._histogram("first_token_seconds", "Seconds from ready to first token.")
        self._queued = self._histogram("queued_seconds", "Seconds that a step waited for a pool.")
        ProcessCollector(registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"polysilicon_{name}", text, ["kind", "pool"], buckets=_SECONDS, registry=self.registry
        )

    def request(self, status: int) -> None:
        """Count a request that ended."""
        self._requests.labels(status).inc()

    def step(self, step: StepRecord) -> None:
        """Count a step that ended."""
        if step.start_s is None or step.end_s is None or step.ready_s is None:
            return
        labels = (step.kind, step.pool or "")
        self._service.labels(*labels).observe(step.end_s - step.start_s)
        self._queued.labels(*labels).observe(step.start_s - step.ready_s)
        if step.first_token_s is not None:
            self._first.labels(*labels).observe(step.first_token_s - step.ready_s)


class StateCollector(Collector):
    """Reads the state of a gateway when Prometheus asks."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for name, text, attribute in _SUMS:
            family = CounterMetricFamily(f"polysilicon_{name}", text, labels=_LABELS)
            for group, sums in self._gateway.totals.by_group.items():
                family.add_metric(group, getattr(sums, attribute))
            yield family
        yield from self._pools()
        yield from self._keys()
        audit = CounterMetricFamily("polysilicon_audit_lost", "Lines of the audit log not written.")
        audit.add_metric((), self._gateway.audit.lost)
        yield audit
        draining = GaugeMetricFamily("polysilicon_draining", "1 while no new calls are taken.")
        draining.add_metric((), float(self._gateway.draining))
        yield draining

    def _pools(self) -> Iterator[Metric]:
        labels = ("pool", "resource")
        running = GaugeMetricFamily("polysilicon_pool_running", "Steps under way.", labels=labels)
        waiting = GaugeMetricFamily("polysilicon_pool_waiting", "Steps that wait.", labels=labels)
        slots = GaugeMetricFamily(
            "polysilicon_pool_slots", "Steps at once, at most.", labels=labels
        )
        up = GaugeMetricFamily("polysilicon_pool_up", "1 where it takes steps.", labels=labels)
        now_s = time.monotonic()
        for pool in self._gateway.machine.pools:
            for resource, gate in pool.gates.items():
                where = (pool.name, resource)
                running.add_metric(where, gate.running)
                waiting.add_metric(where, gate.waiting)
                slots.add_metric(where, gate.cap)
                up.add_metric(where, float(gate.health.up(now_s)))
        yield from (running, waiting, slots, up)

    def _keys(self) -> Iterator[Metric]:
        spent = GaugeMetricFamily(
            "polysilicon_key_spent_usd", "Dollars in this period.", labels=("key",)
        )
        left = GaugeMetricFamily(
            "polysilicon_key_left_usd", "Dollars left of the budget.", labels=("key",)
        )
        running = GaugeMetricFamily("polysilicon_key_running", "Calls under way.", labels=("key",))
        for caller in self._gateway.access.callers:
            if math.isfinite(caller.left_usd):
                left.add_metric((caller.name,), caller.left_usd)
            spent.add_metric((caller.name,), caller.all_usd)
            running.add_metric((caller.name,), caller.running)
        yield from (spent, left, running)


async def scrape(request: Request) -> Response:
    """Answer Prometheus; what others do is seen by keys with `admin` only.

    Raises:
        ApiError: 403; the key may not see it.
    """
    if not request.scope["polysilicon.caller"].key.admin:
        raise ApiError(403, "this key may not see what others do", code="not_admin")
    gateway: Gateway = request.app.state.gateway
    return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)


ROUTES = (Route("/metrics", scrape),)
