"""Requests played by vllm-sr-sim: prints seconds and the times of each request, as JSON.

    python benchmarks/peers/fleet_sim_requests.py CASE

CASE is a JSON file that `benchmarks/simulator.py` writes. The GPU and the model are of its own
catalog, the law is what its own builder makes of them, and that law is printed too. Only its event
loop is timed, not the reading of requests.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from fleet_sim.core import Fleet, FleetConfig, PoolConfig, Request
from fleet_sim.gpu_profiles import ComputedProfile, ProfileBuilder, ServingConfig
from fleet_sim.hardware import H100_SXM
from fleet_sim.models import LLAMA_3_1_8B


def law_of(profile: ComputedProfile) -> dict[str, float]:
    """Return the constants of an iteration.

    Its seconds of prefill are max(memory, a·tokens + pair·tokens·(history + tokens/2)); a and pair
    are read off chunks and histories that are large enough to be bound by arithmetic.
    """
    small, large = 4096, 8192
    small_s = profile.prefill_iter_latency(small, 0, 1, 1)
    large_s = profile.prefill_iter_latency(large, 0, 1, 1)
    pair_s = (large_s / large - small_s / small) / (large / 2 - small / 2)
    return {
        "base_s": profile.W,
        "context_s": profile.H / profile.calibration_ctx,
        "token_s": small_s / small - pair_s * small / 2,
        "pair_s": pair_s,
        "kv_tokens": profile.total_kv_blks * profile.blk_size,
    }


def main() -> None:
    """Measure and print."""
    case: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    serving = ServingConfig(chunk=case["batch_tokens"], max_slots=case["slots"])
    profile = ProfileBuilder().build(hw=H100_SXM, model=LLAMA_3_1_8B, cfg=serving)
    # Slots are what the KV cache holds of contexts of this length, at most max_slots.
    context = profile.total_kv_blks * profile.blk_size // case["slots"]
    pool = PoolConfig("h100", profile, case["replicas"], context, lb_strategy="least_loaded")
    fleet = Fleet(FleetConfig(pools=[pool]))
    rows = zip(case["ready_s"], case["prompt"], case["output"], strict=True)
    requests = [
        Request(number, ready_s, prompt, output)
        for number, (ready_s, prompt, output) in enumerate(rows)
    ]
    begin_s = time.process_time()
    done = fleet.run([(request.arrival_time, request) for request in requests])
    wall_s = time.process_time() - begin_s
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "finished": len(done.completed),
                "law": law_of(profile),
                "first_token_s": [one.first_token_time for one in requests],
                "end_s": [one.physical_end_time for one in requests],
            }
        )
    )


if __name__ == "__main__":
    main()
