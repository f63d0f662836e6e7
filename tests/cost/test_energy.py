from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.energy import (
    energy_constants,
    joules,
    machine_joules,
    share_joules,
    watts,
    watts_per_unit,
)
from polysilicon.errors import InputError

CATALOG = catalog.load()
OFFER = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
GPU = CATALOG.offer("aws/p5.48xlarge")


def test_a_full_machine_draws_its_measured_share_of_the_tdp():
    share = energy_constants()["cpu"]["full_share"]
    chip = OFFER.processor
    assert watts_per_unit(OFFER).full_w == pytest.approx(share * chip.tdp_w / chip.cores)
    assert watts(OFFER).full_w == pytest.approx(8 * share * chip.tdp_w / chip.cores)
    # Two threads of a core share its power.
    smt = CATALOG.offer("aws/m7i.2xlarge")
    whole = share * smt.processor.tdp_w
    assert watts(smt).full_w == pytest.approx(whole * 8 / (2 * smt.processor.cores))


def test_bands_hold_the_best_estimate():
    for offer in (OFFER, GPU):
        found = watts(offer)
        assert found.idle_low_w < found.idle_w < found.idle_high_w < found.full_low_w
        assert found.full_low_w < found.full_w < found.full_high_w


def test_busy_and_idle_energy_by_hand():
    found = watts(OFFER)
    # All vCPUs for ten seconds, the whole machine held for ten seconds.
    busy = joules(OFFER, busy_s=80.0, wall_s=10.0, share=1.0)
    assert busy.best_j == pytest.approx(10.0 * found.full_w)
    assert busy.low_j == pytest.approx(10.0 * found.full_low_w)
    assert busy.high_j == pytest.approx(10.0 * found.full_high_w)
    waits = joules(OFFER, busy_s=0.0, wall_s=60.0, share=0.25, utilisation=0.0)
    assert waits.best_j == pytest.approx(15.0 * found.idle_w)
    held = joules(GPU, busy_s=8.0, wall_s=1.0, share=1.0)
    assert held.best_j == pytest.approx(watts(GPU).full_w)


def test_shares_of_busy_machines():
    assert share_joules(OFFER, 8.0) == pytest.approx(watts(OFFER).full_w)
    assert machine_joules(OFFER, 2.0, 0.5) == pytest.approx(watts(OFFER).full_w)
    assert machine_joules(GPU, 10.0, 0.125) == pytest.approx(10 * watts_per_unit(GPU).full_w)


@pytest.mark.parametrize("missing", ["tdp_w", "cores", "vcpus_per_core"])
def test_a_missing_fact_means_unknown_joules(missing):
    blind = replace(OFFER, processor=replace(OFFER.processor, **{missing: None}))
    assert share_joules(blind, 1.0) is None
    assert watts(blind) is None
    assert joules(blind, busy_s=1.0, wall_s=1.0, share=1.0) is None


def test_no_joules_without_a_processor_or_size():
    assert share_joules(replace(OFFER, processor=None), 1.0) is None
    assert machine_joules(replace(OFFER, processor=None), 1.0, 1.0) is None
    assert machine_joules(replace(OFFER, vcpus=None), 1.0, 1.0) is None
    assert share_joules(GPU, 1.0) is None
    assert machine_joules(CATALOG.offer("aws/g6f.xlarge"), 1.0, 1.0) is None
    assert machine_joules(CATALOG.offer("aws/trn1.2xlarge"), 1.0, 1.0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"busy_s": -1.0},
        {"wall_s": -1.0},
        {"share": -0.1},
        {"share": 1.1},
        {"utilisation": 0.0},
        {"utilisation": -0.5},
    ],
)
def test_impossible_work(wrong):
    figures = {"busy_s": 1.0, "wall_s": 1.0, "share": 0.5} | wrong
    with pytest.raises(InputError):
        joules(OFFER, **figures)


def test_negative_utilisation_has_no_power():
    with pytest.raises(InputError, match="utilisation is -1"):
        watts(OFFER).at(-1.0)
