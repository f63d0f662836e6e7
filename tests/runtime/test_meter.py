from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polysilicon.runtime.meter import SharedCpu


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_step_gets_all_that_was_used_while_it_ran() -> None:
    clock = Clock()
    cpu = SharedCpu(clock)
    clock.now_s = 5.0  # nobody ran: nobody pays
    mark = cpu.begin()
    clock.now_s = 7.0
    assert cpu.end(mark) == 2.0


def test_two_steps_share_evenly_while_both_run() -> None:
    clock = Clock()
    cpu = SharedCpu(clock)
    first = cpu.begin()
    clock.now_s = 1.0
    second = cpu.begin()
    clock.now_s = 3.0
    assert cpu.end(first) == 2.0
    clock.now_s = 4.0
    assert cpu.end(second) == 2.0


def test_tools_of_this_process_are_left_out() -> None:
    clock = Clock()
    cpu = SharedCpu(clock)
    mark = cpu.begin()
    clock.now_s = 3.0
    cpu.exclude(1.0)
    assert cpu.end(mark) == 2.0


@given(st.lists(st.tuples(st.sampled_from(["begin", "end"]), st.floats(0, 10)), max_size=40))
def test_shares_add_up_to_what_was_used_while_any_ran(events) -> None:
    clock = Clock()
    cpu = SharedCpu(clock)
    marks: list[float] = []
    shares, used = 0.0, 0.0
    for what, spent_s in [*events, *[("end", 1.0)] * len(events)]:
        clock.now_s += spent_s
        used += spent_s if marks else 0.0
        if what == "begin":
            marks.append(cpu.begin())
        elif marks:
            shares += cpu.end(marks.pop(0))
    assert abs(shares - used) < 1e-6
