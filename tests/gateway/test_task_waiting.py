"""The queue of tasks: in the order of their coming, and no more than may be there."""

from __future__ import annotations

import asyncio

import pytest

from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.tasks.types import Bounds
from polysilicon.gateway.tasks.waiting import Waiting


def waiting(*task_ids: str, at_once: int = 1, most: int = 1000) -> Waiting:
    found = Waiting(Bounds(at_once=at_once, waiting=most))
    for task_id in task_ids:
        found.put(task_id)
    return found


def test_they_go_in_the_order_in_which_they_came() -> None:
    queue = waiting(*"abcde")
    queue.remove("c")
    queue.remove("none")
    queue.put("c")

    async def main() -> list[str]:
        return [await queue.next() for _ in range(len(queue))]

    assert asyncio.run(main()) == [*"abdec"]
    assert len(queue) == 0


def test_one_that_comes_wakes_one_of_those_who_wait_for_it() -> None:
    async def main() -> None:
        queue, turns = waiting(), []

        async def line(number: int) -> str:
            task_id = await queue.next()
            turns.append(number)
            return task_id

        lines = [asyncio.create_task(line(number)) for number in range(3)]
        await asyncio.sleep(0)
        lines[0].cancel()
        await asyncio.sleep(0)
        queue.put("a")
        assert await lines[1] == "a"
        assert (turns, lines[2].done()) == ([1], False)
        queue.put("b")
        queue.remove("b")  # before anybody took it
        await asyncio.sleep(0)
        queue.put("c")
        assert await lines[2] == "c"

    asyncio.run(main())


def test_those_that_are_being_taken_in_take_room() -> None:
    queue = waiting("a", at_once=2, most=2)
    queue.check_room()
    with queue.coming():
        assert len(queue) == 2
        with pytest.raises(ApiError, match="2 tasks wait already") as refused:
            queue.check_room()
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    queue.check_room()
    # Who is refused is told how long tasks take now.
    before_s = refused.value.retry_after_s
    for _ in range(100):
        queue.took(40.0)
    queue.put("b")
    with pytest.raises(ApiError) as refused:
        queue.check_room()
    assert before_s == 5.0
    assert refused.value.retry_after_s == pytest.approx(40.0)
