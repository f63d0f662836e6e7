"""Tasks as graphs of their steps: how long each takes, and what its longest path is made of."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.placement.classes import PERSON, Classes, Sizes, sizes_of
from polysilicon.placement.program import Codes, Numbers
from polysilicon.workload.groups import TaskTimes, count_by
from polysilicon.workload.shape import links, walk
from polysilicon.workload.workload import Workload

MOST_TASKS = 1000
"""Of more tasks of an agent, as many are followed, evenly spread."""


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """Some tasks of each agent; arrays over their steps, and over the tasks.

    Attributes:
        agents: agent of each task.
        task: of each step, rising with the tasks.
        code: class of each step, -1 of those that no machine does.
        sizes: of each step over those of the step that stands for its class.
        pause_s: that each step takes on any machine: it waits for others.
        child: steps of the links between them.
        parent: that each of these waits for.
    """

    agents: list[str]
    task: Codes
    code: Codes
    sizes: Sizes
    pause_s: Numbers
    child: Codes
    parent: Codes

    def of(self, agent: str) -> Codes:
        """Return the tasks of an agent."""
        return np.flatnonzero(np.asarray(self.agents) == agent)

    def finish_s(self, step_s: Numbers) -> tuple[Numbers, Numbers]:
        """Return when each step ends after its task's arrival, and when each task does."""
        _, finish = walk(self.child, self.parent, step_s)
        ends = np.zeros(len(self.agents))
        np.maximum.at(ends, self.task, finish)
        return finish, ends

    def longest(self, finish: Numbers, tasks: Codes) -> Codes:
        """Return the steps on the longest path of some tasks.

        Args:
            finish: of each step, by `finish_s`.
            tasks: which.
        """
        order = np.lexsort((-finish, self.task))
        first = np.searchsorted(self.task[order], tasks)
        front = order[first]
        # The parent that ended last is the one that a step waited for.
        dear = np.lexsort((-finish[self.parent], self.child))
        children, parents = self.child[dear], self.parent[dear]
        found = []
        while len(front):
            found.append(front)
            at = np.searchsorted(children, front)
            at = np.minimum(at, max(len(children) - 1, 0))
            has = np.zeros(len(front), bool) if not len(children) else children[at] == front
            front = parents[at[has]] if has.any() else front[:0]
        return np.concatenate(found)


def tasks_of(workload: Workload, times: TaskTimes, classes: Classes) -> Tasks:
    """Return some tasks of each agent.

    The steps of a task that names no parents count as one after the other: nobody tells which could
    have run at once. A person's pauses are not counted.

    Args:
        workload: all steps.
        times: of its tasks.
        classes: of its steps.
    """
    agents = np.asarray(times.agents)
    chosen = np.zeros(len(agents), dtype=bool)
    for name in dict.fromkeys(times.agents):
        mine = np.flatnonzero(agents == name)
        most = min(len(mine), MOST_TASKS)
        chosen[mine[np.arange(most) * len(mine) // most]] = True
    rows = np.flatnonzero(chosen[times.codes])
    rows = rows[np.argsort(times.codes[rows], kind="stable")]
    part = Workload(workload.table.take(rows))
    _, task = np.unique(times.codes[rows], return_inverse=True)
    code = classes.code[rows]
    child, parent = _links(part, task)
    kind, kinds = part.codes("kind")
    numbers = {
        name: part.numbers(name)
        for name in ("prompt_tokens", "cached_tokens", "output_tokens", "cpu_s", "wait_s")
    }
    names, words = part.codes("name")
    person = np.array([word == PERSON for word in words], dtype=bool)[names]
    # An LLM step on an endpoint waits off this machine's cores for all of its service.
    works = np.array([word in ("llm", "train") for word in kinds], dtype=bool)[kind]
    own = sizes_of(kind, kinds, numbers)
    return Tasks(
        agents=[times.agents[i] for i in np.flatnonzero(chosen)],
        task=np.asarray(task, np.int64),
        code=code,
        sizes=Sizes(
            first=_over(own.first, classes.sizes.first, code),
            rest=_over(own.rest, classes.sizes.rest, code),
        ),
        pause_s=np.where(person | works, 0.0, np.nan_to_num(numbers["wait_s"])),
        child=child,
        parent=parent,
    )


def _over(own: Numbers, mean: Numbers, code: Codes) -> Numbers:
    """Return sizes over those of the steps that stand for their classes; 1 where there is none."""
    beside = (
        np.where(code >= 0, mean[np.maximum(code, 0)], 0.0) if len(mean) else np.zeros(len(own))
    )
    return np.where(beside > 0, own / np.where(beside > 0, beside, 1.0), 1.0)


def _links(part: Workload, task: Codes) -> tuple[Codes, Codes]:
    """Return the links between steps, those of tasks without any being in a row."""
    child, parent = links(part, task)
    tasks = int(task.max(initial=-1)) + 1
    linked = count_by(task[child], tasks) > 0
    after = np.flatnonzero((task[1:] == task[:-1]) & ~linked[task[1:]]) + 1
    return np.concatenate([child, after]), np.concatenate([parent, after - 1])
