from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.hosts import cpu_of
from polysilicon.catalog.scores import core_speeds
from polysilicon.cost import tools
from polysilicon.cost.tools import SAME, Host, by_ratio, host, rate, slowdown, tool_seconds
from polysilicon.errors import InputError, NoBasisError

CATALOG = catalog.load()
ARM = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
INTEL = CATALOG.offer("aws/m7i.2xlarge", "us-east-1")
LARGE = CATALOG.offer("aws/m7i.48xlarge", "us-east-1")


def test_core_seconds_scale_by_core_speed():
    known, chip = ARM.processor, INTEL.processor
    speed = slowdown(known, chip, "here", "there")
    fast = core_speeds()
    assert speed.ratio == pytest.approx(fast[known.name].alone / fast[chip.name].alone)
    found = tool_seconds(2.0, wait_s=3.0, speed=speed, machine=host(INTEL))
    assert found.service_s == pytest.approx(3.0 + 2.0 * speed.ratio)
    assert found.low_s < found.service_s < found.high_s


def test_the_same_chip_is_certain():
    assert slowdown(ARM.processor, ARM.processor, "here", "there") == SAME
    found = tool_seconds(2.0, startup_s=0.5, speed=SAME, machine=host(ARM))
    assert found.low_s == found.service_s == found.high_s == 2.5


def test_an_estimated_speed_has_a_wider_band():
    new = CATALOG.processor("AWS Graviton5")
    firm = slowdown(ARM.processor, INTEL.processor, "a", "b")
    guess = slowdown(ARM.processor, new, "a", "b")
    assert guess.high / guess.ratio > firm.high / firm.ratio
    assert guess.low / guess.ratio < firm.low / firm.ratio


def test_a_calibrated_machine_states_its_ratio():
    assert by_ratio(0.5).ratio == 0.5
    assert by_ratio(0.5, estimated=True).high > by_ratio(0.5).high
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="ratio of core speeds"):
            by_ratio(wrong)


def test_unknown_speeds_are_refused_by_name():
    grace = CATALOG.processor("NVIDIA Grace")
    assert grace.name not in core_speeds()
    with pytest.raises(NoBasisError, match="core speed of NVIDIA Grace is not known"):
        slowdown(ARM.processor, grace, "here", "there")
    with pytest.raises(NoBasisError, match="core speed of elsewhere is not known"):
        slowdown(None, ARM.processor, "elsewhere", "there")


def test_a_single_score_in_the_catalog_is_a_weaker_basis():
    own = replace(CATALOG.processor("NVIDIA Grace"), core_speed=1.2)
    speed = slowdown(ARM.processor, own, "here", "there")
    assert speed.ratio == pytest.approx(1 / 1.2)
    assert speed.high == pytest.approx(by_ratio(1 / 1.2, estimated=True).high)


def test_hosts_know_threads_and_turbo():
    assert host(ARM).cores == host(ARM).vcpus == 8
    small, large = host(INTEL), host(LARGE)
    assert (small.vcpus, small.cores) == (8, 4)
    assert 1.2 < small.pair < 1.4
    assert large.kept < small.kept <= 1.0


def test_hosts_of_unmeasured_chips():
    unmeasured = replace(INTEL.processor, name="Intel Xeon Next")
    found = host(replace(INTEL, processor=unmeasured))
    assert found.pair == tools.tool_constants()["pair"]["unmeasured"]
    assert found.kept == 1.0
    # A chip of unknown size counts as a small part of it; a host of no known CPU as whole cores.
    assert host(replace(LARGE, processor=replace(LARGE.processor, cores=None))).kept > 0.9
    assert host(CATALOG.offer("azure/Standard_ND96isr_H100_v5")).pair == 1.0
    assert host(replace(ARM, processor=None)) == Host(vcpus=8, cores=8)
    with pytest.raises(NoBasisError, match="how many vCPUs"):
        host(replace(ARM, vcpus=None))


