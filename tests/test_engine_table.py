"""The page of engines has the table of `bench engine`, and a new run replaces it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from polysilicon.runtime.engines.native.bench import CELLS, WHEEL, Bench, Ceilings, Row
from polysilicon.runtime.engines.native.search import KERNELS

ROOT = Path(__file__).parents[1]


def test_the_table_is_that_of_the_last_run():
    spec = importlib.util.spec_from_file_location("engine_table", ROOT / "tools/engine_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ceilings = Ceilings(
        bandwidth_gbs=20.0, reads=(40.0,), read_gbs=40.0, int8_tops=None, weight_bytes=10**8,
        parameters=10**8, decode_tokens_per_s=400.0, prefill_tokens_per_s=None,
    )  # fmt: skip
    alone = next(cell for cell in CELLS if cell.sequences == 1)
    rows = tuple(
        Row(kernels=name, cell=alone.name, what="decode", tokens=64.6, sequences=1,
            tokens_per_s=rate, of_ceiling=rate / 400)
        for name, rate in ((WHEEL, 100.0), (KERNELS, 250.0))
    )  # fmt: skip
    found = Bench(
        date="2026-11-22", model="tiny", processor="Odd 1", cores=2, ceilings=ceilings, rows=rows,
        refused={},
    )  # fmt: skip
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    new = module.written(page, found)
    assert "| decoding 1 at once, context 65 | 100 | 250 | 2.50 | 62.5 % |" in new
    assert "| prompt of ? tokens | - | - | - | - |" in new
    assert "2 cores of `Odd 1`, 2026-11-22" in new
    for part, mark in ((0, module.BEGIN), (2, module.END)):
        assert new.partition(mark)[part] == page.partition(mark)[part]
    assert page.count(module.BEGIN) == page.count(module.END) == 1
