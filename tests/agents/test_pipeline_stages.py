from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polysilicon.agents.pipeline import chunks, duplicates, personal, sources, stages, store


class TestMask:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("Write to anna.keller@example.com.", "Write to <EMAIL>."),
            ("DE89 3704 0044 0532 0130 00 is it", "<IBAN> is it"),
            ("DE89370400440532013000, please", "<IBAN>, please"),
            ("to GB82 WEST 1234 5698 7654 32 NOW", "to <IBAN> NOW"),
            ("card 4111 1111 1111 1111 or 3782-822463-10005", "card <CARD> or <CARD>"),
            ("from 192.0.2.10, ok", "from <IP>, ok"),
            ("at 2001:db8::42 and ::1", "at <IP> and <IP>"),
            ("call +44 20 7946 0958 now", "call <PHONE> now"),
            ("call +1 (202) 555-0143", "call <PHONE>"),
            ("Tel. 030 23125 417", "Tel. <PHONE>"),
            ("01 99 00 12 34 le soir", "<PHONE> le soir"),
        ],
    )
    def test_masked(self, text: str, masked: str) -> None:
        got, counts = personal.mask(text)
        assert got == masked
        assert counts.total() == masked.count("<")

    @pytest.mark.parametrize(
        "text",
        [
            "DE00 3704 0044 0532 0130 00 has wrong check digits",
            "order 1234 5678 9012 3456 is no card",
            "zeros 0000 0000 0000 0000",
            "version 10.2.3, or 1.2.3.4.5, or 300.1.1.1",
            "on 03.04.2025 and 03-04-2025 at 10:30:15",
            "2024-05-17 and 12 345 678 people",
            "a :: b, std::vector, x@y",
            "pages 10-12, 2000-2010",
        ],
    )
    def test_left_alone(self, text: str) -> None:
        assert personal.mask(text) == (text, {})

    @settings(max_examples=200, deadline=None)
    @given(text=st.text(alphabet="aZ0159 .:@+-/()DE\n", max_size=80))
    def test_masking_again_finds_nothing_of_the_same(self, text: str) -> None:
        once, _ = personal.mask(text)
        assert personal.mask(once)[0].count("<EMAIL>") == once.count("<EMAIL>")


class TestChunks:
    def test_ends_at_sentences_and_keeps_paragraphs_apart(self) -> None:
        text = "One two. Three four!\n\nFive six? Seven."
        assert list(chunks.chunks(text, 20)) == ["One two. Three four!", "Five six? Seven."]
        assert list(chunks.chunks(text, 100)) == ["One two. Three four!\n\nFive six? Seven."]

    def test_long_sentences_are_cut_between_words_and_long_words_anywhere(self) -> None:
        assert list(chunks.chunks("aaa bbb ccc", 7)) == ["aaa bbb", "ccc"]
        assert list(chunks.chunks("a" * 25, 10)) == ["a" * 10, "a" * 10, "a" * 5]

    @pytest.mark.parametrize("text", ["", "  \n\n \n"])
    def test_nothing_of_nothing(self, text: str) -> None:
        assert list(chunks.chunks(text)) == []

    @settings(max_examples=200, deadline=None)
    @given(text=st.text(alphabet='ab .!?\n"é', max_size=300), limit=st.integers(1, 50))
    @example(text="a. b", limit=1)
    def test_nothing_is_lost_and_nothing_too_long(self, text: str, limit: int) -> None:
        pieces = list(chunks.chunks(text, limit))
        assert all(0 < len(piece) <= limit for piece in pieces)
        assert "".join("".join(pieces).split()) == "".join(text.split())


class TestDuplicates:
    LONG = (
        "the quick brown fox jumps over the lazy dog while twelve grey geese watch from the pond "
        "behind the mill and two boys row their small boat home before the rain begins to fall"
    )

    def originals(self, *texts: str) -> list[int]:
        return duplicates.originals(duplicates.signatures(list(texts))).tolist()

    def test_the_first_of_each_group_is_kept(self) -> None:
        near = self.LONG.replace("twelve", "eleven")
        assert self.originals("other words that share nothing", self.LONG, near, self.LONG) == [
            0, 1, 1, 1,
        ]  # fmt: skip

    def test_case_and_signs_do_not_matter(self) -> None:
        assert self.originals(self.LONG, self.LONG.upper().replace(" ", ", ")) == [0, 0]

    def test_short_texts_are_alike_only_when_equal(self) -> None:
        assert self.originals("yes", "no", "yes", "") == [0, 1, 0, 3]

    def test_a_chain_leads_to_its_first(self) -> None:
        table = np.zeros((3, 128), dtype=np.uint32)
        table[1:, :28] = 1
        table[2, 28:60] = 2
        # The third is near the second (0.75), that near the first (0.78), the third is not (0.53).
        assert duplicates.originals(table).tolist() == [0, 0, 0]

    def test_none(self) -> None:
        assert self.originals() == []

    def test_the_estimate_is_near_the_jaccard_index(self) -> None:
        words = [f"w{n}" for n in range(400)]
        texts = [" ".join(words[:300]), " ".join(words[100:])]
        first, second = (set(duplicates.shingles(text)) for text in texts)
        exact = len(first & second) / len(first | second)
        table = duplicates.signatures(texts)
        assert np.mean(table[0] == table[1]) == pytest.approx(exact, abs=4 * 0.045)


