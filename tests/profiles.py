"""Profiles of machines that do not exist, with rates that are known exactly."""

from __future__ import annotations

from polysilicon.catalog.machine import Machine
from polysilicon.cost.engine_choice import engine_version
from polysilicon.cost.profile import (
    CoreSpeed,
    DecodePoint,
    LlmProfile,
    MemoryBandwidth,
    PrefillPoint,
    Profile,
    SandboxStart,
    SearchSpeed,
    StretchPoint,
    TrainSpeed,
    Trial,
    spread,
)

MACHINE = Machine(cpu="Test CPU", arch="x86_64", cores=2, memory_bytes=8 * 2**30)
TOKEN_S = 0.004
PAIR_S = 1e-6
START_S = 0.01
BASE_S = 0.010
SEQUENCE_S = 0.005
CONTEXT_S = 2e-6
"""Seconds of a prompt token, a pair of tokens, an iteration, a sequence, a token of context."""


TRAIN_TOKENS_PER_S = 300.0


def prompt_s(new: float, cached: float = 0.0) -> float:
    return START_S + TOKEN_S * new + PAIR_S * new * (cached + new / 2)


def iteration_s(sequences: float, context: float) -> float:
    return BASE_S + SEQUENCE_S * sequences + CONTEXT_S * sequences * context


def exact(seconds: float):
    return spread([seconds, seconds * 0.98, seconds * 1.02])


def llm_profile(**changes) -> LlmProfile:
    fields = {
        "engine": "llama.cpp",
        "engine_version": engine_version("llama.cpp"),
        "model": "tiny",
        "threads": 2,
        "slots": 8,
        "slot_tokens": 2048,
        "batch_tokens": 2048,
        "prefill_tokens_per_s": 512 / prompt_s(512),
        "decode_tokens_per_s": 1 / iteration_s(1, 64),
        "prefill": tuple(
            PrefillPoint(new_tokens=n, cached_tokens=c, seconds=exact(prompt_s(n, c)))
            for n, c in [(8, 0), (32, 0), (96, 0), (192, 0), (512, 0), (1200, 0), (96, 512)]
        ),
        "decode": tuple(
            DecodePoint(sequences=b, context_tokens=c, seconds=exact(iteration_s(b, c)))
            for b in (1, 2, 4, 8)
            for c in (64.0, 400.0, 1000.0)
        ),
        "stretch": (
            StretchPoint(busy=1, engine=1.2, tool=4.0),
            StretchPoint(busy=2, engine=1.3, tool=6.0),
        ),
        "trial": Trial(
            steps=28,
            median_error=0.04,
            service_low=0.9,
            service_high=1.15,
            ttft_low=0.85,
            ttft_high=1.2,
            tpot_low=0.92,
            tpot_high=1.1,
        ),
    }
    return LlmProfile(**(fields | changes))


def profile(**changes) -> Profile:
    fields = {
        "version": "0.1.0",
        "measured_at": "2026-11-21T12:00:00+00:00",
        "seconds": 120.0,
        "cpu": MACHINE.cpu,
        "arch": MACHINE.arch,
        "cores": MACHINE.cores,
        "memory_bytes": MACHINE.memory_bytes,
        "core_speed": CoreSpeed(
            one_mbs=spread([30.0]),
            all_mbs=spread([27.0]),
            relative=1.2,
            relative_low=1.0,
            relative_high=1.44,
        ),
        "memory_bandwidth": MemoryBandwidth(
            copy_gbs=spread([20.0]), triad_gbs=spread([22.0]), array_bytes=2**28, threads=2
        ),
        "sandboxes": {
            "monty": SandboxStart(startup_s=spread([1e-4]), run_s=spread([1e-3]), first_s=0.01)
        },
        "search": SearchSpeed(query_s=spread([2e-4]), documents=2000, words=8),
        "llm": {"tiny": llm_profile()},
        "train": {
            "tiny": TrainSpeed(
                threads=2,
                precision="bfloat16",
                tokens=360,
                tokens_per_s=exact(TRAIN_TOKENS_PER_S),
                core_s_per_token=exact(2 / TRAIN_TOKENS_PER_S),
                setup_s=4.0,
            )
        },
    }
    return Profile(**(fields | changes))
