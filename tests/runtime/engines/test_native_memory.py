from __future__ import annotations

from types import SimpleNamespace

import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.engines.native import memory
from polysilicon.runtime.engines.native.memory import check_slots, free_bytes, keys_and_values

MIB = 2**20
SLOT_TOKENS = 2048
KEPT = 30 * 3 * (64 + 64) * 2
"""Bytes a token of SmolLM2-135M: layers, heads of keys and values, their widths, f16."""


LAYER = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536
PACKED = (30 * LAYER * 20 + 49152 * 576 * 34) // 32
"""Bytes of its weights in Q4_1 (layers) and Q8_0 (embeddings), in blocks of 32."""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine with so much memory available, and perhaps a container with a limit."""

    def make(available: int, files: dict[str, str] | None = None):
        monkeypatch.setattr(
            memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=available)
        )
        for name, text in (files or {}).items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


def test_what_a_token_takes_is_read_from_the_file(local_model):
    assert keys_and_values(local_model).bytes_per_token == KEPT


def test_slots_fit_to_the_last_byte(local_model):
    needs = local_model.stat().st_size + 8 * SLOT_TOKENS * KEPT
    check_slots(local_model, 8, SLOT_TOKENS, needs)
    with pytest.raises(InputError, match="concurrency to at most 7"):
        check_slots(local_model, 8, SLOT_TOKENS, needs - 1)


def test_what_built_kernels_pack_counts_twice(local_model):
    needs = local_model.stat().st_size + PACKED + 8 * SLOT_TOKENS * KEPT
    check_slots(local_model, 8, SLOT_TOKENS, needs, packs=True)
    with pytest.raises(InputError, match=r"and 96\.4 MB for their copy .* at most 7"):
        check_slots(local_model, 8, SLOT_TOKENS, needs - 1, packs=True)


def test_weights_alone_may_be_too_much(local_model):
    with pytest.raises(InputError, match="take a smaller model"):
        check_slots(local_model, 1, SLOT_TOKENS, 100 * MIB)


def test_the_engine_refuses_before_it_loads(local_model, machine):
    machine(300 * MIB)
    with pytest.raises(InputError, match=r"64 slots .* 3\.02 GB .* 98\.4 MB .* 315 MB are free"):
        LlamaCpp(local_model, concurrency=64, context_tokens=SLOT_TOKENS)


def test_what_no_facts_are_known_of_is_not_checked(tmp_path):
    unknown = tmp_path / "m.gguf"
    unknown.write_bytes(b"GGUF" + b"\1" * 400)
    assert keys_and_values(unknown) is None
    check_slots(unknown, 10**6, 10**6, 0)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 800),
        ({"memory.max": "max\n", "memory.current": f"{100 * MIB}\n"}, 800),
        (
            {
                "memory.max": f"{500 * MIB}\n",
                "memory.current": f"{300 * MIB}\n",
                "memory.stat": f"anon 5\ninactive_file {50 * MIB}\n",
            },
            250,
        ),
        (
            {
                "memory/memory.limit_in_bytes": f"{400 * MIB}\n",
                "memory/memory.usage_in_bytes": f"{500 * MIB}\n",
                "memory/memory.stat": "cache 5\n",
            },
            0,
        ),
    ],
)
def test_free_memory_is_the_machines_or_the_containers(machine, files, free):
    assert free_bytes(machine(800 * MIB, files)) == free * MIB
