"""A node that is on this machine, but on another network: what it is told and what it tells."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

import namespaces
import ray_nodes
from executor_jobs import add, network, text_of
from polysilicon.catalog import load
from polysilicon.catalog.fleet import OwnPrice, Pool
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.runtime.jobs import Call
from polysilicon.runtime.types import ChatRequest

OFFER = "lab/apart"


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_node_of_another_network_namespace_joins_and_takes_steps(local_model: Path) -> None:
    if (reason := ray_nodes.missing() or namespaces.missing()) is not None:
        pytest.skip(reason)
    from polysilicon.runtime.cluster.cluster import Cluster  # noqa: PLC0415 - an extra
    from polysilicon.runtime.cluster.opening import open_pool  # noqa: PLC0415 - an extra

    price = OwnPrice(usd_per_hour=1.0)
    served = ("tool:*", "llm:*")
    pool = Pool(name="apart", offer=OFFER, serves=served, model=str(local_model), price=price)
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}

    async def scenario(address: str, there: str) -> None:
        cluster = Cluster(address, [pool], 2)
        running = await open_pool(cluster, pool, local_offer(load(), detect()))

        async def called(fn, *args):
            done = await running.executor.run(Call(fn, args, {}, 30.0))
            return msgspec.msgpack.decode(done.result)

        assert await called(add, 1) == 1
        assert await called(network) != network()
        assert len(await called(text_of, 600_000)) == 600_000  # by the object stores
        request = ChatRequest(messages=tuple(body["messages"]), max_tokens=2)
        assert (await running.engine.chat(request)).output_tokens > 0
        (member,) = running.executor.members
        assert urlsplit(member.hello.address).hostname == there
        async with running.engine.forwarder() as forwarder:
            with closing(
                await forwarder.post("chat/completions", msgspec.json.encode(body))
            ) as sent:
                told = msgspec.json.decode(await sent.whole(2**20))
            assert told["usage"]["completion_tokens"] > 0
        await running.close()
        cluster.close()

    with namespaces.Namespace() as apart, ray_nodes.Nodes(host=namespaces.HOST) as nodes:
        nodes.add_apart(OFFER, apart)
        asyncio.run(scenario(nodes.address, apart.address))
