from __future__ import annotations

from polysilicon.cost.llm.slots import Slots


def taken(count: int, steps: int) -> Slots:
    slots = Slots(count)
    for step in range(steps):
        slots.take(step)
    return slots


def test_steps_are_neighbours_where_they_can_be():
    slots = taken(8, 4)
    assert slots.passes(range(4)) == [4]
    assert slots.passes([0, 1, 3]) == [2, 1]
    assert slots.passes([]) == []


def test_a_gap_is_filled_first():
    slots = taken(8, 5)
    slots.leave(2)
    assert slots.passes([0, 1, 3, 4]) == [2, 2]
    slots.take(5)
    assert slots.passes([0, 1, 5, 3, 4]) == [5]


def test_of_equals_the_one_that_was_free_for_longest_is_taken():
    slots = taken(3, 3)
    for step in (1, 0, 2):
        slots.leave(step)
    slots.take(7)
    slots.take(8)
    # In slot 1, and then beside it in the one that was left first of the two.
    assert slots.passes([7, 8]) == [2]
    slots.take(9)
    assert slots.passes([7, 9]) == [2]
    assert slots.passes([8, 9]) == [1, 1]


def test_more_steps_than_slots_stand_behind_the_last():
    assert taken(2, 4).passes(range(4)) == [4]


def test_copies_go_on_for_themselves():
    slots = taken(4, 2)
    other = slots.copy()
    other.leave(0)
    assert slots.passes([0, 1]) == [2]
    assert other.passes([1]) == [1]
