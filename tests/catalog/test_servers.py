from __future__ import annotations

import msgspec
import pytest

from polysilicon import catalog
from polysilicon.catalog.servers import lay_out, load_servers

CATALOG = catalog.load()
SERVERS = load_servers()


def test_types_have_known_chips_and_layouts():
    assert len(SERVERS.types) > 1500
    unknown = [t.instance for t in SERVERS.types.values() if not t.chip]
    assert len(unknown) < 10
    for server in SERVERS.types.values():
        if server.chip:
            chip = SERVERS.chips[server.chip]
            assert server.sockets <= chip.sockets
            assert server.numa_nodes <= chip.sockets * chip.numa_per_socket
            assert server.cores <= server.vcpus <= server.host_vcpus


def test_whole_machines_are_told_by_their_names():
    bare = {t.instance for t in SERVERS.types.values() if t.bare}
    assert {"aws/m7g.metal", "gcp/c4-standard-288-metal", "vultr/vbm-8c-132gb"} <= bare
    assert not {"aws/m7g.16xlarge", "gcp/c4-standard-288", "vultr/vc2-8c-32gb"} & bare
    # No cloud switches off a part of a machine that it sells as a whole.
    assert all(SERVERS.types[name].host_vcpus == SERVERS.types[name].vcpus for name in bare)


def test_chips_are_processors_of_the_catalog():
    named = [chip.processor for chip in SERVERS.chips.values() if chip.processor]
    assert len(named) == len(set(named)) > 10
    assert all(name in CATALOG.processors for name in named)


def test_each_family_tells_what_multiplies_bfloat16():
    assert set(SERVERS.bf16_units) == {chip.family for chip in SERVERS.chips.values()}
    units = {"amx", "avx512_bf16", "bfmmla", "none"}
    assert {row.unit for row in SERVERS.bf16_units.values()} == units
    for chip in SERVERS.chips.values():
        unit = SERVERS.bf16_units[chip.family].unit
        # AMX came with bfloat16 and so did SVE; plain AVX2 and NEON chips have none.
        assert (unit == "amx") == (chip.isa == "amx")
        assert (unit == "bfmmla") == (chip.isa == "sve")
        assert unit == "none" or chip.isa not in ("neon", "avx", "avx2")


@pytest.mark.parametrize(
    ("instance", "chip", "sockets"),
    [
        ("aws/m7i.2xlarge", "8488C", 1),
        ("aws/c8gd.48xlarge", "Graviton4", 2),
        ("aws/m9gd.metal-48xl", "Graviton5", 1),
        ("azure/Standard_D96s_v5", "8370C", 2),
        ("gcp/n4-standard-16", "GCP N4", 1),
    ],
)
def test_chips_that_measurements_hide_come_from_the_type(instance, chip, sockets):
    server = SERVERS.types[instance]
    assert (server.chip, server.sockets) == (chip, sockets)


def test_cores_switched_off_leave_the_memory_of_the_whole():
    server = SERVERS.types["azure/Standard_E64-16ds_v4"]
    assert (server.vcpus, server.host_vcpus) == (16, 64)


def test_an_unmeasured_type_is_laid_out_from_its_chip():
    offer = CATALOG.offer("aws/m9g.48xlarge")
    assert offer.name not in SERVERS.types
    server = SERVERS.of_offer(offer)
    assert (server.chip, server.vcpus, server.sockets) == ("Graviton5", 192, 1)
    assert lay_out("x", SERVERS.chips["Graviton4"], 192).sockets == 2
    assert lay_out("x", SERVERS.chips["8488C"], 1).cores == 1


def test_a_size_name_tells_vcpus_where_the_offer_does_not():
    offer = CATALOG.offer("aws/c9g.2xlarge")
    bare = msgspec.structs.replace(offer, vcpus=None)
    assert SERVERS.of_offer(bare).vcpus == 8
    strange = msgspec.structs.replace(offer, name="aws/c9g.strange", vcpus=None)
    assert SERVERS.of_offer(strange) is None
    nothing = msgspec.structs.replace(strange, processor=None)
    assert SERVERS.of_offer(nothing) is None


def test_an_unmeasured_type_is_as_fast_as_those_like_it():
    measured = SERVERS.types["aws/m8g.4xlarge"]
    assert SERVERS.score(measured) is SERVERS.scores["aws/m8g.4xlarge"]
    new = SERVERS.score(lay_out("new.type", SERVERS.chips["Graviton4"], 16))
    alike = [
        s for t, s in SERVERS.scores.items()
        if SERVERS.types[t].chip == "Graviton4" and SERVERS.types[t].vcpus == 16
    ]  # fmt: skip
    assert min(s.thread_score for s in alike) <= new.thread_score
    assert new.thread_score <= max(s.thread_score for s in alike)
    twice = SERVERS.score(lay_out("new.type", SERVERS.chips["Graviton4"], 32))
    assert twice.l1_read_gbs == pytest.approx(2 * new.l1_read_gbs, rel=0.1)
    # Of an unknown chip, as of plain ones: those with AVX2.
    plain = SERVERS.score(msgspec.structs.replace(measured, instance="new.type", chip=""))
    chips = {c.chip for c in SERVERS.chips.values() if c.isa == "avx2"}
    scores = [s.thread_score for t, s in SERVERS.scores.items() if SERVERS.types[t].chip in chips]
    assert min(scores) <= plain.thread_score <= max(scores)


def test_a_family_tells_of_a_chip_that_never_ran():
    chip = msgspec.structs.replace(SERVERS.chips["Graviton4"], chip="Graviton4b")
    SERVERS.chips["Graviton4b"] = chip
    try:
        found = SERVERS.score(lay_out("new.type", chip, 16))
        assert found == SERVERS.score(lay_out("new.type", SERVERS.chips["Graviton4"], 16))
    finally:
        del SERVERS.chips["Graviton4b"]
