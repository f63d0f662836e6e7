"""What a caller says of a call: task, agent, deadline, region, class of its data.

As headers `X-Polysilicon-Task`, `-Agent`, `-Deadline` (seconds from now), `-Region` (a name or a
pattern such as `eu-*`) and `-Data-Class`; or in the request's `metadata`, as `task`, `agent`,
`deadline`, `region` and `data_class`. Headers go before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from starlette.datastructures import Headers

from polysilicon.gateway.errors import ApiError

FIELDS = ("task", "agent", "deadline", "region", "data_class")
_MOST_CHARS = 128


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of a call.

    Attributes:
        task: id of the task it belongs to; empty where it is one of its own.
        agent: name of the agent; empty where none is told.
        deadline_s: seconds from now until which it should be done; infinite where it may take long.
        region: name or pattern of regions that it may go to; empty for all.
        data_class: what residency rules call its data.
    """

    task: str = ""
    agent: str = ""
    deadline_s: float = math.inf
    region: str = ""
    data_class: str | None = None


NOTHING = About()


def about(headers: Headers, metadata: Mapping[str, object] | None) -> About:
    """Return what was said of a call.

    Raises:
        ApiError: 400; something that was said makes no sense.
    """
    found = {key: value for key, value in (metadata or {}).items() if key in FIELDS}
    for field in FIELDS:
        value = headers.get(f"x-polysilicon-{field.replace('_', '-')}")
        if value:
            found[field] = value
    if not found:
        return NOTHING
    texts = {field: _text(field, value) for field, value in found.items()}
    deadline = texts.get("deadline", "")
    return About(
        task=texts.get("task", ""),
        agent=texts.get("agent", ""),
        deadline_s=_seconds(deadline) if deadline else math.inf,
        region=texts.get("region", ""),
        data_class=texts.get("data_class") or None,
    )


def _text(field: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ApiError(400, f"{field} is a text", param=f"metadata.{field}")
    text = str(value)
    if len(text) > _MOST_CHARS or not text.isprintable():
        what = f"{field} is up to {_MOST_CHARS} printable characters"
        raise ApiError(400, what, param=f"metadata.{field}")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ApiError(400, "deadline is seconds from now", param="metadata.deadline")
    return seconds
