"""How long tasks of each agent took, and so which of those under way go first.

What the last tasks of each agent took is kept beside the profile, from one run to the next: what
begins knows from its first moment whose tasks are short. It goes by the agent's name alone, so that
where an agent has changed, or another model answers it, the order is off until as many new tasks
have ended as were kept.
"""

from __future__ import annotations

import fcntl
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from polysilicon import schedule
from polysilicon.cost.engine_choice import data_folder
from polysilicon.disk import write_whole
from polysilicon.errors import PolysiliconError
from polysilicon.schedule.types import Floats, plain

FORMAT = 1
FILE = "lengths.json"
KEPT = 32
"""Tasks of an agent that are kept: few, so that those of a new version soon outnumber them."""

_MOST_AGENTS = 256
"""Agents that are kept: of those that ran last."""

_log = logging.getLogger(__name__)
_doublings, _looks = plain(schedule.doublings), plain(schedule.looks)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: agent → seconds of service of its last tasks, the latest last."""

    format: int = FORMAT
    service_s: dict[str, list[Annotated[float, Meta(ge=0.0)]]] = {}


def lengths_path() -> Path:
    """Return where the file lies."""
    return data_folder() / FILE


class Lengths:
    """Seconds of service of the tasks that ended last, by agent.

    Args:
        before: what is known already, the latest last.
    """

    def __init__(self, before: Mapping[str, Iterable[float]] | None = None) -> None:
        self._last: dict[str, Floats] = {}
        self._ended: dict[str, int] = {}
        self._usual_s: dict[str, float] = {}
        self._new: dict[str, deque[float]] = {}
        for agent, seconds in (before or {}).items():
            for service_s in seconds:
                self._note(agent, service_s)

    def ended(self, agent: str, service_s: float) -> None:
        """Note what service a task had in all."""
        self._note(agent, service_s)
        self._new.setdefault(agent, deque(maxlen=KEPT)).append(service_s)

    def _note(self, agent: str, service_s: float) -> None:
        if agent not in self._last:
            self._last[agent] = np.zeros(schedule.REMEMBERED)
        last, count = self._last[agent], self._ended.get(agent, 0)
        last[count % schedule.REMEMBERED] = service_s
        self._ended[agent] = count + 1
        if _looks(count + 1):
            held_s = self._usual_s.get(agent, 0.0)
            self._usual_s[agent] = schedule.usual_s(last, 0, count + 1, held_s)

    def level(self, agent: str, attained_s: float) -> int:
        """Return the level of a task by the service that it is expected to need still.

        Args:
            agent: of the task.
            attained_s: seconds of service that it has had.
        """
        last = self._last.get(agent)
        if last is None:
            return _doublings(attained_s)
        usual_s = self._usual_s[agent]
        return schedule.level(last, 0, self._ended[agent], usual_s, attained_s)

    def keep(self, path: Path) -> None:
        """Add the tasks that ended to the file, for whoever begins next; each is added once.

        Where it cannot be written it stays as it is, and nothing fails: an order is at stake.
        """
        if not self._new:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # another run may end at this moment
                after = _read(path)
                for agent, new in self._new.items():
                    after[agent] = [*after.pop(agent, ()), *new][-KEPT:]
                latest = dict(list(after.items())[-_MOST_AGENTS:])
                write_whole(path, msgspec.json.encode(_File(service_s=latest)))
        except (OSError, PolysiliconError) as error:
            _log.debug("lengths of tasks are not kept: %s", error)
        else:
            self._new = {}


def kept_lengths(path: Path) -> Lengths:
    """Return what was kept of the tasks before; of a file that is none of ours, nothing."""
    return Lengths(_read(path))


def _read(path: Path) -> dict[str, list[float]]:
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        if found.format == FORMAT:
            return found.service_s
    return {}
