"""What all tests share: a home of their own, the local model, an open engine."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import postgres_server
import ray_nodes  # noqa: F401 - before Ray, whose settings it makes
from polysilicon.catalog.machine import detect
from polysilicon.cost.engine_choice import (
    ENGINE,
    EngineChoice,
    choices_path,
    cpu_key,
    engine_version,
    write_choice,
)
from polysilicon.runtime import assets
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.lengths import lengths_path
from polysilicon.runtime.models import DEFAULT_MODEL

# Neither this machine's profile nor the user's catalog may change what tests see.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="polysilicon-tests-")

# The local engine has one thread, as if a search had found that: those of one wait for each other
# at every operation, and compute meanwhile, while other tests want the cores.
_ONE_THREAD = EngineChoice(
    engine_version=engine_version(ENGINE),
    cpu=cpu_key(detect()),
    source_bytes=assets.ASSETS[DEFAULT_MODEL].size_bytes,
    threads=1,
)
write_choice(DEFAULT_MODEL, _ONE_THREAD, choices_path())

# The same examples each time, so that a change is judged by itself. New ones are looked for with
# --hypothesis-profile=default, and what they find becomes an example of its own.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

LONG = (
    "test_readme.py", "test_run.py", "test_chaos.py", "test_executors.py", "test_place.py",
    "test_cli_demo.py", "test_plan_bounds.py", "test_postgres_journal.py", "test_measure.py",
    "test_researcher.py", "test_fluid.py", "test_shared_gateways.py", "test_gateway_joined.py",
)  # fmt: skip
"""Files that take longest, which are begun first: a worker that takes one last lets others wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of long files first; those of a file stay together, in their order."""
    ranks = {name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(LONG)))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def local_model() -> Path:
    """The default model's file, fetched once into the user's cache."""
    return assets.fetch("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def llama(local_model: Path) -> Iterator[LlamaCpp]:
    """One local engine for all tests: loading takes a second."""
    engine = LlamaCpp(local_model, concurrency=4, context_tokens=1024, threads=1)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """One PostgreSQL server for all tests; runs share it as they would."""
    reason = postgres_server.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres_server.Server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no settings of the user's."""
    for name in os.environ:
        if name.startswith("POLYSILICON_") and name != "POLYSILICON_HOME":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_lengths() -> None:
    """What tasks took in one test does not order those of the next."""
    lengths_path().unlink(missing_ok=True)
