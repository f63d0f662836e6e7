from __future__ import annotations

from polysilicon.runtime.health import FAILURES, Health


def drained() -> Health:
    health = Health()
    for _ in range(FAILURES):
        assert health.up(100.0)
        assert not health.begun()
        health.failed(100.0)
    return health


def test_failures_in_a_row_drain_it() -> None:
    assert not drained().up(100.5)
    health = Health()
    for _ in range(3 * FAILURES):  # one success between is enough
        health.failed(1.0)
        health.succeeded()
    assert health.up(1.0)


def test_one_probe_at_a_time() -> None:
    health = drained()
    assert health.up(101.0)
    assert health.begun()
    assert not health.up(101.0)
    health.left(probe=True)  # it was cancelled, and tells nothing
    assert health.up(101.0)
    assert health.begun()
    health.succeeded()
    assert health.up(101.0)
    assert not health.begun()
    assert health.up(101.0)  # whole again: more than one


def test_steps_begun_before_it_was_drained_do_not_end_a_probe() -> None:
    health = drained()
    assert health.begun()
    health.left(probe=False)
    health.failed(101.0)
    assert not health.up(101.5)
    health.failed(101.0, probe=True)
    assert not health.up(102.9)
    assert health.up(103.0)  # the pause was doubled once, by the probe


def test_probes_that_fail_come_ever_later_up_to_a_minute() -> None:
    health, now_s, pauses = drained(), 101.0, []
    for _ in range(8):
        assert health.up(now_s)
        assert health.begun()
        health.failed(now_s, probe=True)
        pause_s = next(s for s in (1, 2, 4, 8, 16, 32, 60, 61) if health.up(now_s + s))
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_probe_that_leaves_a_doubt_tells_nothing_and_is_looked_into() -> None:
    health, doubts = drained(), []
    health.on_doubt = lambda: doubts.append(1)
    for now_s in (101.0, 102.0, 103.0):  # a caller whose requests make any engine fail
        assert health.up(now_s)
        assert health.begun()
        health.failed(now_s, probe=True, doubtful=True)
        assert not health.up(now_s)
    assert (health.failures, len(doubts)) == (FAILURES, 3)
    health.failed(103.0, doubtful=True)  # it was begun before
    assert len(doubts) == 3
    assert health.up(104.0)  # the pause has not grown
