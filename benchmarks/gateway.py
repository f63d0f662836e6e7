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


async def compared(ways: dict[str, Forwarder], seconds: float) -> None:
    """Measure the ways in turn, so that what disturbs the machine disturbs all, and print that."""
    table = Table("16 requests at once", "requests/s", "p50 ms", "p99 ms", "adds p50", "adds p99")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            rate, found = await load.requests_per_s(way, "fast", 16, seconds)
            rates[name].append(rate)
            times[name] += found
    base = times["the endpoint itself"]
    for name, found in times.items():
        added = [f"{ms(found, q) - ms(base, q):.2f}" for q in (0.5, 0.99)]
        rate = f"{np.median(rates[name]):,.0f}"
        table.add_row(name, rate, f"{ms(found, 0.5):.2f}", f"{ms(found, 0.99):.2f}", *added)
    Console().print(table)
    table = Table("64 streams, 50 tokens/s each", "p50 ms", "p99 ms", "adds p50", "adds p99")
    delays: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            delays[name] += await load.delays_s(way, "fast", 64)
    base = delays["the endpoint itself"]
    for name, found in delays.items():
        added = [f"{ms(found, q) - ms(base, q):.2f}" for q in (0.5, 0.99)]
        table.add_row(name, f"{ms(found, 0.5):.2f}", f"{ms(found, 0.99):.2f}", *added)
    Console().print(table)


async def real_engine(folder: Path) -> None:
    """Measure the tokens a second of llama.cpp, directly and through the gateway, in turn."""
    engine = LlamaCpp(assets.fetch("smollm2-135m-instruct"), concurrency=4, threads=1)
    os.environ["ENGINE_KEY"] = engine.key
    with gateway(folder, engine.address, engine.model, 'key_env = "ENGINE_KEY"') as through:
        ways = {
            "directly": Forwarder(engine.address, engine.key),
            "through the gateway": through.way,
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(2 * ROUNDS):
            for name, way in ways.items():
                rates[name].append(await load.tokens_per_s(way, engine.model, 4, 32))
    ratios = np.array(rates["through the gateway"]) / np.array(rates["directly"])
    table = Table("llama.cpp on one core, 4 streams", "tokens/s")
    for name, found in rates.items():
        table.add_row(name, f"{np.median(found):.1f}")
    Console().print(table)
    print(f"through the gateway: {np.median(ratios):.1%} of the engine's own tokens/s "
          f"(rounds: {', '.join(f'{ratio:.1%}' for ratio in ratios)})")  # fmt: skip
    await engine.close()


def main() -> None:
    """Measure and print."""
    port = free_port()
    here = Path(__file__).resolve().parent
    command = [sys.executable, str(here / "gateway_load.py"), "endpoint", str(port)]
    endpoint = f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(process(command, endpoint, folder / "endpoint.log"))
        ways = {"the endpoint itself": Forwarder(endpoint)}
        ways["Polysilicon's gateway"] = stack.enter_context(gateway(folder, endpoint, "fast")).way
        if len(sys.argv) > 1:
            proxy = litellm(sys.argv[1], folder, endpoint)
            ways["LiteLLM's proxy"] = stack.enter_context(proxy)
        uvloop.run(compared(ways, 3.0))
    with tempfile.TemporaryDirectory() as name:
        uvloop.run(real_engine(Path(name)))


if __name__ == "__main__":
    main()
