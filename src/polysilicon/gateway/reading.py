"""Queries of requests into the types that say what they may be."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from polysilicon.gateway.errors import ApiError

T = TypeVar("T")


def read_query(request: Request, kind: type[T]) -> T:
    """Return the query of a request; each name may be there once.

    Raises:
        ApiError: 400; it is not of this type.
    """
    pairs = request.query_params.multi_items()
    told = dict(pairs)
    if len(told) < len(pairs):
        raise ApiError(400, "a parameter is given twice")
    try:
        return msgspec.convert(told, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$")
        param = at.strip("`.") or None
        raise ApiError(400, f"{param}: {what}" if param else what, param=param) from error
