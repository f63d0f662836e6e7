from __future__ import annotations

import gzip
from collections import Counter

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polysilicon.catalog import rows as rows_module
from polysilicon.catalog.measurements import (
    COLUMNS,
    Measurement,
    read_measurements,
    write_measurements,
)
from polysilicon.errors import InputError, PolysiliconError

HEADER = "processor,model,engine,concurrency,prompt_tokens,output_tokens,ttft_ms,tpot_ms"
GOOD = "h100_sxm,llama-3.1-8b,vllm,4,1024,128,50.5,7"


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def mistake(path):
    with pytest.raises(InputError) as caught:
        read_measurements(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


def test_columns_are_found_by_name_and_blanks_are_none(tmp_path):
    path = write(
        tmp_path / "m.csv",
        " tpot_ms ,model,processor,count,ttft_ms,source",
        "7.5,llama-3.1-8b,NVIDIA L4,,,somebody",
        "",
        '8,"llama-3.1-8b",NVIDIA L4,2.0,60,"a, b"',
    )
    first, second = read_measurements(path)
    assert (first.row, second.row) == (2, 4)
    assert (first.tpot_ms, first.ttft_ms, first.count) == (7.5, None, None)
    assert (second.count, second.source, second.engine) == (2, "a, b", "")


def test_forms_of_concurrency(tmp_path):
    told = ("26.9", "synchronous concurrency=1.0", "throughput concurrency=26.9", "")
    lines = [GOOD.replace(",4,", f",{text},") for text in told]
    found = [
        row.concurrency for row in read_measurements(write(tmp_path / "m.csv", HEADER, *lines))
    ]
    assert found == [26.9, 1.0, 26.9, None]


def test_expert_parallelism_of_0_is_none(tmp_path):
    row = read_measurements(write(tmp_path / "m.csv", f"{HEADER},ep", f"{GOOD},0"))[0]
    assert row.ep is None


@pytest.mark.parametrize(
    ("at", "cell", "words"),
    [
        ("ttft_ms", "-1", "must be greater than 0"),
        ("ttft_ms", "0", "must be greater than 0"),
        ("tpot_ms", "nan", "must be a finite number"),
        ("tpot_ms", "inf", "must be a finite number"),
        ("tpot_ms", "1e400", "must not be larger"),
        ("tpot_ms", "1e13", "must not be larger"),
        ("tpot_ms", "1_000", "must be a finite number"),
        ("tpot_ms", "fast", "'fast'"),
        ("prompt_tokens", "-5", "must not be negative"),
        ("output_tokens", "1.5", "must be a whole number"),
        ("concurrency", "0", "must be greater than 0"),
        ("concurrency", "concurrency=", "must be a finite number"),
        ("model", "", "must not be blank"),
    ],
)
def test_a_bad_cell_is_named(tmp_path, at, cell, words):
    names = HEADER.split(",")
    cells = GOOD.split(",")
    cells[names.index(at)] = cell
    text = mistake(write(tmp_path / "m.csv", HEADER, GOOD, ",".join(cells)))
    assert f"row 3, {at}" in text
    assert words in text


def test_count_of_0_is_refused(tmp_path):
    text = mistake(write(tmp_path / "m.csv", f"{HEADER},count", f"{GOOD},0"))
    assert "row 2, count: '0': must be greater than 0" in text


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([f"{HEADER},tokens", f"{GOOD},1"], "unknown column 'tokens'"),
        (["processor,model,ttft,tpot_ms", "a,b,1,1"], "did you mean ttft_ms"),
        (["processor,model,ttft_ms,ttft_ms", "a,b,1,1"], "'ttft_ms' is there twice"),
        (["processor,ttft_ms", "a,1"], "no column model"),
        (["model,ttft_ms", "a,1"], "no column processor or instance"),
        (["model,processor", "a,b"], "no column ttft_ms or"),
        ([HEADER, f"{GOOD},1"], "row 2: has 9 cells, not 8"),
        ([HEADER, "h100,llama"], "row 2: has 2 cells, not 8"),
        ([HEADER, ",m,vllm,1,1,1,1,1"], "neither processor nor instance"),
        ([HEADER, "p,m,vllm,1,1,1,,"], "nothing was measured"),
        ([HEADER, "p,m,vllm,1,0,0,1,1"], "neither prompt nor output has a token"),
        ([f"{HEADER},date", f"{GOOD},20 July"], "must be a date"),
    ],
)
def test_a_bad_header_or_row_is_named(tmp_path, lines, words):
    assert words in mistake(write(tmp_path / "m.csv", *lines))


