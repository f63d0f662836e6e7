"""The time of a task, which stands still while its model is loaded."""

from __future__ import annotations

import asyncio

from polysilicon.runtime.limit import Limit

LIMIT_S = 0.05


def test_it_ends_by_itself() -> None:
    async def scenario() -> bool:
        limit = Limit(LIMIT_S)
        assert not limit.over.done()
        await limit.over
        return limit.over.cancelled()

    assert not asyncio.run(scenario())


def test_it_stands_until_the_last_line_goes_on() -> None:
    async def scenario() -> None:
        limit = Limit(LIMIT_S)
        with limit.stands():
            with limit.stands():
                await asyncio.sleep(2 * LIMIT_S)
            await asyncio.sleep(2 * LIMIT_S)
            assert not limit.over.done()
        await limit.over

    asyncio.run(scenario())


def test_nothing_ends_that_is_closed() -> None:
    async def scenario() -> bool:
        limit = Limit(LIMIT_S)
        with limit.stands():
            limit.close()
        await asyncio.sleep(2 * LIMIT_S)
        return limit.over.cancelled()

    assert asyncio.run(scenario())
