from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.servers import load_servers
from polysilicon.cost import cores
from polysilicon.cost.cores import CPU_VCPUS, cores_of
from polysilicon.cost.kinds import here
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
M7A = CATALOG.offer("aws/m7a.2xlarge", "us-east-1")


def test_a_measured_type_has_its_own_rates():
    servers = load_servers()
    name = next(n for n, t in servers.types.items() if t.chip == "9R45" and t.vcpus == 16)
    found = cores_of(replace(M7A, name=name, processor=None, vcpus=16))
    assert found.l1_bytes_per_s == servers.scores[name].l1_read_gbs * 1e9 / 16
    assert found.thread_score == servers.scores[name].thread_score
    assert (found.used, found.vcpus, found.family) == (CPU_VCPUS, 16, "Turin")


def test_a_vcpu_that_is_a_core_reads_twice_as_fast_as_one_that_is_a_thread():
    core, thread = (cores_of(CATALOG.offers_named(n)[0]) for n in (M7A.name, "gcp/c3d-standard-8"))
    assert (core.family, thread.family) == ("Genoa", "Genoa")
    assert core.l1_bytes_per_s / thread.l1_bytes_per_s == pytest.approx(2.0, rel=0.1)


def test_units_come_from_the_family():
    found = {name: cores_of(CATALOG.offer(f"aws/{name}.large", "us-east-1")).bf16_unit
             for name in ("m6g", "m7g", "m7a", "m7i")}  # fmt: skip
    assert found == {"m6g": "none", "m7g": "bfmmla", "m7a": "avx512_bf16", "m7i": "amx"}


def test_this_machine_tells_its_units_itself(monkeypatch):
    machine, local = cores.detect(), here(CATALOG)
    for flags, unit in ((frozenset[str](), "none"), (frozenset({"amx_bf16"}), "amx")):
        own = replace(machine, isa_flags=flags)
        monkeypatch.setattr(cores, "detect", lambda own=own: own)
        assert cores_of(local).bf16_unit == unit


@pytest.mark.parametrize("blind", [None, CATALOG.processor("NVIDIA Grace")])
def test_cores_that_nobody_measured_are_refused(blind):
    with pytest.raises(NoBasisError, match="multiplies matrices was not measured"):
        cores_of(replace(M7A, name="own/machine", processor=blind))


def test_unknown_vcpus_are_refused():
    with pytest.raises(NoBasisError, match="how many vCPUs aws/m7a.2xlarge has is not known"):
        cores_of(replace(M7A, vcpus=None))
