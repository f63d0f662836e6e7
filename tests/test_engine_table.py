"""The page of engines has the table of `bench engine`, and a new run replaces it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from polysilicon.runtime.engines.native.bench import CELLS, WHEEL, Bench, Row
from polysilicon.runtime.engines.native.ceilings import Ceilings
from polysilicon.runtime.engines.native.search import KERNELS

ROOT = Path(__file__).parents[1]
CEILINGS = Ceilings(
    bandwidth_gbs=20.0, reads=(40.0,), read_gbs=40.0, int8_tops=None, weight_bytes=10**8,
    kv_bytes_per_token=20_000, parameters=10**8, decode_tokens_per_s=400.0,
    prefill_tokens_per_s=None,
)  # fmt: skip


def test_the_ceiling_of_one_sequence_falls_with_its_context():
    assert CEILINGS.decode_at(0.0) == 400.0
    assert CEILINGS.decode_at(5000.0) == 200.0  # as many bytes of cache as of weights


def test_the_table_is_that_of_the_last_run():
    spec = importlib.util.spec_from_file_location("engine_table", ROOT / "tools/engine_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    alone = next(cell for cell in CELLS if cell.sequences == 1)
    rows = tuple(
        Row(kernels=name, cell=alone.name, what="decode", tokens=64.6, sequences=1,
            tokens_per_s=rate, of_ceiling=rate / 400)
        for name, rate in ((WHEEL, 100.0), (KERNELS, 250.0))
    )  # fmt: skip
    found = Bench(
        date="2026-11-22", model="tiny", processor="Odd 1", cores=2, ceilings=CEILINGS, rows=rows,
        refused={},
    )  # fmt: skip
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    new = module.written(page, found)
    assert "| decoding 1 at once, context 65 | 100 | 250 | 2.50 | 62.5 % |" in new
    assert "| prompt of ? tokens | - | - | - | - |" in new
    assert "(100.0 MB; and 20 kB of keys and values a token of context)." in new
    assert "2 cores of `Odd 1`, 2026-11-22" in new
    for part, mark in ((0, module.BEGIN), (2, module.END)):
        assert new.partition(mark)[part] == page.partition(mark)[part]
    assert page.count(module.BEGIN) == page.count(module.END) == 1
