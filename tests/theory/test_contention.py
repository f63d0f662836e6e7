"""Closed forms of contention: processor sharing, hyperthreads, turbo."""

from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.tools import SAME, Host, rate, throughput, tool_constants, tool_seconds

PLAIN = Host(vcpus=4, cores=4)
PAIRS = Host(vcpus=8, cores=4, pair=1.3, pair_low=1.0, pair_high=1.5)


@pytest.mark.parametrize("threads", [1, 3, 4, 5, 8, 40])
def test_processor_sharing_gives_each_thread_its_part(threads):
    assert rate(threads, PLAIN) == pytest.approx(min(1.0, 4 / threads))


def test_a_machine_never_does_more_than_all_of_it():
    assert throughput(400, PLAIN) == pytest.approx(4.0)
    assert throughput(8, PAIRS) == throughput(400, PAIRS) == pytest.approx(4 * 1.3)
    assert throughput(0, PAIRS) == 0.0


def test_second_threads_add_what_the_pair_gains():
    assert throughput(4, PAIRS) == pytest.approx(4.0)
    assert throughput(5, PAIRS) == pytest.approx(4.3)
    assert throughput(6, PAIRS) == pytest.approx(4.6)
    assert rate(8, PAIRS) == pytest.approx(0.65)


def test_turbo_is_kept_up_to_the_knee_and_then_falls_in_a_line():
    machine = Host(vcpus=100, cores=100, kept=0.8)
    knee = tool_constants()["turbo"]["knee"]
    assert rate(100 * knee, machine) == pytest.approx(1.0)
    assert rate(100, machine) == pytest.approx(0.8)
    assert rate(50 * (1 + knee), machine) == pytest.approx(0.9)


def test_time_stretches_by_load_over_cores():
    """k equal steps at once on a machine of V vCPUs take k/V times as long as one alone."""
    for steps in (8, 12, 20):
        others = (steps - 1) / PLAIN.vcpus
        found = tool_seconds(1.0, speed=SAME, machine=PLAIN, utilisation=others)
        assert found.service_s == pytest.approx(steps / 4)


def test_work_is_conserved():
    """What a full machine finishes in a second times what each costs is all of its vCPUs."""
    for machine in (PLAIN, PAIRS):
        for load in (1.0, 1.5, 4.0):
            others = load - 1 / machine.vcpus
            found = tool_seconds(1.0, speed=SAME, machine=machine, utilisation=others)
            per_s = load * machine.vcpus / found.service_s
            assert per_s == pytest.approx(throughput(machine.vcpus, machine))
            assert per_s * found.vcpu_s == pytest.approx(machine.vcpus)


def test_a_parallel_step_takes_the_throughput_of_its_threads():
    work_s = 52.0
    found = tool_seconds(work_s, cores=8, speed=SAME, machine=PAIRS)
    assert found.service_s == pytest.approx(work_s / 5.2)
    assert found.low_s == pytest.approx(work_s / 6.0)
    assert found.high_s == pytest.approx(work_s / 4.0)


def test_startup_and_waiting_do_not_scale_with_load():
    found = tool_seconds(
        0.0, startup_s=0.2, wait_s=5.0, speed=SAME, machine=PLAIN, utilisation=np.array([0.0, 9.0])
    )
    assert found.service_s == pytest.approx([5.2, 5.2])
    assert found.vcpu_s == pytest.approx([0.0, 0.0])
