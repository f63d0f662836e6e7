from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysilicon.errors import InputError
from polysilicon.runtime.search import Index, build, open_index
from polysilicon.runtime.types import Document

DOCUMENTS = [
    Document(id="dogs", title="Dogs", text="A dog runs in the park."),
    Document(
        id="park", title="The park", text="Trees, a pond and a running track; a dog now and then."
    ),
    Document(id="café", title="Café", text="Naïve guests drink coffee."),
    Document(id="empty", text=""),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("search") / "index"
    build(folder, DOCUMENTS)
    return open_index(folder)


def ids(index: Index, query: str, k: int = 10) -> list[str]:
    return [hit.id for hit in index.search(query, k)]


def test_finds_by_stem_and_gives_back_what_was_stored(index: Index) -> None:
    hits = index.search("tracks", 5)
    assert [(hit.id, hit.title, hit.text) for hit in hits] == [
        ("park", DOCUMENTS[1].title, DOCUMENTS[1].text)
    ]
    assert hits[0].score > 0


def test_a_word_in_the_title_counts_more(index: Index) -> None:
    assert ids(index, "dog") == ["dogs", "park"]


def test_accents_and_case_do_not_matter(index: Index) -> None:
    assert ids(index, "NAIVE cafe") == ["café"]


def test_scores_fall(index: Index) -> None:
    scores = [hit.score for hit in index.search("a dog runs in the park", 10)]
    assert scores == sorted(scores, reverse=True)


def test_k_bounds_the_hits(index: Index) -> None:
    assert len(index.search("dog", 1)) == 1
    assert index.search("dog", 0) == []


@pytest.mark.parametrize("query", ["", "   ", "…", '"', "(((", "\ud800"])
def test_no_words_no_hits(index: Index, query: str) -> None:
    assert index.search(query, 5) == []


def test_signs_of_the_query_language_mean_nothing(index: Index) -> None:
    assert ids(index, 'title:"pond" AND -trees^2 [a TO b] *') == ids(
        index, "pond trees title and a to b"
    )


@settings(max_examples=100, deadline=None)
@given(query=st.text(max_size=60))
def test_any_text_is_a_query(index: Index, query: str) -> None:
    assert len(index.search(query, 3)) <= 3


def test_a_long_query_is_cut(index: Index) -> None:
    assert ids(index, " ".join(f"w{n}" for n in range(5000))) == []


def test_a_repeated_build_replaces_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(folder, DOCUMENTS)
    build(folder, DOCUMENTS[:1])
    assert len(open_index(folder)) == 1


def test_a_build_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def documents() -> Iterator[Document]:
        yield DOCUMENTS[0]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        build(tmp_path / "index", documents())
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_breaks_off_keeps_the_index_that_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(folder, DOCUMENTS)
    with pytest.raises(AttributeError):
        build(folder, ["no document"])  # type: ignore[list-item]
    assert len(open_index(folder)) == len(DOCUMENTS)


def test_text_that_utf8_cannot_hold_is_indexed(tmp_path: Path) -> None:
    build(tmp_path / "index", [Document(id="a", text="half \ud800 pair")])
    assert ids(open_index(tmp_path / "index"), "half pair") == ["a"]


def test_same_documents_same_order_of_ties(tmp_path: Path) -> None:
    same = [Document(id=str(n), text="equal words") for n in range(50)]
    for name in ("a", "b"):
        build(tmp_path / name, iter(same))
    assert ids(open_index(tmp_path / "a"), "equal") == ids(open_index(tmp_path / "b"), "equal")


def test_threads_may_share_an_index(index: Index) -> None:
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(ids(index, "dog"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["dogs", "park"]] * 8


def test_no_index_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no search index"):
        open_index(tmp_path / "none")


def test_an_unwritable_place_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        build(tmp_path / "file" / "index", DOCUMENTS)
