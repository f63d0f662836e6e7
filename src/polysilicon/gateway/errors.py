"""Errors as callers of the gateway get them: OpenAI's shape, and the right status code.

`{"error": {"message": …, "type": …, "param": …, "code": …}}`
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polysilicon.errors import (
    EngineError,
    InputError,
    PolicyError,
    PolysiliconError,
    StepTimeoutError,
    visible,
)
from polysilicon.runtime.journal import JournalError, LeaseLostError

NOTES = "polysilicon.notes"
"""Key of the scope: what routes note for the audit log (task, pool, cost_usd), and the id."""

_MOST_LOGGED = 300
_log = logging.getLogger("polysilicon.gateway")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    502: "engine_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_TOLD: tuple[tuple[type[PolysiliconError], int, str | None, str], ...] = (
    (StepTimeoutError, 504, "timeout", ""),
    (EngineError, 502, "engine_failed", "the engine failed; see the gateway's log"),
    (PolicyError, 403, "policy", ""),
    (LeaseLostError, 503, None, ""),
    (JournalError, 503, None, "the journal cannot be written; see the gateway's log"),
    (InputError, 400, None, ""),
)
"""Error → status, code, and text where its own is not for callers."""


class ApiError(PolysiliconError):
    """What is said to a caller.

    Args:
        status: HTTP status code.
        message: one line; no secret, no prompt.
        code: a word for programs, such as `model_not_found`.
        param: the field at fault, as in OpenAI's errors.
        retry_after_s: when it is worth to come again; None where that does not help.
        more: further headers, such as `Allow`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.more = dict(more or {})
        self.status, self.code, self.param = status, code, param
        self.retry_after_s = retry_after_s
        super().__init__(message)

    @property
    def body(self) -> bytes:
        """The answer's body."""
        return msgspec.json.encode({"error": self.fields()})

    def fields(self) -> dict[str, str | None]:
        """Return the four fields of the error."""
        kind = "insufficient_quota" if self.code == "insufficient_quota" else None
        return {
            "message": visible(str(self)),
            "type": kind or _TYPES.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code,
        }

    @property
    def headers(self) -> dict[str, str]:
        """Headers beside those of every answer."""
        headers = dict(self.more)
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

    def response(self) -> Response:
        """Return the answer."""
        return Response(self.body, self.status, self.headers, media_type="application/json")


def of_error(error: BaseException) -> ApiError:
    """Return what a caller is told of an error; of those that nobody foresaw, nothing but that."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, error.detail, more=error.headers)
    if isinstance(error, EngineError) and error.of_request:
        return ApiError(400, str(error), code="engine_refused")
    for kind, status, code, text in _TOLD:
        if isinstance(error, kind):
            return ApiError(status, text or str(error), code=code)
    return ApiError(500, "the gateway failed; see its log")


class CallerLeftError(Exception):
    """The caller closed the connection before its answer was whole."""


def log(request: str, error: BaseException) -> None:
    """Write into the log what went wrong here, with the id of its request.

    Of errors that nobody foresaw neither the text nor its causes: a prompt may be in them.
    """
    if of_error(error).status < 500 or isinstance(error, ApiError):
        return
    if isinstance(error, EngineError | JournalError | StepTimeoutError):
        _log.error("%s: %s", request, visible(str(error))[:_MOST_LOGGED])
        return
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
    _log.error("%s: %s at %s", request, type(error).__name__, where)


async def handle(request: Request, error: Exception) -> Response:
    """Answer a request that raised; what nobody foresaw the guard writes into the log."""
    if isinstance(error, PolysiliconError):
        log(request.scope[NOTES]["request"], error)
    return of_error(error).response()
