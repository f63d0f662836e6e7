"""A Ray cluster of processes on loopback: a head without machines, and nodes that hold an offer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Self

HERE = Path(__file__).resolve().parent


def missing() -> str | None:
    """Return why there can be no cluster here, or None."""
    return None if find_spec("ray") else "Ray is not installed: pip install 'polysilicon[ray]'"


class Nodes:
    """A cluster that ends with the `with` block.

    Args:
        modules: folder of modules that the nodes are to import, too.
    """

    def __init__(self, modules: Path = HERE) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so that Ray keeps to loopback
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        given = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = f"{modules}{os.pathsep}{given}"
        from ray._private import ray_constants  # noqa: PLC0415 - an extra
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

        ray_constants.ENABLE_RAY_CLUSTER = False  # the same, where Ray was imported before

        head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.1",
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
        return self._cluster.add_node(num_cpus=cores, resources=resources, wait=False, **more)

    def kill(self, node: Any) -> None:
        """Kill a node as a crash of its machine would, the actors on it with it."""
        for info in node.all_processes["raylet"]:
            os.kill(info.process.pid, signal.SIGKILL)
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
