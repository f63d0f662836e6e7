"""Which steps a step waited for, told from the tree of spans and their times.

A trace does not say it; this is the rule.

- A *branch* is a step, or a span that holds steps. It begins when its span or its first step
  begins, whichever is earlier, and ends when its span or its last step ends, whichever is later.
- Of two branches under the same span, the one that had ended when the other began comes *before*
  it. Branches that overlap in time are parallel and are not linked, nor are two that both take no
  time at the same moment.
- To find the predecessors of a step, climb from it to the nearest span under which some branch
  came before the branch just climbed. Of the branches that came before, those that none of the
  others comes after are the last; their last steps, found in the same way, are the predecessors.
  Where no span is found, the step begins the task.

So steps of parallel branches are never linked; a step after a fan-out waits for all of it; and the
first step of a nested agent waits for what its agent waited for. The work is one sort of the
branches. A step has at most `MOST_PARENTS` predecessors, those that ended last: linking two
fan-outs of thousands would take millions of links that say no more.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from polysilicon.workload.imports.spans.forest import Forest, Ints, climb, levels, marked_above

MOST_PARENTS = 64
NEVER = np.int64(2**62)
"""The end of what never ended, as far as the trace tells: nothing comes after it."""


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Predecessors of steps, as the rows of an Arrow list column.

    Attributes:
        offsets: shape (steps + 1,).
        parents: step of each link, an index among the steps.
        capped: how many steps have more predecessors than were kept.
    """

    offsets: Ints
    parents: Ints
    capped: int


class _Branches(msgspec.Struct, frozen=True, kw_only=True):
    """Branches sorted by the node that holds them and by their end.

    Attributes:
        node: node of each branch in that order, shape (branches,).
        first: first branch of the same group, by node, shape (nodes,).
        before: end (exclusive) of those that came before it, by node; `first` where none did.
        last: beginning of the last ones of them, by node.
        exits: slice of the last branches that each node holds, by node; shape (nodes, 2).
    """

    node: Ints
    first: Ints
    before: Ints
    last: Ints
    exits: Ints


def predecessors(forest: Forest, steps: Ints, start_ns: Ints, end_ns: Ints) -> Links:
    """Return the predecessors of steps.

    Args:
        forest: the trees.
        steps: nodes that are steps, which hold no other steps; shape (steps,).
        start_ns: of each node, shape (nodes,); widened in place to what a branch holds. 0 where it
            is not known, which only spans without steps and nodes that are no spans may be.
        end_ns: of each node; 0 where it is not known.
    """
    holds = marked_above(forest.parent, steps)
    _widen(forest, holds, steps, start_ns, end_ns)
    branch = holds.copy()
    branch[steps] = True
    branch[len(forest.parent) - forest.traces :] = False
    branches = _arrange(forest.parent, np.flatnonzero(branch), start_ns, end_ns)
    resolved = _resolve(branches, holds)
    exits = _Exits(branches, resolved, holds, forest.depth, end_ns)
    climbs = branch & (branches.before == branches.first)
    _, source = climb(np.where(climbs, forest.parent, np.arange(len(branch))), ~climbs)
    return _links(steps, source[steps], branches, exits)


def _widen(forest: Forest, holds: Any, steps: Ints, start_ns: Ints, end_ns: Ints) -> None:
    """Let each node that holds steps begin and end no later and no earlier than these, in place."""
    rest = np.flatnonzero(holds)
    start_ns[rest[start_ns[rest] <= 0]] = NEVER
    unknown = steps[end_ns[steps] <= 0]
    end_ns[unknown] = NEVER
    for level in levels(forest.depth, np.concatenate((steps, rest))):
        above = forest.parent[level]
        np.minimum.at(start_ns, above, start_ns[level])
        ended = end_ns[level] < NEVER
        np.maximum.at(end_ns, above[ended], end_ns[level[ended]])
    end_ns[rest[end_ns[rest] <= 0]] = NEVER


def _arrange(parent: Ints, nodes: Ints, start_ns: Ints, end_ns: Ints) -> _Branches:
    """Sort branches by group and end, and find for each how many had ended when it began.

    Ends and beginnings of a group are sorted as one list of moments. At equal moments come first
    ends, then beginnings of what takes no time, then their ends, then the other beginnings.
    """
    size = len(nodes)
    start, end = start_ns[nodes], end_ns[nodes]
    point = (start >= end).astype(np.int64)
    # Each key is a sort, so moment and rank are one: moments are from 1 to `NEVER`, which is 2**62.
    moment = np.concatenate((end, start)) - 1
    rank = np.concatenate((2 * point, 3 - 2 * point))
    group = parent[nodes]
    key = 4 * moment.astype(np.uint64) + rank.astype(np.uint64)
    order = np.lexsort((key, np.concatenate((group, group))))
    is_end = order < size
    by_end = order[is_end]
    ended = np.cumsum(is_end)
    # Nodes by group and end; how many branches of all groups come before each beginning.
    before = np.zeros(len(parent), np.int64)
    before[nodes[order[~is_end] - size]] = ended[~is_end]
    node = nodes[by_end]
    groups = group[by_end]
    begin = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[:size])
    heads = np.repeat(begin, np.diff(begin, append=size))
    first = np.zeros(len(parent), np.int64)
    first[node] = heads
    # Branches before one that is itself before: those that did not come last. It only grows.
    not_last = np.maximum.accumulate(before[node]) if size else node
    last = np.zeros(len(parent), np.int64)
    some = before[node] > heads
    last[node[some]] = np.maximum(not_last[before[node[some]] - 1], heads[some])
    return _Branches(
        node=node,
        first=first,
        before=before,
        last=last,
        exits=_exit_slices(parent, node, groups, end_ns, not_last),
    )


