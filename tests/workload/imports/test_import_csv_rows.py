from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from polysilicon.errors import InputError
from polysilicon.workload.imports import csv_rows as module
from polysilicon.workload.imports import source as source_module
from polysilicon.workload.imports.csv_rows import Stream, csv_rows, header
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.source import Source


def source(folder: Path, content: bytes) -> Source:
    path = folder / "t.csv"
    path.write_bytes(content)
    return Source(path)


def rows(folder: Path, content: bytes, findings: Findings | None = None) -> list[list[str | None]]:
    found = []
    known = findings or Findings()
    for part in csv_rows(source(folder, content), known, ("a", "b")):
        columns = [part.texts(name).to_pylist() for name in ("a", "b")]
        found += [list(row) for row in zip(*columns, strict=True)]
    return found


def test_cells_may_hold_anything(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf\r\n a ,x,"b"\r\n"1\r\n2",,"say ""no"""\r\n\r\n3,\xc3\xa9,\r\n'
    assert header(source(tmp_path, content)) == ["a", "x", "b"]
    assert rows(tmp_path, content) == [["1\r\n2", 'say "no"'], ["3", None]]


def test_columns_that_are_not_wanted_may_be_alike_or_nameless(tmp_path: Path) -> None:
    assert rows(tmp_path, b"x,a,,b,x,\n1,2,3,4,5,6\n") == [["2", "4"]]


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    for content in (b"a,b", b"a,b\n", b"\n\na,b\r\n\r\n"):
        assert rows(tmp_path, content) == []


def test_rows_of_a_wrong_length_are_named_by_their_number(tmp_path: Path) -> None:
    content = b"\na,b\n1,2\n3\n4,5,6\n7,8\n"
    with pytest.raises(InputError, match=r"t\.csv, row 2: a row has not 2 cells.*this one has 1"):
        rows(tmp_path, content)
    findings = Findings(skip_bad=True)
    assert rows(tmp_path, content, findings) == [["1", "2"], ["7", "8"]]
    assert [(s.reason, s.count) for s in findings.skipped] == [
        ("a row has not 2 cells, as the header has", 2)
    ]


def test_bytes_that_are_no_utf8_are_replaced_and_told(tmp_path: Path) -> None:
    findings = Findings(skip_bad=True)
    assert rows(tmp_path, b"a,b\n\xff,1\nx\xfd\n\xc3\xa9,2\n", findings) == [
        ["\ufffd", "1"],
        ["é", "2"],
    ]
    assert findings.notes == ["bytes that are no UTF-8 were replaced"]


def test_a_quote_that_is_not_closed_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="byte 8: a quote is not closed; the rows after"):
        rows(tmp_path, b'a,b\n1,2\n3,"4\n5,6\n')


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x00,a\n", b"a,b,a\n", b'"a\n', b"\xff,b\n", b"a," * 3000 + b"b\n"]
)
def test_a_bad_header_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no names of columns|is there twice"):
        rows(tmp_path, content)


def test_a_needed_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column 'z' is not there; it has: a, b"):
        next(csv_rows(source(tmp_path, b"a,b\n"), Findings(), ("a", "z"), needed=("z",)))


def test_a_row_larger_than_a_block_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(source_module, "CHUNK_BYTES", 500)
    with pytest.raises(InputError, match="byte 4: a row of more than 1,000 bytes"):
        rows(tmp_path, b"a,b\n1," + b"x" * 10_000 + b"\n2,3\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_gives_whole_characters(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "CHUNK_BYTES", size)
    content = "é€𐍈a".encode() * 50
    stream = Stream(source(tmp_path, content))
    pieces = list(stream.chunks())
    assert "".join(piece.decode() for piece in pieces) == content.decode()
    assert not stream.replaced


def test_rows_are_numbered_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 8)
    monkeypatch.setattr(source_module, "CHUNK_BYTES", 4)
    findings = Findings(skip_bad=True)
    assert len(rows(tmp_path, b"a,b\n" + b"1,2\n3\n" * 20, findings)) == 20
    assert [(s.reason, s.count) for s in findings.skipped] == [
        ("a row has not 2 cells, as the header has", 20)
    ]
    with pytest.raises(InputError, match="row 39: a row has not 2 cells"):
        rows(tmp_path, b"a,b\n" + b"1,2\n\n" * 38 + b"3\n")


def test_a_header_longer_than_the_head_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no names of columns"):
        rows(tmp_path, b"a,b," + b"x" * 70_000 + b"\n1,2,3\n")


def test_python_runs_on_no_other_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a thread aborts the process where an import ends before the file does."""
    threads = set()
    plain = Source.chunks

    def chunks(self: Source) -> Iterator[bytes]:
        for chunk in plain(self):
            threads.add(threading.get_ident())
            yield chunk

    monkeypatch.setattr(Source, "chunks", chunks)
    assert len(rows(tmp_path, b"a,b\n" + b"1,2\n" * 10)) == 10
    assert threads == {threading.get_ident()}
