"""The application: a table of routes and a table of services. Who adds a part adds a line here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from polysilicon.errors import PolysiliconError
from polysilicon.gateway import (
    chat,
    checks,
    code,
    embeddings,
    errors,
    health,
    metrics,
    openapi,
    responses,
    retention,
)
from polysilicon.gateway.dashboard import routes as dashboard
from polysilicon.gateway.dashboard.session import cookie_key
from polysilicon.gateway.guard import Guard, bearer
from polysilicon.gateway.joined import routes as joined
from polysilicon.gateway.joined.register import taking_machines
from polysilicon.gateway.mcp import sessions as mcp
from polysilicon.gateway.state import Gateway
from polysilicon.gateway.tasks import routes as tasks
from polysilicon.gateway.traces import outgoing
from polysilicon.gateway.traces import routes as traces

ROUTES: tuple[tuple[BaseRoute, ...], ...] = (
    health.ROUTES,
    metrics.ROUTES,
    chat.ROUTES,
    responses.ROUTES,
    embeddings.ROUTES,
    tasks.ROUTES,
    mcp.ROUTES,
    joined.ROUTES,
    code.ROUTES,
    traces.ROUTES,
    openapi.ROUTES,
    dashboard.ROUTES,
)  # fmt: skip
"""Routes of each part, in the order in which they are tried."""

SERVICES: tuple[Callable[[Gateway], AbstractAsyncContextManager[None]], ...] = (
    dashboard.service,
    outgoing.sending_traces,  # before the tasks, so that it hears of their ends
    checks.checking,
    taking_machines,
    tasks.serving_tasks,
    retention.forgetting,  # after the tasks, of which those under way are kept
    mcp.serving_mcp,
    traces.serving_traces,
)  # fmt: skip
"""What runs beside the routes: entered before the first request, left after the last one."""


def make_app(gateway: Gateway) -> ASGIApp:
    """Return the application of a gateway; its state is `app.state.gateway`."""
    handlers = {HTTPException: errors.handle, PolysiliconError: errors.handle}
    handlers[Exception] = errors.handle  # of those that nobody foresaw the guard writes a line
    routes = [route for part in ROUTES for route in part]
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.gateway = gateway
    return Guard(app, gateway, (bearer, cookie_key), dashboard.PATHS)
