"""A Ray cluster as the driver sees it: joined or started, asked for machines, left or ended."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from threading import current_thread, main_thread
from typing import Any
from urllib.parse import urlsplit

from polysilicon.catalog.fleet import LOCAL, Pool
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime.cluster.line import encrypts
from polysilicon.runtime.cluster.wire import Setup, encode

EMBEDDED = "local"
"""The address that stands for a cluster of this machine alone, started and ended by us."""

_LOOPBACK = "127.0.0.1"
_LOOK_S = 3.0
_SETTINGS = bytes(3) + b"\4" + bytes(5)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
"""What a client of gRPC begins with: HTTP/2's preface, and a SETTINGS frame, as the server does
(RFC 9113, sections 3.4 and 6.5)."""
_STORE_BYTES = 256 * 2**20


@dataclass(slots=True)
class Place:
    """An actor on a machine of a pool, and what was reserved for it."""

    actor: Any
    group: Any = None


class Cluster:
    """A cluster; `close` leaves it, and ends it where it is ours.

    Args:
        address: `local`, `auto`, or host and port of its head node.
        pools: of the fleet, which an embedded cluster gets the resources for.
        cores: of this machine.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, pools: Iterable[Pool], cores: int) -> None:
        if find_spec("ray") is None:
            raise InputError("Ray is not installed", mend="pip install 'polysilicon[ray]'")
        self.embedded = address == EMBEDDED
        self._cores: int | None = None
        units = Counter[str]()
        for pool in pools:
            if pool.engine == "llama.cpp":
                units[pool.offer] += pool.units
        if self.embedded:
            self._cores = max(1, cores // max(1, units.total()))
        self._joined = _join(
            address, {self.resource(offer): float(n) for offer, n in units.items()}, cores
        )

    @staticmethod
    def resource(offer: str) -> str:
        """Return the custom resource of the machines of an offer: each node has 1 of it."""
        return f"offer:{offer}"

    def has(self, pool: Pool) -> bool:
        """Tell whether a pool's machines are nodes of the cluster.

        Those of an endpoint are where it is on loopback, hence each node's own, and a node holds
        the offer now. `local` is this machine, without an actor, where no node is said to be.
        """
        import ray  # noqa: PLC0415 - an extra

        if pool.engine == "openai":
            host = urlsplit(pool.endpoint or "").hostname
            if host not in (_LOOPBACK, "localhost", "::1"):
                return False
        elif pool.offer != LOCAL:
            return True
        need = self.resource(pool.offer)
        return any(node["Alive"] and need in node["Resources"] for node in ray.nodes())

    def request(self, pools: Iterable[Pool]) -> None:
        """Tell the autoscaler how many machines of each offer the fleet has."""
        from ray.autoscaler.sdk import request_resources  # noqa: PLC0415 - an extra

        wanted = [pool for pool in pools if self.has(pool)]
        request_resources(bundles=[{self.resource(p.offer): 1} for p in wanted
                                   for _ in range(p.units)])  # fmt: skip

    def place(self, pool: Pool) -> Place:
        """Ask for an actor on a machine of a pool; it begins when one is there."""
        import ray  # noqa: PLC0415 - an extra
        from ray.util.scheduling_strategies import (  # noqa: PLC0415 - an extra
            PlacementGroupSchedulingStrategy,
        )

        from polysilicon.runtime.cluster.host import Host  # noqa: PLC0415 - heavy

        need = {self.resource(pool.offer): 1}
        options: dict[str, Any] = {"resources": need, "num_cpus": 0, "max_restarts": 0}
        group = None
        if pool.count is not None:  # the devices of one copy, so that nobody else is given them
            first: dict[str, float] = {**need, "GPU": 1}
            group = ray.util.placement_group(
                [first, *({"GPU": 1} for _ in range(pool.count - 1))], strategy="STRICT_PACK"
            )
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, 0)
        setup = Setup(pool, version("polysilicon"), self._cores)
        actor = ray.remote(Host).options(**options).remote(encode(setup))
        return Place(actor, group)

    def leave(self, place: Place) -> None:
        """End an actor, or ask for it no more."""
        import ray  # noqa: PLC0415 - an extra

        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(place.actor, no_restart=True)
        if place.group is not None:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.util.remove_placement_group(place.group)

    def close(self) -> None:
        """Leave the cluster; one that is ours ends."""
        import ray  # noqa: PLC0415 - an extra

        if ray.is_initialized():
            with suppress(ray.exceptions.RayError):
                self.request([])
            if self._joined:
                ray.shutdown()


def _join(address: str, resources: dict[str, float], cores: int) -> bool:
    """Join the cluster at `address`, or start one; False where this process is in one already.

    Raises:
        InputError: there is none.
    """
    known = sys.modules.get("ray")  # not imported here, as it reads its settings once
    if known is not None and known.is_initialized():
        return False
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == EMBEDDED:
        # As on macOS, where Ray keeps to loopback; elsewhere it takes an address of the network.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Others of this machine may reach the ports, too: only whoever knows the token is answered.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # An actor's engine is to go before its tools.
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it
    import ray  # noqa: PLC0415 - an extra

    options: dict[str, Any] = {"address": address}
    if address == EMBEDDED:
        options |= {
            "include_dashboard": False, "_node_ip_address": _LOOPBACK, "num_cpus": cores,
            "num_gpus": 0, "resources": resources, "object_store_memory": _STORE_BYTES,
        }  # fmt: skip
    _look(address)
    main = current_thread() is main_thread()
    kept = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(configure_logging=False, log_to_driver=False, namespace="polysilicon",
                 logging_level=logging.ERROR, **options)  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    except ray.exceptions.RayError as error:
        raise PolysiliconError(f"--ray {address}: {error}") from error
    finally:
        if main:  # Ray's own handler, which it sets there alone, would end the run at once
            signal.signal(signal.SIGTERM, kept)
    if address == EMBEDDED and ray.util.get_node_ip_address() != _LOOPBACK:
        ray.shutdown()
        what = "Ray was imported before, and would listen beyond loopback"
        raise InputError(what, where="--ray local", mend="import ray in functions, or not at all")
    return True


def _look(address: str) -> None:
    """See whether a server of gRPC is at a head node's port: Ray itself would look for minutes.

    Raises:
        InputError: there is none, or it is no address.
    """
    if address in (EMBEDDED, "auto") or "://" in address:
        return
    host, _, port = address.rpartition(":")
    told = _SETTINGS
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_S) as asked:
            if not encrypts():
                asked.sendall(_PREFACE)
                told = asked.recv(len(_SETTINGS))
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, error) from error
    if told[3:4] != _SETTINGS[3:4]:
        raise _no_cluster(address, "what listens there is no head node")


def _no_cluster(address: str, error: object) -> InputError:
    what = f"no Ray cluster answers: {' '.join(str(error).split())[:200]}"
    mend = "start one with `ray start --head`, or give --ray local"
    return InputError(what, where=f"--ray {address!r}", mend=mend)
