"""The dashboard over HTTP: pages, their style and script, and the few forms that change something.

Reading changes nothing. A form is taken only with the token that its page has, and the guard lets
in no request of another origin. A page runs no script but ours, and shows in no other page.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from polysilicon.errors import PolysiliconError
from polysilicon.gateway.access import Caller
from polysilicon.gateway.dashboard import pages, planned
from polysilicon.gateway.dashboard.board import Board
from polysilicon.gateway.dashboard.records import Chrome, Snapshot
from polysilicon.gateway.dashboard.session import MOST_KEY, forget, remember
from polysilicon.gateway.dashboard.snapshot import snapshot
from polysilicon.gateway.errors import ApiError, of_error
from polysilicon.gateway.state import Gateway, gateway_of, maybe_caller_of
from polysilicon.report import html
from polysilicon.report.plan_html import plan_html

Page = Callable[[Request], Awaitable[Response]]

_MOST_FORM_BYTES = 16 * 2**10
_REPORT_CSS = Path(html.__file__).parent / "templates" / "report.css"
_NOWHERE = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_POLICY = (
    f"{_NOWHERE}; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'"
)
_POLICIES = {"/plan/whole": f"{_NOWHERE}; style-src 'unsafe-inline'"}
"""The plan's own page is a file by itself: its style is within, and it runs no script at all."""

_HEADERS = {
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


def _answered(page: Page) -> Page:
    """Answer with a page also where the page asked for cannot be shown."""

    @wraps(page)
    async def answer(request: Request) -> Response:
        try:
            found = await page(request)
        except PolysiliconError as error:
            told = of_error(error)
            heading = {403: "Not allowed", 404: "Not there"}.get(told.status, "That did not work")
            found = HTMLResponse(pages.problem_page(heading, str(told)), told.status)
        policy = _POLICIES.get(request.url.path, _POLICY)
        found.headers.update({**_HEADERS, "content-security-policy": policy})
        return found

    return answer


def _shown(page: Callable[[Request, Board, Snapshot, Chrome], Callable[[], str]]) -> Page:
    """Show a page to whoever may see it; others are sent to the form that asks for a key.

    What it shows is taken in the event loop; the HTML is made in a thread, for calls must not wait.
    """

    @_answered
    @wraps(page)
    async def answer(request: Request) -> Response:
        gateway = gateway_of(request)
        reader = maybe_caller_of(request)
        if reader is None:
            return RedirectResponse("/login", 303)
        _check_reader(reader)
        board = gateway.board
        chrome = Chrome(token=board.forms.token(reader.name))
        now = snapshot(gateway, board.watch, reader, board.version)
        text = await asyncio.to_thread(page(request, board, now, chrome))
        tag = f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304)
        return HTMLResponse(text, headers={"etag": tag})

    return answer


def _check_reader(reader: Caller) -> None:
    """Raise `ApiError` where a key may not see what others do."""
    if not reader.key.admin:
        text = f"key {reader.name!r} may not see what others do; ask for one with admin = true"
        raise ApiError(403, text)


