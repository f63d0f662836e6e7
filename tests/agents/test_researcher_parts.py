from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon.agents.researcher import corpus, reading

SOURCE = '''"""Tools for boxes. More text.

Details.
"""
import sys
import this_module_does_not_exist


def open_lid(box, *, gently=True):
    """Open the lid of a box.

    It may squeak.
    """


def _hidden():
    """Nobody sees this."""


def bare():
    pass


if sys.platform == "win32":
    def open_lid(box):
        """Second definition."""
else:
    def close_lid(box):
        r"""Close it with \\d."""

try:
    import nothing
except ImportError:
    class LidError(Exception):
        """The lid is stuck. Pull harder."""

        def pull(self, force):
            """Pull the lid. With care."""

        def push(self):
            pass
'''


def test_documents_of_a_source() -> None:
    documents = list(corpus.documents_of("boxes", SOURCE))
    texts = {document.id: document.text for document in documents}
    assert list(texts) == ["boxes", "boxes.open_lid", "boxes.close_lid", "boxes.LidError"]
    assert texts["boxes"] == "Tools for boxes. More text.\n\nDetails."
    assert texts["boxes.open_lid"] == (
        "Open the lid of a box.\n\nIt may squeak.\n"
        "Name: open lid (box, gently); boxes: Tools for boxes"
    )
    assert texts["boxes.LidError"].startswith(
        "The lid is stuck. Pull harder.\npull: Pull the lid\nName: Lid Error"
    )


def test_long_docstrings_are_cut_at_a_word() -> None:
    words = "word " * 1000
    (document,) = corpus.documents_of("m", f'"""{words}"""')
    assert len(document.text) <= corpus.LONGEST_CHARACTERS
    assert document.text.endswith("word")


def test_source_of(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("")
    (tmp_path / "two" / "three").mkdir(parents=True)
    (tmp_path / "two" / "__init__.py").write_text("")
    (tmp_path / "two" / "three" / "four.py").write_text("")
    assert corpus.source_of("one", tmp_path) == tmp_path / "one.py"
    assert corpus.source_of("two", tmp_path) == tmp_path / "two" / "__init__.py"
    assert corpus.source_of("two.three.four", tmp_path) == tmp_path / "two" / "three" / "four.py"
    assert corpus.source_of("five", tmp_path) is None


def test_the_library_is_read_without_importing_it() -> None:
    before = set(sys.modules)
    rows = corpus.read_library()
    assert set(sys.modules) == before
    assert len(rows) > 900
    assert len({row["id"] for row in rows}) == len(rows)
    assert {"heapq.nsmallest", "textwrap.dedent", "shutil", "urllib.parse.urljoin"} <= {
        row["id"] for row in rows
    }


def test_all_modules_are_of_the_standard_library() -> None:
    assert len(corpus.MODULES) == len(set(corpus.MODULES)) == 104
    assert {name.partition(".")[0] for name in corpus.MODULES} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("heapq.nsmallest", "heapq"),
        ("urllib.parse.urljoin", "urllib.parse"),
        ("urllib.parse", "urllib.parse"),
        ("logging.handlers.QueueHandler", "logging.handlers"),
        ("other.thing", "other"),
    ],
)
def test_module_of(name: str, module: str) -> None:
    assert corpus.module_of(name) == module


def test_keywords() -> None:
    assert reading.keywords("How do I copy a whole directory tree?") == "copy whole directory tree"
    assert reading.keywords("What is it?") == "What is it"
    assert reading.keywords("?!") == ""


def hit(name: str, score: float, text: str = "A text.") -> dict[str, Any]:
    return {"id": name, "title": name, "text": text, "score": score}


def test_fuse_weighs_the_question_above_planned_queries() -> None:
    question = [hit("heapq.a", 8.0), hit("csv.b", 4.0)]
    planned = [hit("json.c", 90.0), hit("csv.b", 45.0)]
    # heapq.a: 1; csv.b: 0.5 + 0.3 · 0.5; json.c: 0.3.
    ranked = [h["id"] for h in reading.fuse([question, planned])]
    assert ranked == ["heapq.a", "csv.b", "json.c"]


def test_fuse_prefers_a_module_with_several_hits() -> None:
    one = [hit("json.a", 10.0), hit("csv.b", 9.8), hit("csv.c", 9.0), hit("csv.d", 8.0)]
    # json.a: 1; csv.b: 0.98 + 0.1 · (0.9 + 0.8).
    assert reading.fuse([one])[0]["id"] == "csv.b"
    assert reading.fuse([[], []]) == []


SCORES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.1, 50), max_size=5)


def ranking(scores: dict[str, float]) -> list[dict[str, Any]]:
    return [hit(name, score) for name, score in sorted(scores.items(), key=lambda p: -p[1])]


@given(st.lists(SCORES.map(ranking), max_size=3))
def test_fuse_gives_each_hit_once(rankings: list[list[dict[str, Any]]]) -> None:
    names = [h["id"] for h in reading.fuse(rankings)]
    assert len(names) == len(set(names))
    assert set(names) == {h["id"] for ranking in rankings for h in ranking}


def test_read_cuts_to_passages() -> None:
    page = reading.read([[hit(f"m{i}.x", 9.0 - i, "First. Second.\nName: x") for i in range(5)]])
    assert page["hits"] == [f"m{i}.x" for i in range(5)]
    assert page["passages"] == [
        {"id": f"m{i}.x", "title": f"m{i}.x", "text": "First. Second."} for i in range(3)
    ]


def test_passage_keeps_whole_sentences_where_it_can() -> None:
    assert reading.passage("One. Two.\n\nThree.\nName: it; m: about") == "One. Two. Three."
    long = "word " * 30
    assert reading.passage(f"Short one. {long}. {long}.") == f"Short one. {long.strip()} ."
    assert len(reading.passage("x" * 999)) == reading.PASSAGE_CHARACTERS


def test_check_citations() -> None:
    passages = [{"id": "a.b"}, {"id": "c.d"}]
    checked = reading.check_citations(["c.d", "x.y", "c.d", 7], passages)
    assert checked == {"citations": ["c.d"], "dropped": 2}
    assert reading.check_citations([], passages) == {"citations": [], "dropped": 0}


def test_unsupported_names() -> None:
    passages = [{"id": "a.b", "title": "a.b", "text": "see also c.d"}]
    assert reading.unsupported_names("a.b, c.d or e.f.g. And e.f.g", passages) == ["e.f.g"]


@pytest.mark.parametrize(
    ("name", "module", "is_of"),
    [("os.walk", "os", True), ("os", "os", True), ("osx.walk", "os", False), ("a.os", "os", False)],
)
def test_is_of_module(name: str, module: str, is_of: bool) -> None:
    assert reading.is_of_module(name, module) is is_of
