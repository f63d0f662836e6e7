"""A few breaks of each kind; `benchmarks/chaos.py` does many."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import chaos_posttrain
from chaos_engine import Engine
from chaos_runs import Tally, Trial
from postgres_server import Server, missing


def runs(
    folder: Path,
    agent: str,
    server: Server | None,
    mishap: str,
    times: int,
    engine: Engine | None = None,
) -> tuple[Any, Any]:
    """What is left of a run that nothing happens to, and of one that `mishap` happens to."""
    address = server.address() if server is not None else None
    rng = random.Random(f"{agent}/{mishap}")
    unbroken = Trial(folder / "unbroken", agent, address, Tally(), engine=engine)
    span_s = unbroken.start()
    expected = unbroken.checked()
    assert unbroken.tally.again == 0
    for number in range(40):
        # The first start of all had to load its modules, and other programs may take the cores.
        likely_s = span_s * 0.7 ** (number % 5)
        trial = Trial(folder / str(number), agent, address, Tally(), server, engine)
        while trial.tally.mishaps[mishap] < times and not trial.finished:
            trial.start(rng.uniform(0.2, 0.9) * likely_s, mishap)
        while not trial.finished:
            trial.start()
        found = trial.checked()
        if trial.tally.mishaps[mishap] or found != expected:
            return expected, found
    raise AssertionError(f"no {mishap} came before the end")


@pytest.mark.parametrize("agent", ["light", "full"])
def test_a_run_that_is_killed_is_as_one_that_is_not(tmp_path: Path, agent: str) -> None:
    unbroken, broken = runs(tmp_path, agent, None, "kill", 2)
    assert broken == unbroken


@pytest.mark.parametrize("mishap", ["full", "busy"])
def test_a_full_disk_and_a_held_database_lose_nothing(tmp_path: Path, mishap: str) -> None:
    unbroken, broken = runs(tmp_path, "light", None, mishap, 1)
    assert broken == unbroken


@pytest.mark.parametrize("mishap", ["kill", "restart"])
def test_kills_and_crashes_of_the_server_lose_nothing(tmp_path: Path, mishap: str) -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with Server() as server:
        unbroken, broken = runs(tmp_path, "light", server, mishap, 1)
    assert broken == unbroken


@pytest.mark.parametrize(
    ("agent", "mishap"),
    # The pipeline takes twice as long as each of these; `benchmarks/chaos.py` breaks it, too.
    [("support", "kill"), ("coder", "kill"), ("researcher", "engine")],
)
def test_a_bundled_agent_goes_on_where_it_was(tmp_path: Path, agent: str, mishap: str) -> None:
    with Engine(tmp_path) as engine:
        unbroken, broken = runs(tmp_path, agent, None, mishap, 1, engine)
    assert broken == unbroken


@pytest.mark.parametrize("way", chaos_posttrain.WAYS)
def test_post_training_that_is_killed_learns_the_same(tmp_path: Path, way: str) -> None:
    """Answers depend on the bytes of each adapter; one that differed would show in the curve."""
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    unbroken, broken = runs(tmp_path, way, None, "kill", 2)
    assert broken == unbroken
    verified = [n for (_, name, *_), n in unbroken["steps"].items() if name == "verify"]
    assert sum(verified) == chaos_posttrain.VERIFIED
    assert set(verified) == {1}
