"""What a machine can do at most for a model: reading its weights, and multiplying 8-bit integers.

Measured, both of them: how fast all cores together read an array as large as the weights, from a
cache where one holds it, else from memory; and how many operations their instructions do.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import msgspec

from polysilicon.catalog.machine import Machine
from polysilicon.runtime.calibration.speed import memory_bandwidth, read_bandwidth
from polysilicon.runtime.engines.native import child
from polysilicon.runtime.engines.native.memory import keys_and_values

COUNT_S = 100.0
"""That counting a model's parameters may take."""

ARRAY_BYTES = 256 * 2**20
_PEAK_S = 0.5


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine can do, measured.

    Attributes:
        bandwidth_gbs: of memory, all cores, triad as in STREAM.
        read_gbs: of reading an array as large as the weights again and again, all cores; median of
            `reads`, which were made before and after each decoding of one sequence.
        int8_tops: 10¹² operations a second of 8-bit integers, all cores; None where no kernels
            were built here, or the CPU has no instructions for them.
        weight_bytes: of the model's file.
        kv_bytes_per_token: keys and values that are read for each token of context; 0 where the
            file's facts do not tell.
        parameters: of the model.
        decode_tokens_per_s: `read_gbs` over the weights, without any context.
        prefill_tokens_per_s: the peak rate over two operations a weight.
    """

    bandwidth_gbs: float
    reads: tuple[float, ...]
    read_gbs: float
    int8_tops: float | None
    weight_bytes: int
    kv_bytes_per_token: int
    parameters: int
    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None

    def decode_at(self, context: float) -> float:
        """Return the ceiling, tokens/s, of one sequence with so many tokens of context."""
        return self.read_gbs * 1e9 / (self.weight_bytes + self.kv_bytes_per_token * context)

    def with_read(self, gbs: float) -> Ceilings:
        """Return them with one more measurement of reading, GB/s."""
        reads = (*self.reads, gbs)
        middle = median(reads)
        return msgspec.structs.replace(
            self,
            reads=reads,
            read_gbs=middle,
            decode_tokens_per_s=middle * 1e9 / self.weight_bytes,
        )


def measure(model: Path, machine: Machine, kernels: Path | None) -> Ceilings:
    """Measure what the machine can do, and what that means for a model.

    Raises:
        EngineError: the model's parameters cannot be counted.
    """
    bandwidth = memory_bandwidth(machine.cores, ARRAY_BYTES).triad_gbs.high
    size = model.stat().st_size
    read_gbs = read_bandwidth(machine.cores, size)
    parameters = child.run(child.Count(weights=str(model)), int, COUNT_S)
    peak = peak_rate(kernels, machine.cores) if kernels is not None else None
    kept = keys_and_values(model)
    return Ceilings(
        bandwidth_gbs=bandwidth,
        reads=(read_gbs,),
        read_gbs=read_gbs,
        int8_tops=peak / 1e12 if peak is not None else None,
        weight_bytes=size,
        kv_bytes_per_token=kept.bytes_per_token if kept is not None else 0,
        parameters=parameters,
        decode_tokens_per_s=read_gbs * 1e9 / size,
        prefill_tokens_per_s=peak / (2 * parameters) if peak is not None else None,
    )


def peak_rate(kernels: Path, cores: int) -> float | None:
    """Return 8-bit operations a second of all cores at once; None where it cannot be measured."""
    rate = getattr(ctypes.CDLL(str(kernels)), "polysilicon_int8_rate", None)
    if rate is None:
        return None
    rate.restype, rate.argtypes = ctypes.c_double, [ctypes.c_double]
    with ThreadPoolExecutor(cores) as pool:
        each: list[float] = list(pool.map(rate, [_PEAK_S] * cores))
    return sum(each) or None
