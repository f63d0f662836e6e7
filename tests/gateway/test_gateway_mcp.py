"""The tools of MCP, called by the official client, over HTTP and over stdio."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from polysilicon.gateway.access import add_key
from polysilicon.gateway.mcp.server import listed_tools
from polysilicon.workload.files import write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload
from served_gateway import TOOLS_HERE, Served, endpoint_pool, serving

POOL = endpoint_pool("http://127.0.0.1:9/v1")
TOOLS = ["run_code", "search", "estimate", "place", "describe"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("mcp"), POOL) as found:
        yield found


def with_client(where: Any, work: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Client(where) as client:
            return await work(client)

    return asyncio.run(run())


def result_of(where: Any, tool: str, **arguments: Any) -> Any:
    """Return what a tool gave, which its text says too."""

    async def work(client: Client) -> Any:
        return await client.call_tool(tool, arguments)

    told = with_client(where, work)
    assert not told.is_error, told.content
    assert json.loads(told.content[0].text) == told.structured_content
    return told.structured_content


def error_of(where: Any, tool: str, **arguments: Any) -> str:
    async def work(client: Client) -> Any:
        return await client.call_tool(tool, arguments)

    told = with_client(where, work)
    assert told.is_error
    return str(told.content[0].text)


def test_the_official_client_lists_and_calls_each_tool(served: Served) -> None:
    where = f"{served.address}/mcp"

    async def names(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    assert with_client(where, names) == TOOLS
    ran = result_of(where, "run_code", code="print(n)\nn + 1", inputs={"n": 2})
    assert (ran["ok"], ran["stdout"], ran["value"]) == (True, "2\n", 3)
    hits = result_of(where, "search", index="support/policies", query="refund", k=2)["hits"]
    assert 1 <= len(hits) <= 2
    described = result_of(where, "describe")
    assert described["tasks"] >= 2
    found = result_of(where, "estimate", kind="tool", cpu_s=10.0, offers=["aws/m7g.xlarge"])
    assert found["estimates"][0]["usd"] > 0
    assert found["estimates"][0]["basis"] in {"measured", "calibrated", "roofline"}
    steps = [event.data for event in served.gateway.feed.since(0) if event.kind == "step"]
    mine = [(step.name, step.outcome) for step in steps if step.agent == "mcp"]
    assert mine == [(name, "ok") for name in ("code", "search", "describe", "estimate")]
    # Nothing of what was run or said is kept.
    results = served.call(lambda: _results(served))
    assert results == [b""] * len(results) or all(len(result) <= 1 for result in results)


async def _results(served: Served) -> list[bytes]:
    journal = served.gateway.journal
    ids = {step.task_id for step in journal.steps() if step.agent == "mcp"}
    kept = [await journal.history(task_id) for task_id in ids]
    return [result for history in kept for _, result in history.values()]


def test_a_workload_of_the_folder_is_placed(served: Served) -> None:
    folder = served.gateway.folder / "workloads"
    folder.mkdir()
    steps = [
        StepRecord(task_id=f"t{n}", step_id="s", agent="a", name="sort", kind="tool",
                   arrival_s=10.0 * n, cpu_s=2.0, cores=1)
        for n in range(20)
    ]  # fmt: skip
    write(Workload.from_records(steps), folder / "small.jsonl")
    placed = result_of(
        f"{served.address}/mcp", "place", workload="small", offers=["aws/m7g.xlarge"],
        policy={"slo": [{"agent": "a", "p99_s": 60.0}]},
    )  # fmt: skip
    assert placed["pools"][0]["offer"] == "aws/m7g.xlarge"
    assert placed["cost_usd_per_hour"] > 0


@pytest.mark.parametrize(
    ("tool", "arguments", "what"),
    [
        ("run_code", {"code": "1", "time_s": 1e9}, "time_s"),
        ("run_code", {}, "code"),
        ("search", {"index": "../../etc", "query": "x"}, "there is no such index"),
        ("describe", {"workload": "../../etc/passwd"}, "there is no such workload"),
        ("describe", {"workload": "traces"}, "no traces"),
        ("estimate", {"kind": "llm"}, "needs --model"),
        ("place", {"policy": {"vendor_share_max": {"aws": 7}}}, "the share is 7"),
        ("shell", {}, "there is no tool"),
    ],
)
def test_wrong_calls_are_told_in_a_line(
    served: Served, tool: str, arguments: dict[str, Any], what: str
) -> None:
    told = error_of(f"{served.address}/mcp", tool, **arguments)
    assert what in told
    assert "\n" not in told


def test_keys_and_origins_hold_for_it_too(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    key = {"authorization": f"Bearer {add_key(keys, 'a')}"}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with serving(tmp_path, POOL, keys=keys) as served:
        assert served.client.post("/mcp", json=asked).status_code == 401
        headers = {"origin": "https://evil.example"}
        assert served.client.post("/mcp", json=asked, headers=headers).status_code == 403
        with pytest.raises(BaseExceptionGroup):
            result_of(f"{served.address}/mcp", "describe")
        assert asyncio.run(_with_key(f"{served.address}/mcp", key)) == 4
        (caller,) = served.gateway.access.callers
        assert caller.spent_usd > 0
        asked |= {"method": "tools/call", "params": {"name": "describe", "arguments": {}}}
        accepted = {"accept": "application/json, text/event-stream"}
        told = served.client.post("/mcp", json=asked, headers=key | accepted).json()["result"]
        assert told["isError"]
        assert "may not see what others do" in told["content"][0]["text"]
        assert served.client.get("/mcp", headers=key).status_code == 405


async def _with_key(address: str, key: dict[str, str]) -> Any:
    async with (
        httpx2.AsyncClient(headers=key, timeout=60) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        told = await client.call_tool("run_code", {"code": "2 + 2"})
    return told.structured_content["value"]


def test_over_stdio(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(TOOLS_HERE)
    arguments = ["-c", "from polysilicon.cli.app import main; main()", "serve", "--mcp-stdio",
                 "--fleet", "fleet.toml", "--folder", "gateway"]  # fmt: skip
    parameters = StdioServerParameters(
        command=sys.executable, args=arguments, cwd=tmp_path, env=dict(os.environ)
    )
    ran = result_of(stdio_client(parameters), "run_code", code="6 * 7")
    assert ran["value"] == 42


def test_schemas_say_the_limits() -> None:
    schemas = {tool.name: tool.input_schema for tool in listed_tools()}
    assert list(schemas) == TOOLS
    assert all(schema["type"] == "object" for schema in schemas.values())
    assert schemas["run_code"]["properties"]["time_s"]["maximum"] == 30
    assert schemas["run_code"]["required"] == ["code"]
