"""Requests into the types that say what they may be; what they are not is said in one line."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from polysilicon.gateway.errors import ApiError

T = TypeVar("T")


async def read_json(request: Request, kind: type[T]) -> T:
    """Return the body of a request.

    Raises:
        ApiError: 400; it is no JSON, or not of this type.
    """
    body = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _not_so(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}", code="invalid_json") from error


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
        raise _not_so(error) from error


def _not_so(error: msgspec.ValidationError) -> ApiError:
    """Return what is wrong with a value, and which field it is."""
    what, _, at = str(error).partition(" - at `$")
    param = at.rstrip("`").lstrip(".") or None
    where = f"{param}: " if param else ""
    return ApiError(400, f"{where}{what}", param=param)
