"""Pools of this machine: each is played by its own engine, and paid once."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fleets import chat, tool
from polysilicon.catalog.fleet import Fleet, OwnPrice, Pool
from polysilicon.cost.llm import engine
from polysilicon.errors import InputError
from polysilicon.simulate import Result, fleet, simulate
from polysilicon.workload.workload import Workload
from profiles import exact, llm_profile, profile

MODEL = "smollm2-135m-instruct"
PRICE = OwnPrice(usd_per_hour=3.6)
TOOLS = Pool(name="here", serves=("tool:*", "embed:*"), price=PRICE)
SERVER = Pool(
    name="server", engine="openai", recipe="vllm-cpu", model=MODEL, serves=(f"llm:{MODEL}",)
)
WORK = Workload.from_records(
    [
        replace(chat("t", "1", 0.0), model=MODEL),
        tool("t", "2", 0.0, parent_ids=("1",), offer="local"),
    ]
)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine as if both engines had been measured, of which the server takes half as long."""
    local = llm_profile(model=MODEL)
    fast = replace(
        llm_profile(model=MODEL, engine="vllm"),
        prefill=tuple(replace(p, seconds=exact(p.seconds.median / 2)) for p in local.prefill),
        decode=tuple(replace(p, seconds=exact(p.seconds.median / 2)) for p in local.decode),
    )
    own = profile(llm={MODEL: local}, servers=(fast,))
    for module in (engine, fleet):
        monkeypatch.setattr(module, "own_profile", lambda: own)


def played(*pools: Pool) -> Result:
    return simulate(WORK, Fleet(pool=pools))


def test_each_pool_is_played_by_its_engine() -> None:
    local = played(Pool(name="here", model=MODEL))
    server = played(TOOLS, SERVER)
    assert local.pools["here"].note.startswith("measured here, llama.cpp")
    assert server.pools["here and server"].note.startswith("measured here, vllm")
    ratio = local.kinds["llm"].p50 / server.kinds["llm"].p50
    assert ratio == pytest.approx(2.0, rel=0.02)
    assert local.kinds["tool"].p50 == pytest.approx(server.kinds["tool"].p50)


def test_a_server_and_the_tools_beside_it_are_one_machine() -> None:
    result = played(TOOLS, SERVER)
    assert list(result.pools) == ["here and server"]
    assert result.cost_usd == pytest.approx(0.001 * result.sim_s)
    assert result.basis == "calibrated"  # the tool's


@pytest.mark.parametrize(
    ("pools", "error"),
    [
        ((TOOLS, replace(SERVER, recipe=None)), "which engine serves there is not told: give rec"),
        ((TOOLS, replace(SERVER, recipe="llama-server")), "llamacpp was not measured on CPUs"),
        ((Pool(name="here"), SERVER), "engines that share the cores of one machine"),
        ((TOOLS, replace(SERVER, units=2)), "engines that share the cores of one machine"),
    ],
)
def test_what_cannot_be_played_says_why(pools: tuple[Pool, ...], error: str) -> None:
    with pytest.raises(InputError, match=error):
        played(*pools)
