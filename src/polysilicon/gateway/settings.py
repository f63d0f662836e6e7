"""How a gateway serves, as whoever starts it says."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve.

    Attributes:
        folder: where the journal, the ledger and the audit log are kept, also over restarts.
        model: of this machine, where there is no fleet file.
        fleet: path of a fleet file; None is this machine alone.
        policy: path of a policy file; None allows everything.
        keys: path of a file of keys; None lets everybody in, which only loopback may.
        host: address to listen on.
        port: to listen on; 0 for any free one.
        names: host names that callers may use, beside addresses and localhost.
        tls_cert: file of a certificate chain; None is plain HTTP.
        tls_key: file of its private key.
        timeout_s: limit of one step.
        placement: path of a placement that the dashboard shows.
        plan: path of a plan that it shows.
        agents: agents that may be asked for beside the bundled ones, as the operator named them.
        otlp: address of an endpoint that gets the gateway's own spans; None for none.
        tasks_at_once: tasks under way at once.
        tasks_waiting: tasks that may wait; more are refused.
        task_timeout_s: limit of a task.
        keep_days: how long steps and tasks that ended are kept; their sums stay.
        drain_s: how long calls that are under way may go on after SIGTERM.
        journal: address of a PostgreSQL database whose gateways share one journal; None for one in
            the folder.
        lease_s: after how long without a sign of life the others take over.
        ray: address of a Ray cluster that has machines of the fleet; None for none.
    """

    folder: Path
    model: str | None = None
    fleet: Path | None = None
    policy: Path | None = None
    keys: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    timeout_s: float = 600.0
    placement: Path | None = None
    plan: Path | None = None
    agents: tuple[str, ...] = ()
    otlp: str | None = None
    tasks_at_once: int = 16
    tasks_waiting: int = 100_000
    task_timeout_s: float = 1800.0
    keep_days: float = 30.0
    drain_s: float = 30.0
    journal: str | None = None
    lease_s: float = 10.0
    ray: str | None = None
