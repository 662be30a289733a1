"""The tokeniser, its sparse vectors, and BM25 over a handful of texts."""

import importlib.util
import math
import string
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vectors.sparse import bm25_scores, sparse_document, sparse_query, tokens, words

TEXTS = st.text(max_size=400)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The runner was running", ["runner", "run"]),
        ("foo_bar-1", ["foo_bar-1", "foo", "bar", "1"]),
        ("see shared/memory.py", ["see", "shared/memory.py", "share", "memori", "py"]),
        ("VectorStore", ["vectorstor", "vector", "store"]),
        ("parseHTTPResponse", ["parsehttprespons", "pars", "http", "respons"]),
        ("Anna’s dog, John's cat", ["anna", "dog", "john", "cat"]),
        ("I don't know, they'll see", ["know", "see"]),
        ("O'Brien", ["o'brien", "o", "brien"]),
        ("café ﬁnd ＦＵＬＬ Straße", ["cafe", "find", "full", "strass"]),
        ("Москва ΑΘΗΝΆ", ["москва", "αθηνα"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京に", ["東", "京", "に", "東京", "京に"]),
        ("한국어", ["한", "국", "어", "한국", "국어"]),
        ("a ___ , ❤️ 🎉 — !", []),
        ("will may us", ["will", "may", "us"]),
        ("", []),
    ],
)
def test_text_becomes_these_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("query", "stored"),
    [
        ("vectorstore", "the VectorStore class"),
        ("vector", "the VectorStore class"),
        ("iphones", "my old iPhone"),
        ("zurich", "Moved to Zürich"),
        ("bar", "foo_bar-1"),
        ("FOO_BAR-1", "call foo_bar-1 now"),
        ("studies", "she studied"),
        ("京", "東京タワー"),
        ("STRASSE", "die Straße"),
    ],
)
def test_a_word_is_found_in_its_other_forms(query: str, stored: str) -> None:
    assert set(sparse_query(query).indices) & set(sparse_document(stored).indices)


def test_indices_are_the_ones_of_every_earlier_index() -> None:
    """Stored vectors hold these numbers: another hash or stemmer would find nothing."""
    assert sparse_query("Berlin deployments 東京").indices == [
        715588173,
        1004679469,
        2430601375,
        2451981039,
        2453354746,
    ]


def test_the_first_text_of_another_script_looks_up_only_its_own_letters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The module once scanned all of Unicode for marks then, 50 to 200 ms on the event loop."""
    spec = importlib.util.find_spec("shared.vectors.sparse")
    assert spec is not None
    assert spec.loader is not None
    unused = importlib.util.module_from_spec(spec)
    looked_up: list[str] = []

    def category(letter: str, of: Callable[[str], str] = unicodedata.category) -> str:
        looked_up.append(letter)
        return of(letter)

    monkeypatch.setattr(unicodedata, "category", category)
    spec.loader.exec_module(unused)
    assert unused.tokens("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert set(looked_up) <= set("हिन्दी भाषा")


def test_a_mark_belongs_to_its_word_and_opens_none() -> None:
    assert tokens("क\u093f \u093fख ग\u093fघ") == ["क\u093f", "ख", "ग\u093fघ"]
    assert words("क\u093f \u093fखग ग\u093fघ") == ("क\u093f", "खग", "ग\u093fघ")


def test_weights_grow_with_frequency_and_shrink_with_length() -> None:
    once, twice = sparse_document("disk full"), sparse_document("disk disk")
    long = sparse_document("disk " + " ".join(string.ascii_lowercase) * 3)
    at = sparse_query("disk").indices[0]
    weights = [
        dict(zip(each.indices, each.values, strict=True))[at] for each in (twice, once, long)
    ]
    assert weights[0] > weights[1] > weights[2] > 0


def test_words_said_before_count_half_and_a_quarter() -> None:
    vector = sparse_document("alpha", before=["beta", "gamma"])
    weights = dict(zip(vector.indices, vector.values, strict=True))
    alpha, beta, gamma = (
        weights[sparse_query(each).indices[0]] for each in ("alpha", "beta", "gamma")
    )
    assert alpha > beta > gamma > 0


def test_a_query_of_stop_words_is_false() -> None:
    assert not sparse_query("who is it?")
    assert sparse_query("Berlin")


@given(TEXTS)
def test_sparse_indices_are_unique_ascending_uint32(text: str) -> None:
    for vector in (sparse_document(text), sparse_query(text)):
        assert vector.indices == sorted(set(vector.indices))
        assert all(0 <= index < 2**32 for index in vector.indices)
        assert len(vector.values) == len(vector.indices)
        assert all(value > 0 for value in vector.values)


@given(TEXTS)
def test_a_text_holds_every_word_it_is_asked_for(text: str) -> None:
    assert set(sparse_query(text).indices) == set(sparse_document(text).indices)


@given(st.text(alphabet=string.ascii_letters + " '-", max_size=100))
def test_lower_case_finds_what_was_written_in_capitals(text: str) -> None:
    """Camel case may add parts to the writing, never take the plain word away."""
    assert set(tokens(text.lower())) <= set(tokens(text))


@given(TEXTS)
def test_every_contained_word_is_in_the_lower_cased_text(text: str) -> None:
    lowered = unicodedata.normalize("NFC", text).translate(str.maketrans("’ʼ＇", "'''")).lower()
    assert all(word in lowered for word in words(text))


def test_contained_words_cover_the_forms_of_a_word() -> None:
    assert words("Where are the studies of my deployments?") == ("stud", "deploy")
    assert all(form.startswith("stud") for form in ("study", "studies", "studying"))


def test_bm25_prefers_the_rare_word_and_the_shorter_text() -> None:
    texts = [
        "disk failed",
        "disk is full and so is the other disk here",
        "disk disk",
        "berlin disk",
    ]
    scores = bm25_scores(tokens("berlin disk"), texts)
    assert max(scores) == scores[3]
    assert scores[2] > scores[0]


def test_bm25_is_the_sparse_weight_times_the_idf_and_other_tokens_count_nothing() -> None:
    assert bm25_scores(["berlin"], ["disk"]) == [0.0]
    # One document of one holds it: ln(1 + (1 - 1 + 0.5) / (1 + 0.5)).
    idf = math.log1p(0.5 / 1.5)
    assert bm25_scores(["berlin", "disk"], ["berlin"])[0] == pytest.approx(
        idf * sparse_document("berlin").values[0]
    )


@given(TEXTS, st.lists(TEXTS, max_size=5))
def test_bm25_is_finite_and_never_negative(query: str, texts: list[str]) -> None:
    scores = bm25_scores(tokens(query), texts)
    assert len(scores) == len(texts)
    assert all(0 <= score < float("inf") for score in scores)