@_shown
def fleet(_request: Request, _board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show the pools."""
    return partial(pages.fleet_page, now, chrome)


@_shown
def tasks(request: Request, _board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show the tasks."""
    origin = f"{request.url.scheme}://{request.url.netloc}"
    return partial(pages.tasks_page, now, chrome, origin)


@_shown
def task(request: Request, board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show one task."""
    found = board.watch.task(request.query_params.get("id", ""))
    if found is None:
        raise ApiError(404, "No such task was seen since the gateway started, or it was long ago.")
    return partial(pages.task_page, now, chrome, found)


@_shown
def money(_request: Request, board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show what was spent."""
    plan, _ = board.plan.latest()
    rows = [] if plan is None else planned.in_force(plan, now)
    return partial(pages.money_page, now, chrome, [row.commitment for row in rows])


@_shown
def elsewhere(_request: Request, board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show the work seen here on other offers."""
    return partial(pages.elsewhere_page, now, chrome, board.estimates.latest())


@_shown
def placement(_request: Request, board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show the placement that was named."""
    found, wrong = board.placement.latest()
    name = board.placement.path.name
    return partial(planned.placement_page, now, chrome, found, name, wrong)


@_shown
def plan(_request: Request, board: Board, now: Snapshot, chrome: Chrome) -> Callable[[], str]:
    """Show the plan that was named."""
    found, wrong = board.plan.latest()
    return partial(planned.plan_page, now, chrome, found, board.plan.path.name, wrong)


@_shown
def whole_plan(
    _request: Request, board: Board, _now: Snapshot, _chrome: Chrome
) -> Callable[[], str]:
    """Show the plan's own page, for the person who signs."""
    found, wrong = board.plan.latest()
    if found is None:
        raise ApiError(404, wrong or "No plan is shown.")
    return partial(plan_html, found)


@_answered
async def login(request: Request) -> Response:
    """Ask for a key, and put it into the cookie where it is one."""
    gateway = gateway_of(request)
    if gateway.access.open:
        return RedirectResponse("/", 303)
    forms = gateway.board.forms
    chrome = Chrome(token=forms.token(""), every_s=0.0)
    if request.method != "POST":
        return HTMLResponse(pages.login_page(chrome))
    form = await _form(request)
    if not forms.ours(form.get("token", ""), ""):
        wrong = "The form was too old; try again."
        return HTMLResponse(pages.login_page(chrome, wrong), 403)
    key = form.get("key", "").strip()[:MOST_KEY]
    try:
        reader = gateway.access.caller(f"Bearer {key}")
        _check_reader(reader)
    except ApiError as error:
        return HTMLResponse(pages.login_page(chrome, f"{error}."), error.status)
    answer = RedirectResponse("/", 303)
    remember(answer, key, secure=request.url.scheme == "https")
    return answer


@_answered
async def logout(request: Request) -> Response:
    """Forget the key."""
    await _ours(request)
    answer = RedirectResponse("/login", 303)
    forget(answer, secure=request.url.scheme == "https")
    return answer


@_answered
async def cancel(request: Request) -> Response:
    """Cancel a task of `/v1/tasks`, and go back to its page."""
    reader, form = await _ours(request)
    _check_reader(reader)
    served = gateway_of(request).tasks
    assert served is not None
    entry = await served.views.entry(form.get("id", ""), reader)
    await served.cancel(entry)
    return RedirectResponse(pages.task_link(entry.task_id), 303)


async def _ours(request: Request) -> tuple[Caller, dict[str, str]]:
    """Return who sent a form, and its fields.

    Raises:
        ApiError: they may not, or it is not a form of ours.
    """
    reader = maybe_caller_of(request)
    if reader is None:
        raise ApiError(403, "Log in first.")
    form = await _form(request)
    if not gateway_of(request).board.forms.ours(form.get("token", ""), reader.name):
        raise ApiError(403, "The form was too old, or not one of this page: reload and try again.")
    return reader, form


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        ApiError: it is too large, or no form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ApiError(415, "This takes forms.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM_BYTES:
            raise ApiError(413, "The form is too large.")
    try:
        fields = parse_qs(body.decode(), max_num_fields=16)
    except ValueError as error:
        raise ApiError(400, "The form cannot be read.") from error
    return {name: values[-1] for name, values in fields.items()}


def _file(content: bytes, kind: str) -> Page:
    """Serve a file that every page needs."""

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


def _read(name: str) -> bytes:
    return (pages.TEMPLATES / name).read_bytes()


def service(gateway: Gateway) -> AbstractAsyncContextManager[None]:
    """Return what runs beside the routes."""
    return gateway.board.at_work()


ROUTES = (
    Route("/", fleet),
    Route("/tasks", tasks),
    Route("/task", task),
    Route("/tasks/cancel", cancel, methods=["POST"]),
    Route("/money", money),
    Route("/elsewhere", elsewhere),
    Route("/placement", placement),
    Route("/plan", plan),
    Route("/plan/whole", whole_plan),
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/board.css", _file(_REPORT_CSS.read_bytes() + _read("board.css"), "text/css")),
    Route("/board.js", _file(_read("board.js"), "text/javascript")),
    Route("/board.svg", _file(_read("board.svg"), "image/svg+xml")),
)

PATHS = frozenset(route.path for route in ROUTES)
"""Paths that answer themselves whoever has no key."""
