"""Heaps over arrays: of keys with what they belong to, and of stations that can move.

A plain heap is a stretch of an array of `ENTRY`. Equal keys go by what they belong to, so that the
order in which things were put in decides nothing. A moving heap is a stretch of an array of
`MEMBER`, which knows where each of its members is, so that a member's key can change; it is how
the next event of a million engines is found.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polysilicon.schedule.types import part

ENTRY = np.dtype([("key", np.float64), ("item", np.int64)])

MEMBER = np.dtype([("key", np.float64), ("member", np.int64), ("place", np.int64)])
"""Row i tells the key of member i, where in the heap it is, and who is at place i of the heap."""


@part
def before(key: float, item: int, other_key: float, other: int) -> bool:
    """Tell whether a key and its item come before another."""
    return key < other_key or (key == other_key and item < other)


@part
def push(heap: Any, at: int, size: int, key: float, item: int) -> None:
    """Put an item into the heap that begins at `at` and has `size` items; there must be room."""
    hole = _risen(heap, at, size, key, item)
    heap[at + hole].key = key
    heap[at + hole].item = item


@part
def _risen(heap: Any, at: int, hole: int, key: float, item: int) -> int:
    """Move a hole up to where a key belongs, as far as it goes."""
    while hole > 0:
        above = (hole - 1) >> 1
        if not before(key, item, heap[at + above].key, heap[at + above].item):
            break
        heap[at + hole].key = heap[at + above].key
        heap[at + hole].item = heap[at + above].item
        hole = above
    return hole


@part
def remove(heap: Any, at: int, size: int, place: int) -> None:
    """Take the item at a place (0: the first) of a heap of `size` items out of it."""
    last = size - 1
    if place == last:
        return
    key, item = heap[at + last].key, heap[at + last].item  # fills the hole
    hole = _risen(heap, at, place, key, item)
    while True:
        child = 2 * hole + 1
        if child >= last:
            break
        right = child + 1
        if right < last and before(
            heap[at + right].key,
            heap[at + right].item,
            heap[at + child].key,
            heap[at + child].item,
        ):
            child = right
        if not before(heap[at + child].key, heap[at + child].item, key, item):
            break
        heap[at + hole].key = heap[at + child].key
        heap[at + hole].item = heap[at + child].item
        hole = child
    heap[at + hole].key = key
    heap[at + hole].item = item


@part
def move(heap: Any, at: int, size: int, member: int, key: float) -> None:
    """Give a member of a moving heap another key, and put it where it belongs.

    Args:
        heap: rows of `MEMBER`; members are rows of all of it.
        at: where the heap of this member begins.
        size: how many members it has.
        member: whose key changes.
        key: the new one.
    """
    heap[member].key = key
    hole = heap[member].place
    while hole > 0:
        up = (hole - 1) >> 1
        above = heap[at + up].member
        if not before(key, member, heap[above].key, above):
            break
        heap[at + hole].member = above
        heap[above].place = hole
        hole = up
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        below = heap[at + child].member
        if child + 1 < size:
            right = heap[at + child + 1].member
            if before(heap[right].key, right, heap[below].key, below):
                child, below = child + 1, right
        if not before(heap[below].key, below, key, member):
            break
        heap[at + hole].member = below
        heap[below].place = hole
        hole = child
    heap[at + hole].member = member
    heap[member].place = hole


def moving(sizes: Any, key: float) -> Any:
    """Return moving heaps of some members each, one after the other, all with one key."""
    counts = np.asarray(sizes, np.int64)
    heap = np.zeros(int(counts.sum()), MEMBER)
    heap["key"], heap["member"] = key, np.arange(len(heap))
    heap["place"] = np.arange(len(heap)) - np.repeat(np.cumsum(counts) - counts, counts)
    return heap
