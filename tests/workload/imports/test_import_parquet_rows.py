from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imported import imported
from polysilicon.errors import InputError
from polysilicon.workload.imports import parquet_rows
from polysilicon.workload.imports.parquet_rows import parquet_tables


def same(text: str, rows: int) -> Any:
    """Return a text that all rows have, once in memory."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def written(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    return path


def test_columns_of_all_types_come_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {
        "text": ["a", None, "b", "b"],
        "list": [["a"], ["b", "c"], None, []],
        "struct": [{"x": "a"}, {"x": None}, None, {"x": "b"}],
        "bytes": [b"a", b"", b"\xff", None],
        "whole": [1, 2, 3, None],
    }
    table = pa.table(columns)
    path = written(tmp_path, columns)
    for most, count in ((parquet_rows.MOST_BYTES, 1), (30, 2)):
        monkeypatch.setattr(parquet_rows, "MOST_BYTES", most)
        found = list(parquet_tables(path, list(columns)))
        assert pa.concat_tables(found).cast(table.schema).equals(table)
        assert len(found) == count
    assert next(parquet_tables(path, ["whole", "text"])).column_names == ["whole", "text"]


def test_texts_that_many_rows_share_are_made_plain_bit_by_bit(tmp_path: Path) -> None:
    path = written(tmp_path, {"name": same("x" * 2**20, 300)})
    assert path.stat().st_size < 20_000
    before = pa.total_allocated_bytes()
    rows = 0
    for table in parquet_tables(path, ["name"]):
        rows += table.num_rows
        assert table.nbytes < parquet_rows.MOST_BYTES + 2**20
        assert pa.total_allocated_bytes() - before < 4 * parquet_rows.MOST_BYTES
    assert rows == 300


def test_a_long_text_is_a_bad_record() -> None:
    sink = pa.BufferOutputStream()
    columns = {"model": ["m", "m" * 4097, "m" * 4096], "prompt_tokens": [1, 2, 3]}
    pq.write_table(pa.table({**columns, "output_tokens": [1, 1, 1]}), sink)
    content = sink.getvalue().to_pybytes()
    said, rows = imported(content, "table", skip_bad=True)
    assert [row["prompt_tokens"] for row in rows] == [1, 3]
    assert [(s.reason, s.count) for s in said.skipped] == [("model has more than 4,096 bytes", 1)]
    with pytest.raises(InputError, match="row 1: model has more than 4,096 bytes"):
        imported(content, "table")


def test_what_comes_out_of_a_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"t\.parquet, row 2: a row of more than 1,000 bytes"):
        list(parquet_tables(written(tmp_path, {"a": ["x", "y", "z" * 2000]}), ["a"]))
    monkeypatch.setattr(parquet_rows, "MOST_VALUES", 1000)
    path = written(tmp_path, {"a": [["x"] * 600, ["x"] * 600]})
    with pytest.raises(InputError, match="row group 0: a column has more than 1,000 values"):
        list(parquet_tables(path, ["a"]))
    monkeypatch.setattr(parquet_rows, "FREE_BYTES", 1000)
    monkeypatch.setattr(parquet_rows, "MOST_RATIO", 1)
    path = written(tmp_path, {"a": ["x" * 100_000], "b": [1]})
    with pytest.raises(InputError, match="row group 0: decompresses to more than"):
        list(parquet_tables(path, ["a"]))
    assert next(parquet_tables(path, ["b"])).num_rows == 1


def test_lists_are_read_across_groups_of_rows_that_end_anywhere(tmp_path: Path) -> None:
    table = pa.table({"list": [[f"a{n}", "b"] for n in range(70)], "whole": range(70)})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=33, store_schema=False)
    found = list(parquet_tables(path, table.column_names))
    assert pa.concat_tables(found).cast(table.schema).equals(table)
