"""Sequences that begin alike, packed into one row: what they share is computed once.

A row is the tree of the sequences' prefixes. Each token is one node, which sees its ancestors and
itself, at the position that it has in its sequences, so the numbers are those of each sequence on
its own. Nothing is padded. A prompt that has many answers, and the words that a chat template puts
before every prompt, are one path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polysilicon.agents.posttrain.tokens import Sequence_

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A row of n nodes, each after its parent, of which m count.

    Attributes:
        tokens: of each node, shape (n,).
        positions: depth of each node, from 0, shape (n,).
        sees: whether the node of a row sees that of a column, shape (n, n).
        counted: nodes that the loss of any sequence is about, ascending, shape (m,).
        parents: of these, shape (m,): the node after which the token was to be foretold.
        members: of each sequence its counted tokens in order, as places in `counted`.
    """

    tokens: Places
    positions: Places
    sees: npt.NDArray[np.bool_]
    counted: Places
    parents: Places
    members: list[Places]


def tree_of(rows: Sequence[Sequence_]) -> Tree:
    """Return the tree of some sequences; each must have a first token that is not counted."""
    nodes: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    paths: list[list[int]] = []
    for row in rows:
        parent, path = -1, []
        for token in row.tokens.tolist():
            node = nodes.setdefault((parent, token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                parents.append(parent)
            path.append(node)
            parent = node
        paths.append(path)
    sees = np.zeros((len(tokens), len(tokens)), dtype=np.bool_)
    positions = np.zeros(len(tokens), dtype=np.int64)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sees[node] = sees[parent]
            positions[node] = positions[parent] + 1
        sees[node, node] = True
    pairs = zip(rows, paths, strict=True)
    about = [np.array(path[row.begin :], dtype=np.int64) for row, path in pairs]
    counted = np.unique(np.concatenate(about)) if about else np.empty(0, np.int64)
    return Tree(
        tokens=np.array(tokens, dtype=np.int64),
        positions=positions,
        sees=sees,
        counted=counted,
        parents=np.array(parents, dtype=np.int64)[counted],
        members=[np.searchsorted(counted, path) for path in about],
    )
