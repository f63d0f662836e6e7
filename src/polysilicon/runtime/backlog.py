"""The accepted tasks of a run that have not begun, and which of them begins next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from polysilicon.catalog.policy import Policy
from polysilicon.runtime.journal import PendingTask
from polysilicon.runtime.lengths import Lengths


class Backlog:
    """Tasks that wait to begin, the agents mixed evenly, so that kinds of work overlap.

    Those that somebody waits for go first, then those of agents whose tasks are expected to take
    least, by levels that double; an agent of which none has ended yet counts as short, so that it
    becomes known. No new task comes, so none can starve.

    Args:
        tasks: that were accepted, those of each agent in order.
        lengths: of the tasks that ended; read again at each choice.
        policy: says for which agents somebody waits.
    """

    def __init__(self, tasks: Iterable[PendingTask], lengths: Lengths, policy: Policy) -> None:
        self._lengths, self._policy = lengths, policy
        self._by_agent: dict[str, deque[tuple[float, PendingTask]]] = {}
        for task in tasks:
            self._by_agent.setdefault(task.agent, deque()).append((0.0, task))
        for agent, group in self._by_agent.items():
            evenly = ((n + 0.5) / len(group) for n in range(len(group)))
            self._by_agent[agent] = deque(zip(evenly, (task for _, task in group), strict=True))

    def __len__(self) -> int:
        return sum(map(len, self._by_agent.values()))

    @property
    def agents(self) -> list[str]:
        """Names of the agents, each once."""
        return list(self._by_agent)

    def next(self) -> PendingTask | None:
        """Take the task that begins next; None where there is none left."""
        agents = [agent for agent, group in self._by_agent.items() if group]
        if not agents:
            return None
        return self._by_agent[min(agents, key=self._rank)].popleft()[1]

    def _rank(self, agent: str) -> tuple[bool, int, float]:
        slo = self._policy.slo_of(agent)
        waited_for = slo is not None and slo.interactive
        return not waited_for, self._lengths.level(agent, 0.0), self._by_agent[agent][0][0]
