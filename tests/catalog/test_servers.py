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
