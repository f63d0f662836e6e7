"""Inputs of a run: JSON Lines, one object a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.disk import unread
from polysilicon.errors import InputError
from polysilicon.runtime.types import Agent

_LINE_BYTES = 64 * 2**20


def read_inputs(path: Path, agent: Agent) -> Iterator[dict[str, Any]]:
    """Yield the input of each line as `agent` accepts it; empty lines are passed over.

    Args:
        path: of the file; `-` is standard input.
        agent: that they are for.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object, or none for this agent;
            names file and line.
    """
    try:
        stream = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise unread(path, error, what="the inputs") from error
    with stream:
        row = 0
        while line := stream.readline(_LINE_BYTES):
            row += 1
            if line.strip():
                where = f"{path}, line {row}"
                yield accepted(agent, _parse(line, where), where)


def accepted(agent: Agent, value: dict[str, Any], where: str) -> dict[str, Any]:
    """Return an input as `agent` accepts it, which is how it is kept.

    Raises:
        InputError: it is none for this agent; names `where` it is from.
    """
    if agent.accept is None:
        return value
    try:
        return agent.accept(value)
    except InputError as error:
        place = f"{where}: {error.where}" if error.where else where
        raise InputError(error.what, where=place, mend=error.mend) from error


def _parse(line: bytes, where: str) -> dict[str, Any]:
    mend = "write one JSON object a line"
    try:
        value = msgspec.json.decode(line)
        msgspec.msgpack.encode(value)  # as the journal keeps it
    except OverflowError as error:
        raise InputError("a number does not fit into 64 bits", where=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not JSON: {error}", where=where, mend=mend) from error
    if not isinstance(value, dict):
        raise InputError(f"a JSON {type(value).__name__}, not an object", where=where, mend=mend)
    return value
