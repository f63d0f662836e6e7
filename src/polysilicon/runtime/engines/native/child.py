"""Runs what may crash in a process of its own: kernels never tried, files never read.

The job comes as JSON on standard input, the result goes as JSON to standard output. An illegal
instruction, an assertion in C or a job that takes too long is an `EngineError` to whoever asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from polysilicon.errors import EngineError, PolysiliconError
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.quality import Reading, read_text
from polysilicon.runtime.engines.native.shapes import Shape, make
from polysilicon.runtime.engines.native.speed import Extent, Speed, measure
from polysilicon.runtime.engines.native.weights import convert, converted_bytes, parameters

TIMEOUT_S = 240.0

T = TypeVar("T")


class Read(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """Read the fixed text; see `quality.read_text`."""

    weights: str
    kernels: str | None
    threads: int

    def run(self) -> Reading:
        """Do it."""
        kernels = Path(self.kernels) if self.kernels is not None else None
        return read_text(Path(self.weights), kernels, self.threads)


class Convert(msgspec.Struct, frozen=True, kw_only=True, tag="convert"):
    """Convert weights; see `weights.convert`."""

    source: str
    target: str
    kind: str

    def run(self) -> int:
        """Do it."""
        return convert(Path(self.source), Path(self.target), self.kind)


class Size(msgspec.Struct, frozen=True, kw_only=True, tag="size"):
    """Tell how large weights would be in a format; see `weights.converted_bytes`."""

    source: str
    kind: str

    def run(self) -> int:
        """Do it."""
        return converted_bytes(Path(self.source), self.kind)


class Make(msgspec.Struct, frozen=True, kw_only=True, tag="make"):
    """Make a model of a shape; see `shapes.make`."""

    shape: Shape
    source: str
    target: str

    def run(self) -> int:
        """Do it."""
        return make(self.shape, Path(self.source), Path(self.target))


class Count(msgspec.Struct, frozen=True, kw_only=True, tag="count"):
    """Count parameters; see `weights.parameters`."""

    weights: str

    def run(self) -> int:
        """Do it."""
        return parameters(Path(self.weights))


class Time(msgspec.Struct, frozen=True, kw_only=True, tag="time"):
    """Time a model; see `speed.measure`."""

    model: str
    setup: Setup
    extent: Extent

    def run(self) -> Speed:
        """Do it."""
        return measure(Path(self.model), self.setup, self.extent)


Job = Read | Convert | Size | Make | Count | Time


class _Reply(msgspec.Struct):
    result: Any = None
    error: str | None = None


def run(job: Job, result: type[T], timeout_s: float = TIMEOUT_S) -> T:
    """Run a job in a child process.

    Args:
        job: what.
        result: its type.
        timeout_s: after which the child is ended.

    Raises:
        EngineError: it failed, crashed, or took too long.
    """
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(job, enc_hook=str),  # paths are text in JSON
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"took over {timeout_s:.0f} s") from error
    if done.returncode < 0:
        raise EngineError(f"died of {signal.Signals(-done.returncode).name}")
    try:
        reply = msgspec.json.decode(done.stdout, type=_Reply)
    except msgspec.DecodeError as error:
        told = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise EngineError(f"ended with code {done.returncode}: {told or 'no word'}") from error
    if reply.error is not None:
        raise EngineError(reply.error)
    return msgspec.convert(reply.result, result)


def _path(kind: type, value: object) -> object:
    """Read a path, which is text in JSON."""
    return kind(value)


def main() -> None:
    """Do the job on standard input."""
    answer = os.dup(1)
    os.dup2(2, 1)  # C code prints where it likes
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job, dec_hook=_path)
    try:
        reply = _Reply(result=job.run())
    except (PolysiliconError, OSError, MemoryError) as error:
        reply = _Reply(error=" ".join(str(error).split()) or type(error).__name__)
    with os.fdopen(answer, "wb") as stream:
        stream.write(msgspec.json.encode(reply))
    # What C code frees at the end, it frees in an order that nobody tested with other kernels.
    os._exit(0)


if __name__ == "__main__":
    main()
