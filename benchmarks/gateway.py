"""What the gateway adds: requests a second, delay of tokens, and a real engine's tokens a second.

python benchmarks/gateway.py [LITELLM]

LITELLM is the path of LiteLLM's executable, which then is measured in the same run, in front of the
same endpoint; of an environment of its own: `pip install 'litellm[proxy]'`. Endpoint, gateway and
proxy are processes of their own; the load is this one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

import gateway_load as load
from polysilicon.runtime import assets
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.engines.llamacpp import LlamaCpp

ROUNDS = 3
ITSELF, OURS = "the endpoint itself", "Polysilicon's gateway"
Rows = dict[str, dict[str, str]]
"""Title of a row of the table → way → cell."""

_FLEET = """
[[pool]]
name = "here"
offer = "local"
serves = ["tool:*"]
"""
POOL = """
[[pool]]
name = "{name}"
offer = "own/box"
region = "here"
serves = ["llm:*"]
engine = "openai"
endpoint = "{endpoint}"
model = "{model}"
concurrency = 4096
price = {{ usd_per_hour = 1.0 }}
{more}
"""
"""A pool of an endpoint that runs already."""

_LITELLM = """
model_list:
  - model_name: fast
    litellm_params:
      model: openai/fast
      api_base: {endpoint}
      api_key: none
general_settings:
  master_key: sk-bench
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(
    command: Sequence[str], url: str, log: Path, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it begins once `url` answers anything."""
    with (
        log.open("wb") as sink,
        subprocess.Popen(command, env=os.environ | env, stdout=sink, stderr=sink) as child,
    ):
        try:
            for _ in range(1200):
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(url, timeout=1)
                    break
                if child.poll() is not None:
                    raise SystemExit(f"{command[0]} ended: {log.read_text()[-500:]}")
                time.sleep(0.1)
            yield child
        finally:
            child.terminate()
            child.wait(20)


class Served(msgspec.Struct, frozen=True):
    """A gateway at work: connections to it, its port, and its process."""

    way: Forwarder
    port: int
    pid: int


@contextlib.contextmanager
def gateway(folder: Path, endpoint: str, model: str, more: str = "") -> Iterator[Served]:
    """Serve a fleet of one endpoint; `more` are lines of its pool, or other pools."""
    fleet, port = folder / f"{model}.toml", free_port()
    fleet.write_text(_FLEET + POOL.format(name="engine", endpoint=endpoint, model=model, more=more))
    polysilicon = str(Path(sys.executable).with_name("polysilicon"))
    command = [polysilicon, "serve", "--port", str(port)]
    command += ["--fleet", str(fleet), "--folder", str(folder / f"gateway-{model}")]
    base = f"http://127.0.0.1:{port}"
    with process(command, f"{base}/readyz", folder / f"gateway-{model}.log") as child:
        yield Served(Forwarder(f"{base}/v1"), port, child.pid)


@contextlib.contextmanager
def litellm(executable: str, folder: Path, endpoint: str) -> Iterator[Forwarder]:
    """Serve the endpoint through LiteLLM's proxy."""
    config, port = folder / "litellm.yaml", free_port()
    config.write_text(_LITELLM.format(endpoint=endpoint))
    command = [executable, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    base = f"http://127.0.0.1:{port}"
    with process(command, f"{base}/health/liveliness", folder / "litellm.log",
                 LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR"):  # fmt: skip
        yield Forwarder(f"{base}/v1", "sk-bench")


def ms(values: Sequence[float], share: float) -> float:
    """Return a quantile in milliseconds."""
    return float(np.quantile(values, share)) * 1e3


async def compared(ways: dict[str, Forwarder], seconds: float) -> Rows:
    """Measure the ways in turn, so that what disturbs the machine disturbs all."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    delays: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            rate, found = await load.requests_per_s(way, "fast", 16, seconds)
            rates[name].append(rate)
            times[name] += found
    for _ in range(ROUNDS):
        for name, way in ways.items():
            delays[name] += await load.delays_s(way, "fast", 64)
    rows: Rows = {"requests/s, 16 at once": {n: f"{np.median(r):,.0f}" for n, r in rates.items()}}
    return rows | quantiles("a request", times) | quantiles("a token, 64 streams of 50/s", delays)


def quantiles(what: str, found: dict[str, list[float]]) -> Rows:
    """Return the rows of times: median and p99 in milliseconds, and what is added to the first."""
    rows: Rows = {}
    base = next(iter(found.values()))
    for title, share in (("p50", 0.5), ("p99", 0.99)):
        rows[f"{what}: {title} ms"] = {n: f"{ms(times, share):.2f}" for n, times in found.items()}
        rows[f"{what}: adds {title} ms"] = {
            name: "" if times is base else f"{ms(times, share) - ms(base, share):.2f}"
            for name, times in found.items()
        }
    return rows


async def real_engine(folder: Path) -> Rows:
    """Measure the tokens a second of llama.cpp, directly and through the gateway, in turn."""
    engine = LlamaCpp(assets.fetch("smollm2-135m-instruct"), concurrency=4, threads=1)
    os.environ["ENGINE_KEY"] = engine.key
    with gateway(folder, engine.address, engine.model, 'key_env = "ENGINE_KEY"') as through:
        ways = {ITSELF: Forwarder(engine.address, engine.key), OURS: through.way}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(2 * ROUNDS):
            for name, way in ways.items():
                rates[name].append(await load.tokens_per_s(way, engine.model, 4, 32))
    await engine.close()
    ratios = np.array(rates[OURS]) / np.array(rates[ITSELF])
    return {
        "llama.cpp on one core: tokens/s": {n: f"{np.median(r):.1f}" for n, r in rates.items()},
        "of its own tokens/s": {OURS: f"{np.median(ratios):.1%}"},
        "the rounds of that": {OURS: f"{ratios.min():.1%} to {ratios.max():.1%}"},
    }


def main() -> None:
    """Measure, and print one table."""
    port = free_port()
    here = Path(__file__).resolve().parent
    command = [sys.executable, str(here / "gateway_load.py"), "endpoint", str(port)]
    endpoint = f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(process(command, endpoint, folder / "endpoint.log"))
        ways = {ITSELF: Forwarder(endpoint)}
        ways[OURS] = stack.enter_context(gateway(folder, endpoint, "fast")).way
        if len(sys.argv) > 1:
            proxy = litellm(sys.argv[1], folder, endpoint)
            ways["LiteLLM's proxy"] = stack.enter_context(proxy)
        rows = uvloop.run(compared(ways, 3.0))
    with tempfile.TemporaryDirectory() as name:
        rows |= uvloop.run(real_engine(Path(name)))
    table = Table(f"load average {os.getloadavg()[0]:.1f}", *ways)
    for title, values in rows.items():
        table.add_row(title, *(values.get(way, "") for way in ways))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