def _exit_slices(parent: Ints, node: Ints, groups: Ints, end_ns: Ints, not_last: Ints) -> Ints:
    """Return the slice of the last branches of each group, by the node that holds them."""
    exits = np.zeros((len(parent), 2), np.int64)
    finite = np.flatnonzero(end_ns[node] < NEVER)
    if finite.size:
        ends = np.flatnonzero(np.append(groups[finite][1:] != groups[finite][:-1], True))
        stop = finite[ends] + 1
        holder = groups[finite[ends]]
        heads = np.searchsorted(groups, holder)
        exits[holder, 0] = np.maximum(not_last[stop - 1], heads)
        exits[holder, 1] = stop
    return exits


def _resolve(branches: _Branches, holds: Any) -> Ints:
    """Return for each node its last step, or the nearest node below that has several last ones."""
    down = np.arange(len(holds))
    single = holds & (branches.exits[:, 1] - branches.exits[:, 0] == 1)
    down[single] = branches.node[branches.exits[single, 0]]
    while True:
        further = down[down]
        if np.array_equal(further, down):
            return down
        down = further


class _Exits:
    """The last steps of slices of branches.

    A slice of steps only is *plain*, and most are; what is left is worked out once, from the
    deepest spans up.
    """

    def __init__(
        self, branches: _Branches, resolved: Ints, holds: Any, depth: Ints, end_ns: Ints
    ) -> None:
        self.nodes = resolved[branches.node]
        self.slices = branches.exits
        self.holds = holds
        self.capped: set[tuple[int, int]] = set()
        self._end_ns = end_ns
        self._of: dict[int, list[int]] = {}
        self._holders = np.concatenate((np.zeros(1, np.int64), np.cumsum(holds[self.nodes])))
        low, high = self.slices[:, 0], self.slices[:, 1]
        hard = np.flatnonzero(holds & (high - low > 1) & ~self.plain(low, high))
        for node in hard[np.argsort(-depth[hard], kind="stable")].tolist():
            self._of[node] = self.of(*self.slices[node].tolist())

    def plain(self, low: Ints, high: Ints) -> Any:
        """Return which slices are of steps only, and not too many."""
        return (self._holders[low] == self._holders[high]) & (high - low <= MOST_PARENTS)

    def of(self, low: int, high: int) -> list[int]:
        """Return the last steps of some branches, at most `MOST_PARENTS`."""
        # Each branch has a last step, and they are sorted by their end.
        found: list[int] = []
        for node in self.nodes[max(low, high - MOST_PARENTS) : high].tolist():
            if not self.holds[node]:
                found.append(node)
            elif node in self._of:
                found.extend(self._of[node])
            else:
                found.extend(self.nodes[slice(*self.slices[node])].tolist())
        if len(found) > MOST_PARENTS or high - low > MOST_PARENTS:
            self.capped.add((low, high))
        if len(found) > MOST_PARENTS:
            found.sort(key=lambda node: (int(self._end_ns[node]), node))
            found = found[-MOST_PARENTS:]
        return found


def _links(steps: Ints, source: Ints, branches: _Branches, exits: _Exits) -> Links:
    """Return the links of steps from the nodes before which their predecessors lie."""
    low, high = branches.last[source], branches.before[source]
    some = high > branches.first[source]
    width = len(branches.node) + 1
    slices, code = np.unique(low[some] * width + high[some], return_inverse=True)
    flat, begin, sizes, capped = _pools(slices // width, slices % width, exits)
    counts = np.zeros(len(steps), np.int64)
    counts[some] = sizes[code]
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    shift = np.repeat(begin[code] - offsets[:-1][some], sizes[code])
    place = np.full(len(branches.first), -1, np.int64)
    place[steps] = np.arange(len(steps))
    parents = place[flat[np.arange(len(shift)) + shift]]
    return Links(offsets=offsets, parents=parents, capped=int(capped[code].sum()))


def _pools(low: Ints, high: Ints, exits: _Exits) -> tuple[Ints, Ints, Ints, Any]:
    """Return the last steps of slices, where each one's begin, how many, and which were capped."""
    # One branch that ends in several others is as good as these.
    last = exits.nodes[low]
    inner = (high - low == 1) & exits.holds[last]
    low, high = (
        np.where(inner, exits.slices[last, at], side) for at, side in ((0, low), (1, high))
    )
    plain = exits.plain(low, high)
    sizes = np.where(plain, high - low, 0)
    capped = np.zeros(len(low), np.bool_)
    more: list[int] = []
    begin = low.copy()
    for at in np.flatnonzero(~plain).tolist():
        key = (int(low[at]), int(high[at]))
        found = exits.of(*key)
        begin[at], sizes[at] = len(exits.nodes) + len(more), len(found)
        capped[at] = key in exits.capped
        more.extend(found)
    return np.concatenate((exits.nodes, np.array(more, np.int64))), begin, sizes, capped