def test_the_vcpus_of_an_accelerator_offer_are_those_of_its_host():
    p5, g6 = (CATALOG.offer(name) for name in ("aws/p5.48xlarge", "aws/g6.xlarge"))
    assert cpu_of(p5) == cpu_of(g6) == replace(cpu_of(g6), kind="cpu")
    assert host(p5).cores == 96
    assert 1.2 < host(p5).pair < 1.3
    # Sapphire Rapids (GCP) over Milan (AWS): compression and tool-like Geekbench, one thread.
    speed = slowdown(cpu_of(CATALOG.offer("gcp/a3-highgpu-8g")), cpu_of(p5), "there", "here")
    assert speed.ratio == pytest.approx((77.02 / 88.74 * 1629 / 1694) ** 0.5, rel=1e-3)


def test_more_cores_than_there_are_do_not_help():
    machine = host(ARM)
    eight = tool_seconds(16.0, cores=8.0, speed=SAME, machine=machine)
    many = tool_seconds(16.0, cores=64.0, speed=SAME, machine=machine)
    assert many.service_s == eight.service_s
    assert eight.service_s == pytest.approx(2.0, rel=0.01)
    assert tool_seconds(1.0, cores=0.2, speed=SAME, machine=machine).service_s == 1.0


def test_a_busy_sibling_slows_and_costs():
    alone = tool_seconds(1.0, speed=SAME, machine=host(INTEL))
    busy = tool_seconds(1.0, speed=SAME, machine=host(INTEL), utilisation=7 / 8)
    assert alone.service_s == pytest.approx(1.0)
    assert 1.4 < busy.service_s < 1.8
    assert busy.vcpu_s == pytest.approx(busy.service_s)
    assert busy.low_s < busy.service_s < busy.high_s


def test_waiting_for_a_turn_is_not_paid():
    machine = host(ARM)
    found = tool_seconds(1.0, speed=SAME, machine=machine, utilisation=15 / 8)
    assert found.service_s == pytest.approx(2.0, rel=0.01)
    assert found.vcpu_s == pytest.approx(1.0, rel=0.01)


def test_arrays_follow_the_same_law_as_numbers():
    rng = np.random.default_rng(7)
    cpu_s, startup_s, wait_s = rng.exponential(1.0, (3, 50))
    cores, load = rng.uniform(0.5, 12.0, 50), rng.uniform(0.0, 2.0, 50)
    speed = slowdown(ARM.processor, INTEL.processor, "a", "b")
    machine = host(INTEL)
    many = tool_seconds(
        cpu_s,
        startup_s=startup_s,
        wait_s=wait_s,
        cores=cores,
        speed=speed,
        machine=machine,
        utilisation=load,
    )
    for i in range(50):
        one = tool_seconds(
            cpu_s[i],
            startup_s=startup_s[i],
            wait_s=wait_s[i],
            cores=cores[i],
            speed=speed,
            machine=machine,
            utilisation=load[i],
        )
        assert one.service_s == pytest.approx(many.service_s[i])
        assert one.low_s == pytest.approx(many.low_s[i])
        assert one.high_s == pytest.approx(many.high_s[i])
        assert one.vcpu_s == pytest.approx(many.vcpu_s[i])
    assert np.all(many.low_s <= many.service_s)
    assert np.all(many.service_s <= many.high_s)


@pytest.mark.parametrize("name", ["cpu_s", "startup_s", "wait_s", "utilisation"])
def test_negative_figures_are_refused(name):
    figures = {"cpu_s": 1.0, name: np.array([1.0, -1.0])}
    with pytest.raises(InputError, match=f"{name} is negative"):
        tool_seconds(figures.pop("cpu_s"), **figures, speed=SAME, machine=host(ARM))


def test_no_thread_runs_faster_than_alone():
    for machine in (host(ARM), host(INTEL), host(LARGE)):
        speeds = rate(np.linspace(0.0, 3.0 * machine.vcpus, 200), machine)
        assert np.all(speeds <= 1.0)
        assert np.all(np.diff(speeds) <= 1e-12)
