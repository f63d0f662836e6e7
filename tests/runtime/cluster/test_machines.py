from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.errors import InputError

pytest.importorskip("ray")
from ray.exceptions import RayActorError

from polysilicon.runtime.cluster.cluster import Cluster, Place
from polysilicon.runtime.cluster.machines import Machines
from polysilicon.runtime.cluster.wire import Hello, encode


class Unreached:
    """A cluster on which an actor is there at once, and listens where nobody comes.

    Args:
        line: where it listens.
        lost: so many actors, the first ones, are lost before they take the driver.
    """

    resource = staticmethod(Cluster.resource)

    def __init__(self, line: str, lost: int = 0) -> None:
        self._line, self._lost = line, lost
        self.placed = self.left = 0

    def place(self, _pool: Pool) -> Place:
        self.placed += 1
        asked = {"hello": self._hello, "lives": self._lives}
        return Place(SimpleNamespace(**{k: SimpleNamespace(remote=v) for k, v in asked.items()}))

    async def _hello(self) -> bytes:
        return encode(Hello(node="0123456789", line=self._line, word="00" * 16))

    async def _lives(self) -> None:
        if self.placed <= self._lost:
            raise RayActorError

    def leave(self, _place: Place) -> None:
        self.left += 1


def test_a_node_whose_line_is_not_reached_is_told_soon() -> None:
    async def scenario() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
            line = f"127.0.0.1:{closed.getsockname()[1]}"
            cluster = Unreached(line)
            machines = Machines(cluster, Pool(name="p", serves=("tool:*",)))
            expected = rf"'p'.*node 01234567 is not reached at {line}.*open the nodes' ephemeral"
            with pytest.raises(InputError, match=expected):
                await asyncio.wait_for(machines.opened(), 60)
            assert cluster.placed >= 2
            assert cluster.left == cluster.placed

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", [0, 3])
def test_a_node_that_does_not_take_the_driver_is_told_soon(
    lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that encrypts where the driver does not: it is reached, and ends the connection.

    So does an actor that is lost meanwhile, which is no reason to give the pool up.
    """
    monkeypatch.setattr("polysilicon.runtime.cluster.machines._FIRST_PAUSE_S", 0.01)

    async def met(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(met, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        cluster = Unreached(f"127.0.0.1:{port}", lost)
        machines = Machines(cluster, Pool(name="p", serves=("tool:*",)))
        with pytest.raises(InputError, match="does not take the driver; set RAY_USE_TLS alike"):
            await asyncio.wait_for(machines.opened(), 60)
        assert cluster.left == cluster.placed >= lost + 2
        server.close()

    asyncio.run(scenario())
