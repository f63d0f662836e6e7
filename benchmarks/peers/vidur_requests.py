"""Requests played by Vidur: prints seconds and the times of each request, as JSON.

    python benchmarks/peers/vidur_requests.py CASE

CASE is a JSON file that `benchmarks/simulator.py` writes. The measurements of kernels that Vidur's
predictors learn from are not in its wheel, so an iteration takes what a law of four constants
says; the seconds spent on that law are not counted. Metrics, traces and plots are off, and only
its event loop is timed. All this is in its favour. Its scheduler is Sarathi's (chunked prefill),
its balancing round robin: "least outstanding requests" counts only what waits, and sends all to
the first replica while nothing does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vidur._native.entities import ExecutionTime
from vidur.config import (
    ClusterConfig,
    MetricsConfig,
    ReplicaConfig,
    RoundRobinGlobalSchedulerConfig,
    SarathiSchedulerConfig,
    SimulationConfig,
    TraceRequestGeneratorConfig,
)
from vidur.entities import Batch
from vidur.execution_time_predictor import ExecutionTimePredictorRegistry
from vidur.simulator import Simulator
from vidur.types import ExecutionTimePredictorType

PREDICTED_BY = ExecutionTimePredictorType.RANDOM_FORREST
DAY = "2023-11-16"


class Law:
    """What an iteration takes: a law of four constants."""

    given: dict[str, float]
    seconds_s = 0.0
    iterations = 0

    def __init__(self, **_configs: Any) -> None:
        """Take what Vidur gives to its predictors, and use none of it."""

    def get_execution_time(self, batch: Batch, _stage: int) -> ExecutionTime:
        """Return it as the milliseconds of one layer."""
        begin_s = time.process_time()
        law, seconds = Law.given, 0.0
        contexts = 0
        decoding = False
        for request, tokens in zip(batch.requests, batch.num_q_tokens, strict=True):
            context = request.num_processed_tokens
            if request.is_prefill_complete:
                decoding = True
                contexts += context - 1  # the last token is not in the cache yet
            else:
                seconds += law["token_s"] * tokens
                seconds += law["pair_s"] * tokens * (context + tokens / 2)
        if decoding:
            seconds += law["base_s"] + law["context_s"] * contexts
        taken = ExecutionTime(1, seconds * 1e3, *(0.0,) * 13)
        Law.iterations += 1
        Law.seconds_s += time.process_time() - begin_s
        return taken


def config_of(case: dict[str, Any], folder: Path) -> SimulationConfig:
    """Return the configuration, with the requests written where it reads them."""
    rows = zip(case["ready_s"], case["prompt"], case["output"], strict=True)
    lines = [f"{DAY},{ready_s!r},{prompt},{output}" for ready_s, prompt, output in rows]
    head = "Date,Time,PromptTokenCount,CompletionTokenCount"
    (folder / "requests.csv").write_text("\n".join([head, *lines, ""]))
    longest = max(map(sum, zip(case["prompt"], case["output"], strict=True)))
    return SimulationConfig(
        cluster_config=ClusterConfig(
            num_replicas=case["replicas"],
            replica_config=ReplicaConfig(
                model_name="meta-llama/Llama-3-8B",
                num_pipeline_stages=1,
                tensor_parallel_size=1,
            ),
            global_scheduler_config=RoundRobinGlobalSchedulerConfig(),
            replica_scheduler_config=SarathiSchedulerConfig(
                batch_size_cap=case["slots"], chunk_size=case["batch_tokens"]
            ),
        ),
        request_generator_config=TraceRequestGeneratorConfig(
            trace_file=str(folder / "requests.csv"),
            date=DAY,
            prefill_scale_factor=1,
            decode_scale_factor=1,
            time_scale_factor=1,
            max_tokens=longest,
        ),
        metrics_config=MetricsConfig(
            write_metrics=False,
            enable_chrome_trace=False,
            store_plots=False,
            output_dir=str(folder),
        ),
    )


def main() -> None:
    """Measure and print."""
    logging.disable(logging.CRITICAL)
    case: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    Law.given = case["law"]
    ExecutionTimePredictorRegistry.unregister(PREDICTED_BY)
    ExecutionTimePredictorRegistry.register(PREDICTED_BY, Law)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        simulator = Simulator(config_of(case, Path(folder)))
        # Vidur keeps its requests nowhere else.
        events = simulator._event_queue  # noqa: SLF001
        requests = [event._request for _, event in events]  # noqa: SLF001
        requests.sort(key=lambda request: request.id)
        begin_s = time.process_time()
        simulator.run()
        wall_s = time.process_time() - begin_s - Law.seconds_s
        os.chdir("/")
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "iterations": Law.iterations,
                "restarts": sum(request.num_restarts for request in requests),
                "first_token_s": [float(one.prefill_completed_at) for one in requests],
                "end_s": [float(one.completed_at) for one in requests],
            }
        )
    )


if __name__ == "__main__":
    main()