class TestSources:
    @pytest.mark.parametrize(
        ("data", "text", "recoded"),
        [
            ("naïve".encode(), "naïve", False),
            (b"\xef\xbb\xbfmark", "mark", False),
            ("Grüße".encode("utf-16"), "Grüße", True),
            ("Gruß aus Köln, bis übermorgen früh im Café".encode("latin-1"),
             "Gruß aus Köln, bis übermorgen früh im Café", True),
        ],
    )  # fmt: skip
    def test_decode(self, data: bytes, text: str, recoded: bool) -> None:
        assert sources.decode(data) == (text, recoded)

    @settings(max_examples=100, deadline=None)
    @given(data=st.binary(max_size=40))
    def test_any_bytes_become_text(self, data: bytes) -> None:
        text, _ = sources.decode(data)
        assert isinstance(text, str)

    def test_a_big_text_file_is_cut_at_line_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "DOCUMENT_BYTES", 100)
        path = tmp_path / "big.txt"
        lines = [f"line {n} of the file" for n in range(50)] + ["x" * 500]
        path.write_text("\n".join(lines))
        parts = list(sources.cut(str(path), "big.txt"))
        assert len(parts) > 5
        documents = [raw for part in parts for raw in sources.read_part(part)]
        assert all(isinstance(raw, sources.Raw) for raw in documents)
        assert (
            "".join(raw.text for raw in documents if isinstance(raw, sources.Raw))
            == path.read_text()
        )
        assert len({raw.id for raw in documents if isinstance(raw, sources.Raw)}) == len(documents)

    def test_lines_keep_their_numbers_over_shards(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "SHARD_BYTES", 64)
        path = tmp_path / "a.jsonl"
        path.write_text("".join(f'{{"text": "{n}"}}\n' for n in range(1, 40)))
        found = [raw for part in sources.cut(str(path), "a") for raw in sources.read_part(part)]
        assert [(raw.id, raw.text) for raw in found if isinstance(raw, sources.Raw)] == [
            (f"a:{n}", str(n)) for n in range(1, 40)
        ]

    def test_wide_files_are_not_cut(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "DOCUMENT_BYTES", 10)
        path = tmp_path / "wide.txt"
        path.write_text("über Ċ alles " * 10, encoding="utf-16")
        [part] = sources.cut(str(path), "wide.txt")
        [raw] = sources.read_part(part)
        assert isinstance(raw, sources.Raw)
        assert raw.text == path.read_text(encoding="utf-16")

    def test_other_files_and_links_are_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "b.MD").write_text("b")
        (tmp_path / "a.txt").write_text("a")
        (tmp_path / "c.bin").write_text("c")
        (tmp_path / "d.txt").symlink_to(tmp_path / "a.txt")
        found, left_out = sources.find_files(str(tmp_path), [])
        assert [name for _, name in found] == ["a.txt", "sub/b.MD"]
        assert left_out == ["c.bin"]

    def test_fields_and_titles(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"content": "x", "title": "T"}\n{"body": "y", "title": 3}\n')
        [part] = sources.cut(str(path), "a.jsonl")
        found = [raw for raw in sources.read_part(part) if isinstance(raw, sources.Raw)]
        assert [(raw.title, raw.text) for raw in found] == [("T", "x"), ("a", "y")]


class TestClean:
    def test_mojibake_is_mended(self) -> None:
        assert stages.mend("Ã¼ber den FluÃŸ") == ("über den Fluß", True)

    def test_controls_go_and_accents_are_composed(self) -> None:
        assert stages.mend(" a\x00b\r\ncafe\u0301 ") == ("ab\ncafé", False)

    @pytest.mark.parametrize(
        ("text", "language"),
        [
            ("Der Zug fährt heute leider nicht nach Hause.", "de"),
            ("The train does not go home today, I am afraid.", "en"),
            ("12345 67890", "und"),
            ("ok", "und"),
        ],
    )
    def test_language(self, text: str, language: str) -> None:
        assert stages.language_of(text) == language

    def test_empty_documents_are_counted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text('{"text": "  "}\n{"text": "something that is long enough to tell"}\n')
        stages.split(None, [str(path)], str(tmp_path))
        result = stages.clean(str(tmp_path), 0)
        assert (result["documents"], result["empty_documents"]) == (1, 1)


def test_a_file_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    def records() -> object:
        yield {"a": 1}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.write_lines(tmp_path / "x" / "a.jsonl", records())  # type: ignore[arg-type]
    assert list((tmp_path / "x").iterdir()) == []


def test_arrays_come_back(tmp_path: Path) -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    store.write_array(tmp_path / "a.npy", table)
    assert np.array_equal(store.read_array(tmp_path / "a.npy"), table)


def test_workers_embed_what_steps_embed(tmp_path: Path) -> None:
    pieces = [
        stages.Text(id=str(n), title="", text=f"chunk number {n}", language="en") for n in range(3)
    ]
    store.write_lines(tmp_path / "chunks" / "00000.jsonl", pieces)
    assert stages.embed(str(tmp_path), 0) == {"vectors": 3}
    by_workers = np.array(store.read_array(tmp_path / "vectors" / "00000.npy"))
    stages.keep_vectors(str(tmp_path), 0, stages.lexical.embed([piece.text for piece in pieces]))
    assert np.array_equal(by_workers, store.read_array(tmp_path / "vectors" / "00000.npy"))
