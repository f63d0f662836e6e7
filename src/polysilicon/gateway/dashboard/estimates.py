"""The work seen here, estimated on other offers: by a worker process, now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from polysilicon import catalog, cost
from polysilicon.cost.elsewhere import Elsewhere
from polysilicon.errors import PolysiliconError
from polysilicon.gateway.dashboard.records import Found
from polysilicon.runtime.executor import Workers
from polysilicon.workload.record import StepRecord

EVERY_S = 15.0
_LIMIT_S = 120.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found: offers with an estimate, and those without one, and why."""

    rows: list[Elsewhere]
    refused: list[tuple[str, str]]


def estimated(steps: list[dict[str, Any]]) -> Answer:
    """Estimate steps on other offers; called in a worker, which gets plain values."""
    records = msgspec.convert(steps, list[StepRecord])
    rows, refused = cost.elsewhere(records, catalog.load())
    return Answer(rows=rows, refused=[(one.offer, one.reason) for one in refused])


class Estimates:
    """The latest estimate, renewed when it is asked for and is old.

    Args:
        workers: do the estimating, so that no call waits for it.
        steps: of the tasks that ended last.
        clock: seconds.
    """

    def __init__(
        self, workers: Workers, steps: Callable[[], list[StepRecord]], clock: Callable[[], float]
    ) -> None:
        self._workers, self._steps, self._clock = workers, steps, clock
        self._found = Found()
        self._found_s = 0.0
        self._of: tuple[str, str] | None = None
        self._asking: asyncio.Task[None] | None = None

    def latest(self) -> Found:
        """Return the latest estimate; a newer one is begun where steps ended since."""
        busy = self._asking is not None and not self._asking.done()
        age_s = self._clock() - self._found_s
        if not busy and (not self._found.steps or age_s > EVERY_S):
            busy = self._begin()
        return msgspec.structs.replace(self._found, age_s=age_s, busy=busy)

    def close(self) -> None:
        """Stop estimating."""
        if self._asking is not None:
            self._asking.cancel()

    def _begin(self) -> bool:
        """Begin to estimate, and tell whether there is anything new to be estimated."""
        steps = self._steps()
        if not steps or (steps[0].task_id, steps[0].step_id) == self._of:
            return False
        self._of = (steps[0].task_id, steps[0].step_id)
        self._asking = asyncio.create_task(self._ask(steps))
        return True

    async def _ask(self, steps: list[StepRecord]) -> None:
        """Have steps estimated."""
        plain = [msgspec.to_builtins(step) for step in steps]
        tasks = len({step.task_id for step in steps})
        try:
            done = await self._workers.call(estimated, (plain,), {}, _LIMIT_S)
        except PolysiliconError as error:
            found = Found(tasks=tasks, steps=len(steps), trouble=str(error))
        else:
            answer = msgspec.msgpack.decode(done.data, type=Answer)
            found = Found(tasks=tasks, steps=len(steps), rows=answer.rows, refused=answer.refused)
        self._found, self._found_s = found, self._clock()
