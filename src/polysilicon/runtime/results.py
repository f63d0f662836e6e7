"""Results of steps as the journal keeps them: msgpack, an error as its type and text."""

from __future__ import annotations

from typing import Any

import msgspec

from polysilicon.errors import StepError, ToolError, printable
from polysilicon.runtime.types import MAX_RESULT_BYTES, too_large

_FAILURES: dict[str, type[StepError]] = {k.__name__: k for k in StepError.__subclasses__()}


def encode_result(result: Any) -> bytes:
    """Return a step's result as msgpack.

    Raises:
        ToolError: it holds what JSON cannot, or is too large.
    """
    try:
        data = msgspec.msgpack.encode(result)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise ToolError(f"its result is not JSON: {error}") from error
    if len(data) > MAX_RESULT_BYTES:
        raise ToolError(too_large("its result", len(data)))
    return data


def encode_error(error: StepError) -> bytes:
    """Return an error as msgpack: its type's name and its text."""
    return msgspec.msgpack.encode([type(error).__name__, printable(str(error))])


def decode_result(outcome: str | None, data: bytes, result_type: Any) -> Any:
    """Return a journaled result, or raise the journaled error.

    Raises:
        StepError: the step had failed.
    """
    if outcome == "ok":
        return msgspec.msgpack.decode(data, type=result_type)
    name, text = msgspec.msgpack.decode(data, type=tuple[str, str])
    raise _FAILURES.get(name, StepError)(text)