def test_bad_rows_can_be_counted_and_left_out(tmp_path):
    bad = [GOOD.replace("50.5", text) for text in ("-1", "-2", "nan")]
    path = write(tmp_path / "m.csv", HEADER, *bad, GOOD, "short")
    skipped: Counter[str] = Counter()
    assert [row.row for row in read_measurements(path, skipped)] == [5]
    assert skipped == {
        "ttft_ms: must be greater than 0": 2,
        "ttft_ms: must be a finite number": 1,
        "another number of cells than the header": 1,
    }


def test_files_that_are_none(tmp_path):
    assert "no such file" in mistake(tmp_path / "none.csv")
    assert "unknown kind of file" in mistake(write(tmp_path / "m.txt", HEADER))
    (tmp_path / "folder.csv").mkdir()
    assert "no such file" in mistake(tmp_path / "folder.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert "the file is empty" in mistake(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe,a\n")
    assert "not UTF-8" in mistake(tmp_path / "latin.csv")
    (tmp_path / "m.csv.gz").write_bytes(b"no gzip")
    assert "not a gzip file" in mistake(tmp_path / "m.csv.gz")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(HEADER.encode() * 99)[:-9])
    assert "not a gzip file" in mistake(tmp_path / "cut.csv.gz")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no parquet")
    assert "not a Parquet file" in mistake(tmp_path / "m.parquet")
    write(tmp_path / "wide.csv", HEADER, "x" * 200_000)
    assert "row 2" in mistake(tmp_path / "wide.csv")


def test_what_unfolds_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_BYTES", 10_000)
    path = tmp_path / "m.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 1_000_000))
    assert path.stat().st_size < 10_000
    assert "holds more than 10000 bytes" in mistake(path)
    table = pa.table({"model": ["m"] * 50_000, "processor": [str(i) for i in range(50_000)]})
    pq.write_table(table, tmp_path / "m.parquet")
    assert "holds more than 10000 bytes" in mistake(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.parquet"])
def test_what_is_written_is_read_again(tmp_path, name):
    rows = [
        Measurement(
            row=2, source='a "b", c', date="2026-07", processor="NVIDIA L4", model="m",
            concurrency=26.9, prompt_tokens=0, output_tokens=128, tp=2, tpot_ms=0.1 + 0.2,
        ),
        Measurement(row=3, instance="aws/m9g.large", model="n", prefill_tokens_per_s=1e-3),
    ]  # fmt: skip
    write_measurements(rows, tmp_path / name)
    found = read_measurements(tmp_path / name)
    same = [msgspec.structs.replace(row, row=0) for row in found]
    assert same == [msgspec.structs.replace(row, row=0) for row in rows]


def test_parquet_of_other_writers(tmp_path):
    table = pa.table(
        {
            "model": ["m", "m"],
            "processor": [b"NVIDIA L4", b"NVIDIA L4"],
            "count": [1.0, None],
            "date": pa.array([20_000, None], pa.date32()),
            "tpot_ms": [5.0, 6.0],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    first, second = read_measurements(tmp_path / "m.parquet")
    assert (first.row, first.count, first.date, first.processor) == (
        0,
        1,
        "2024-10-04",
        "NVIDIA L4",
    )
    assert (second.row, second.count, second.date) == (1, None, "")


def test_writing_says_what_fails(tmp_path):
    with pytest.raises(InputError, match="unknown kind of measurement file"):
        write_measurements([], tmp_path / "m.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(PolysiliconError, match="cannot be written"):
        write_measurements([], tmp_path / "file" / "m.csv")
    write_measurements([], tmp_path / "new" / "m.csv")
    assert (tmp_path / "new" / "m.csv").read_text().strip() == ",".join(COLUMNS)
