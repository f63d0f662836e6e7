"""What comes in one turn of the event loop is committed together; one alone waits for nobody."""

from __future__ import annotations

import asyncio

import pytest

from polysilicon.runtime.journals.commits import Commits


class Written:
    """Commits that only keep what they were given; the first ones may be refused."""

    def __init__(self, *refusals: bool) -> None:
        self.batches: list[list[int]] = []
        self._refusals = list(refusals)
        self.commits: Commits[int] = Commits(self._commit)

    def _commit(self, items: list[int]) -> bool:
        if self._refusals and self._refusals.pop(0):
            return False
        self.batches.append(items)
        return True

    async def write(self, *numbers: int) -> None:
        await asyncio.gather(*(self.commits.write(number) for number in numbers))


def test_one_alone_is_written_before_the_loop_turns() -> None:
    written = Written()

    async def main() -> None:
        for number in range(3):
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            await written.commits.write(number)
            assert not turned.done()
            await turned

    asyncio.run(main())
    assert written.batches == [[0], [1], [2]]


def test_those_of_one_turn_are_together_in_their_order_until_one_is_alone_again() -> None:
    written = Written()

    async def main() -> None:
        for begin in (0, 10, 20):
            await written.write(*range(begin, begin + 10))
        await written.write(30)
        await written.write(31)

    asyncio.run(main())
    first, rest, *others = written.batches
    assert (first, rest) == ([0], list(range(1, 10)))
    assert others == [list(range(10, 20)), list(range(20, 30)), [30], [31]]


def test_a_refusal_is_tried_again_until_it_is_taken() -> None:
    written = Written(True, True, True)
    asyncio.run(written.write(1, 2))
    assert written.batches == [[1, 2]]


def test_a_failure_is_told_to_all_who_wait_and_the_next_go_on() -> None:
    batches: list[list[int]] = []

    def commit(items: list[int]) -> bool:
        if 3 in items:
            raise ValueError("no 3")
        batches.append(items)
        return True

    async def main() -> list[object]:
        commits = Commits(commit)
        works = (commits.write(number) for number in range(5))
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        await commits.write(5)
        return outcomes

    first, *others = asyncio.run(main())
    assert first is None
    assert [str(error) for error in others] == ["no 3"] * 4
    assert batches == [[0], [5]]


def test_what_is_waited_for_by_nobody_is_written_all_the_same() -> None:
    written = Written()

    async def main() -> None:
        works = [asyncio.create_task(written.commits.write(number)) for number in range(4)]
        await asyncio.sleep(0)
        for work in works[1:3]:
            work.cancel()
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [
            False, True, True, False,
        ]  # fmt: skip

    asyncio.run(main())
    assert sorted(number for batch in written.batches for number in batch) == [0, 1, 2, 3]


@pytest.mark.parametrize("again", [False, True])
def test_what_waits_at_the_end_is_written_once(again: bool) -> None:
    written = Written()

    async def main() -> None:
        works = [asyncio.create_task(written.commits.write(number)) for number in range(3)]
        await asyncio.sleep(0)
        written.commits.finish()
        if again:
            written.commits.finish()
        await asyncio.gather(*works)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert written.batches == [[0], [1, 2]]
