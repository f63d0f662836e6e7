"""Compressed files that are cut or changed: what comes before the damage is imported."""

from __future__ import annotations

import bz2
import gzip
import json
import re
from collections.abc import Callable

import pytest

from imported import imported
from polysilicon.errors import InputError
from polysilicon.workload.imports.run import Imported

COUNT = 12_000
TABLE = "id,model,prompt_tokens,output_tokens\n" + "".join(
    f"{n * 7919 % 104729:06},m,{n},1234567\n" for n in range(COUNT)
)
LINES = "".join(
    json.dumps({"prompt_tokens": n, "output_tokens": 1234567, "id": n * 7919 % 104729}) + "\n"
    for n in range(COUNT)
)


def flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + 64]) + content[at + 64 :]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def blocks(content: bytes) -> bytes:
    return bz2.compress(content, compresslevel=1)


def damage_of(said: Imported) -> int:
    """Return after how many bytes a damage was found."""
    words = r"trace.csv: \w+ data is broken after ([\d,]+) bytes, and nothing after that was read"
    found = [re.fullmatch(words, s.reason) for s in said.skipped if s.count == 1]
    (match,) = [one for one in found if one]
    return int(match[1].replace(",", ""))


@pytest.mark.parametrize("content", [TABLE, LINES], ids=["csv", "jsonl"])
@pytest.mark.parametrize("pack", [gzip.compress, blocks])
def test_what_comes_before_a_cut_is_imported(content: str, pack: Callable[[bytes], bytes]) -> None:
    broken = cut(pack(content.encode()))
    with pytest.raises(InputError, match=r"trace\.csv: \w+ data is broken after [\d,]+ bytes: "):
        imported(broken, "table")
    said, rows = imported(broken, "table", skip_bad=True)
    held = content.encode()[: damage_of(said)]
    assert len(rows) == held.count(b"\n") - (content is TABLE) > COUNT / 4
    assert {row["output_tokens"] for row in rows} == {1234567}
    assert len(said.skipped) == 1


@pytest.mark.parametrize("content", [TABLE, LINES], ids=["csv", "jsonl"])
@pytest.mark.parametrize("pack", [gzip.compress, blocks])
def test_what_comes_before_a_change_is_imported(
    content: str, pack: Callable[[bytes], bytes]
) -> None:
    broken = flipped(pack(content.encode()))
    with pytest.raises(InputError):
        imported(broken, "table")
    said, rows = imported(broken, "table", skip_bad=True)
    assert damage_of(said) > len(content) / 4
    first = rows[: COUNT // 4]
    assert [row["prompt_tokens"] for row in first] == list(range(COUNT // 4))


def test_a_file_of_which_nothing_can_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="gzip data is broken after 0 bytes"):
        imported(b"\x1f\x8b" + bytes(range(200)), "table", skip_bad=True)
