"""Metrics of tasks, and of traces in and out, read from the state when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from polysilicon.gateway.state import Gateway


class TaskCollector(Collector):
    """Reads what tasks and traces the gateway has and had since its start."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        tasks, traces = self._gateway.tasks, self._gateway.traces
        if tasks is not None:
            now = GaugeMetricFamily(
                "polysilicon_tasks", "Tasks that have not ended.", labels=("agent", "status")
            )
            for labels, count in tasks.count.items():
                now.add_metric(labels, count)
            ended = CounterMetricFamily(
                "polysilicon_tasks_ended", "Tasks that ended.", labels=("agent", "status")
            )
            for labels, count in tasks.ended.items():
                ended.add_metric(labels, count)
            yield from (now, ended)
        if traces is not None:
            accepted = CounterMetricFamily(
                "polysilicon_spans_accepted", "Spans that were taken in.", value=traces.accepted
            )
            rejected = CounterMetricFamily(
                "polysilicon_spans_rejected", "Spans that were not, by reason.", labels=("reason",)
            )
            for reason, count in traces.rejected.items():
                rejected.add_metric((reason,), count)
            yield from (accepted, rejected)
        yield from self._sent()

    def _sent(self) -> Iterator[Metric]:
        exporter = self._gateway.exporter
        if exporter is None:
            return
        for name, text, value in (
            ("sent", "Spans that the endpoint of --otlp took.", exporter.sent),
            ("dropped", "Spans that it did not take.", exporter.dropped),
        ):
            yield CounterMetricFamily(f"polysilicon_spans_{name}", text, value=value)
        yield GaugeMetricFamily(
            "polysilicon_spans_waiting", "Spans that wait for it.", value=exporter.waiting
        )
