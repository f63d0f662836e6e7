from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from polysilicon import catalog
from polysilicon.catalog.tables import (
    amount,
    blank_or,
    count,
    data_folder,
    day,
    number,
    read_rows,
    text,
    yes_no,
)
from polysilicon.errors import InputError

ROOT = Path(__file__).parents[2]
COLUMNS = {"name": text, "price": blank_or(amount)}


def write(path: Path, lines: str) -> Path:
    path.write_text(lines, "utf-8")
    return path


def test_rows_come_with_their_line_numbers(tmp_path):
    rows = list(read_rows(write(tmp_path / "t.csv", "name,price\na,1.5\nb,\n"), COLUMNS))
    assert rows == [(2, {"name": "a", "price": 1.5}), (3, {"name": "b", "price": None})]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("name,cost\na,1\n", ["columns are name, cost", "must be name, price"]),
        ("", ["columns are missing"]),
        ("name,price\na\n", ["t.csv, row 2", "1 cells, not 2"]),
        ("name,price\na,1\n,2\n", ["t.csv, row 3, name", "must not be blank"]),
        ("name,price\na,-1\n", ["t.csv, row 2, price", "greater than 0"]),
        ("name,price\na,nan\n", ["t.csv, row 2, price", "finite"]),
        ("name,price\na,cheap\n", ["t.csv, row 2, price", "cheap"]),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, lines, words):
    with pytest.raises(InputError) as caught:
        list(read_rows(write(tmp_path / "t.csv", lines), COLUMNS))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reader", "good", "bad"),
    [
        (count, "3", "0"),
        (number, "-2.5", "inf"),
        (day, "2026-07-20", "20 July"),
        (day, "2026", "26"),
        (yes_no, "yes", "true"),
    ],
)
def test_cell_readers(reader, good, bad):
    reader(good)
    with pytest.raises(ValueError, match=r"."):
        reader(bad)


def test_every_row_of_every_table_has_a_source_and_a_date():
    folder = data_folder()
    checked = 0
    for name in (
        "processors.csv",
        "commitments.csv",
        "models.csv",
        "precisions.csv",
        "grid_carbon.csv",
        "cc_by_sa/processors_measured.csv",
        "cc_by_sa/offers.csv",
    ):
        with (folder / name).open("r", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                assert row["source"].strip(), (name, row)
                assert re.match(r"\d{4}", row["date"]), (name, row)
                checked += 1
    assert checked > 4000


def test_tables_and_docs_agree():
    known = catalog.load()
    page = (ROOT / "docs" / "catalog.md").read_text("utf-8")
    for column in known.columns:
        assert f"| {column.column} | {column.unit} | {column.meaning} |" in page


def test_columns_describe_the_files():
    folder, known = data_folder(), catalog.load()
    files = {
        "offers": "cc_by_sa/offers.csv",
        "llm_rates": "cc_by_sa/llm_rates.csv",
        "models": "models.csv",
        "commitments": "commitments.csv",
        "precisions": "precisions.csv",
        "grid_carbon": "grid_carbon.csv",
        "comparison": "comparison.csv",
    }
    for table, file in files.items():
        header = (folder / file).read_text("utf-8").splitlines()[0].split(",")
        assert header == [c.column for c in known.columns if c.table == table]


def test_spare_cores_tables_carry_their_licence():
    text_ = (data_folder() / "cc_by_sa" / "README.md").read_text("utf-8")
    assert "CC BY-SA 4.0" in text_
    assert "Attribution" in text_


def test_data_is_small():
    folder = Path(str(data_folder()))
    assert sum(f.stat().st_size for f in folder.rglob("*.csv")) < 1_600_000
