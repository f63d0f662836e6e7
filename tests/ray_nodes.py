"""A Ray cluster of processes of this machine: a head without machines, and nodes with an offer.

It keeps to loopback, unless nodes of other network namespaces are to reach it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Self

import psutil

from namespaces import Namespace

HERE = Path(__file__).resolve().parent
LOOPBACK = "127.0.0.1"

if "ray" not in sys.modules:  # which reads this once; others may reach the cluster's ports, too
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def missing() -> str | None:
    """Return why there can be no cluster here, or None."""
    return None if find_spec("ray") else "Ray is not installed: pip install 'polysilicon[ray]'"


class Nodes:
    """A cluster that ends with the `with` block.

    Args:
        modules: folder of modules that the nodes are to import, too.
        host: address of this machine; another one than loopback for nodes of other namespaces.
    """

    def __init__(self, modules: Path = HERE, host: str = LOOPBACK) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        beyond = host != LOOPBACK  # where that is not so, Ray keeps to it
        assert not beyond or os.environ["RAY_AUTH_MODE"] == "token", "import Ray after this module"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = str(int(beyond))
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        given = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = f"{modules}{os.pathsep}{given}"
        from ray._private import ray_constants  # noqa: PLC0415 - an extra
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

        ray_constants.ENABLE_RAY_CLUSTER = beyond  # the same, where Ray was imported before
        self._host = host
        head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": host,
                "include_log_monitor": False, "no_monitor": True}  # fmt: skip
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.release: Callable[[], None] | None = None

    @property
    def address(self) -> str:
        """What `--ray` takes."""
        return str(self._cluster.address)

    def add(self, offer: str, cores: int = 1, **more: Any) -> Any:
        """Add a machine of an offer; return its node."""
        resources = {f"offer:{offer}": 1}
        # Where it cannot set a handler of signals, the node ends with its head alone.
        self._cluster._shutdown_at_exit = current_thread() is main_thread()
        where = {"node_ip_address": self._host}
        return self._cluster.add_node(
            num_cpus=cores, resources=resources, wait=False, **where, **more
        )

    def add_apart(self, offer: str, namespace: Namespace, cores: int = 1) -> Namespace:
        """Add a machine of an offer in a namespace of its own, as `ray start` does; return it."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
                   "--address", self.address, "--node-ip-address", namespace.address,
                   "--num-cpus", str(cores), "--object-store-memory", str(150 * 2**20),
                   "--resources", json.dumps({f"offer:{offer}": 1})]  # fmt: skip
        namespace.start(command, os.environ)
        return namespace

    def kill(self, node: Any) -> None:
        """Kill a node as a crash of its machine would, the actors on it with it."""
        if isinstance(node, Namespace):
            node.kill()
            return
        for info in node.all_processes["raylet"]:
            _kill_all(psutil.Process(info.process.pid))
        self._cluster.remove_node(node, allow_graceful=False)

    def released(self) -> None:
        """Have whoever holds machines of it give them back, once."""
        release, self.release = self.release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()


def _kill_all(root: psutil.Process) -> None:
    """Kill a process and all below it; none does anything once the first one is dead."""
    found: dict[int, psutil.Process] = {}
    while new := [p for p in (root, *root.children(recursive=True)) if p.pid not in found]:
        for process in new:
            found[process.pid] = process
            with suppress(psutil.NoSuchProcess):
                process.suspend()
    for process in found.values():
        with suppress(psutil.NoSuchProcess):
            process.kill()
