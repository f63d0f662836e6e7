"""The work seen here, estimated on other offers: by a worker process, now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from polysilicon import catalog, cost
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.gateway.dashboard.records import Found
from polysilicon.runtime.executor import Workers
from polysilicon.workload.record import StepRecord

EVERY_S = 15.0
_LIMIT_S = 120.0


def estimated(steps: list[dict[str, Any]]) -> Found:
    """Estimate steps on other offers; called in a worker, which gets plain values.

    A task that called a model of which the catalog knows nothing is left out, for on no offer
    could it be estimated.
    """
    records = msgspec.convert(steps, list[StepRecord])
    facts = catalog.load()
    models = {step.model for step in records if step.kind == "llm" and step.model}
    unknown = {model for model in models if not _known(facts, model)}
    strange = {step.task_id for step in records if step.model in unknown}
    taken = [step for step in records if step.task_id not in strange]
    rows, refused = cost.elsewhere(taken, facts)
    return Found(
        tasks=len({step.task_id for step in taken}),
        steps=len(taken),
        rows=rows,
        refused=[(one.offer, one.reason) for one in refused],
        left_out=len(strange),
        unknown=sorted(unknown),
    )


def _known(facts: catalog.Catalog, model: str) -> bool:
    try:
        facts.model(model)
    except InputError:
        return False
    return True


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
        if not busy and (self._of is None or age_s > EVERY_S):
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
        try:
            done = await self._workers.call(estimated, (plain,), {}, _LIMIT_S)
        except PolysiliconError as error:
            found = Found(trouble=str(error))
        else:
            found = msgspec.msgpack.decode(done.data, type=Found)
        self._found, self._found_s = found, self._clock()
