"""Whether the gateway lives, and whether it takes calls."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polysilicon.gateway.state import gateway_of


async def healthz(_request: Request) -> Response:
    """Answer that the event loop turns."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Tell whether calls are taken: it does not drain, its journal can be written, a pool is up."""
    gateway = gateway_of(request)
    gates = [pool.gates["engine"] for pool in gateway.machine.pools if "engine" in pool.gates]
    reasons = {
        "draining": gateway.draining,
        "journal": gateway.runner.fatal is not None,
        "lease": gateway.shared is not None and not gateway.shared.lease.healthy,
        "engines": bool(gates) and all(gate.health.drained for gate in gates),
    }
    failed = [name for name, wrong in reasons.items() if wrong]
    status = {"status": "not ready" if failed else "ready", "failed": failed}
    return JSONResponse(status, 503 if failed else 200)


ROUTES = (Route("/healthz", healthz), Route("/readyz", readyz))
