from __future__ import annotations

import csv
import io
import random

import pytest

from polysilicon.errors import InputError
from polysilicon.workload.imports.csv_blocks import row_blocks
from polysilicon.workload.imports.findings import Findings


def blocks(content: bytes, step: int, size: int, findings: Findings | None = None) -> list[bytes]:
    chunks = (content[at : at + step] for at in range(0, len(content), step))
    return list(row_blocks(chunks, b",", "t.csv", findings or Findings(), size, lambda: False))


@pytest.mark.parametrize("step", [1, 5, 64])
@pytest.mark.parametrize("seed", range(20))
def test_blocks_hold_whole_rows(step: int, seed: int) -> None:
    rng = random.Random(seed)
    pieces = ["1", ",", "\n", '"a\nb"', '"say ""no"""', '""', '5" x', '"""\n,"', 'a""b', '"p"q"r']
    rows = ["".join(rng.choices(pieces, k=4)).strip(",") + ",end\n" for _ in range(30)]
    content = "".join(rows).encode()
    whole = list(csv.reader(io.StringIO(content.decode(), newline="")))
    findings = Findings(skip_bad=True)
    found = blocks(content, step, 100, findings)
    if findings.skipped:  # a literal quote made a cell of the last rows begin with one
        whole.pop()
    else:
        assert b"".join(found) == content
    parts = [row for b in found for row in csv.reader(io.StringIO(b.decode(), newline=""))]
    assert parts == whole
    assert len(found) > 1


def test_a_quote_that_is_not_closed_leaves_its_row_out() -> None:
    for cell in (b'"4\n5,6\n', b'a"b,"4\n"",6'):
        findings = Findings(skip_bad=True)
        assert b"".join(blocks(b"1,2\n3," + cell, 3, 100, findings)) == b"1,2\n"
        assert [skip.count for skip in findings.skipped] == [1]


def test_a_row_that_is_too_long_is_refused_where_it_begins() -> None:
    with pytest.raises(InputError, match=r"byte 4: a row of more than 20 bytes; is it CSV\?"):
        blocks(b"1,2\n" + b"x" * 100, 10, 20)
    with pytest.raises(InputError, match=r"byte 4: .*is a quote not closed\?"):
        blocks(b'1,2\n"' + b"x\n" * 100, 10, 20)
