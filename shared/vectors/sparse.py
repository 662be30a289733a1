"""The tokenizer, BM25 as sparse vectors, and BM25 over a few documents.

Documents, queries and memories without vectors pass through the same tokenizer, so a word has
the same key everywhere. All functions are pure, and their results must never change: stored
vectors hold the token hashes of earlier versions. The tests compare them with fixed values.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from os.path import commonprefix  # it takes any strings, not only paths
from pathlib import Path
from typing import Final
from zlib import crc32

from py_rust_stemmers import SnowballStemmer

from shared.word_lists import read_words

# BM25's usual constants. The average length in tokens (parts and bigrams included) is fixed
# because a point's weights are computed once, when it is written.
K1: Final = 1.2
B: Final = 0.75
AVERAGE_TOKENS: Final = 32.0

_SHARE_BEFORE: Final = 0.5

_STOP_WORDS: Final = read_words(Path(__file__).with_name("stop_words.txt"))["english"]

_APOSTROPHES: Final = str.maketrans("’ʼ＇", "'''")
_CONTRACTION: Final = re.compile(r"'(?:s|re|ve|ll|d|m)$")
_JOINTS: Final = re.compile(r"[-_./:@']+")
_CAMEL: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")
_ASCII_COMPOUND: Final = re.compile(r"[a-zA-Z0-9_]+(?:[-./:@'][a-zA-Z0-9_]+)*")

# A longer compound (a URL, base64) gives only its parts; a longer part is cut to this length.
_WHOLE_CHARS: Final = 64
_CACHED_COMPOUNDS: Final = 32_768

# Scripts without spaces between words, and Hangul, which writes endings onto the word.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]+"
)
# Accents of Latin, Greek and Cyrillic are dropped; marks of other scripts belong to the word.
_ACCENTS: Final = dict.fromkeys(range(0x0300, 0x0370))
_MARK: Final = "\u0301"
_COMPOUND: Final = re.compile(rf"\w[\w{_MARK}]*(?:[-./:@']\w[\w{_MARK}]*)*")
_END_OF_MARKS: Final = "\U0001f000"


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights by token hash; indices are unique, ascending uint32."""

    indices: list[int]
    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.indices)


def tokens(text: str) -> list[str]:
    """Return the tokens of `text` with repeats, in any order.

    Words are lower-cased, without accents, and stemmed as English; stop words are dropped.
    `foo_bar-1` gives itself, `foo`, `bar` and `1`; `VectorStore` gives itself and its parts.
    Scripts without spaces (Chinese, Japanese, Thai, …) give single characters and bigrams.
    """
    if text.isascii():
        return [token for word in _ASCII_COMPOUND.findall(text) for token in _of_word(word)]
    text = _folded(text)
    found = [token for run in _UNSPACED.findall(text) for token in (*run, *_bigrams(run))]
    for word in _compounds(_UNSPACED.sub(" ", text)):
        found.extend(_of_word(word))
    return found


def sparse_document(text: str, *, before: Sequence[str] = ()) -> SparseVector:
    """Return the term-frequency part of BM25; the store multiplies it by the query's IDF.

    `before` are the texts said just before, nearest first; the words of each count half as
    much as those of the text that follows it. The weights of two tokens with the same hash
    are added (about a hundred pairs among a million words), which changes ranks a little.
    """
    weighted: dict[str, float] = dict(Counter(tokens(text)))
    share = 1.0
    for earlier in before:
        share *= _SHARE_BEFORE
        for token in tokens(earlier):
            weighted[token] = weighted.get(token, 0.0) + share
    norm = _length_norm(sum(weighted.values()))
    weights: dict[int, float] = {}
    for token, count in weighted.items():
        index = crc32(token.encode())
        weights[index] = weights.get(index, 0.0) + _saturated(count, norm)
    return _sorted(weights)


def sparse_query(text: str) -> SparseVector:
    """Return weight 1 for each token; it is empty (false) if `text` has only stop words."""
    return _sorted(dict.fromkeys((crc32(token.encode()) for token in set(tokens(text))), 1.0))


def bm25_scores(query_tokens: Sequence[str], documents: Sequence[str]) -> list[float]:
    """Return one score per document, on the scale of the sparse vectors' scores.

    The IDF is computed over these documents by the store's formula. A document takes 15 µs:
    use it for hundreds, not for all.
    """
    wanted = set(query_tokens)
    counted, norms = [], []
    for document in documents:
        found = tokens(document)
        counted.append(Counter(token for token in found if token in wanted))
        norms.append(_length_norm(len(found)))
    containing = Counter(token for counts in counted for token in counts)
    # Qdrant's IDF: ln(1 + (N - n + 0.5) / (n + 0.5)), at least 0.
    idf = {
        token: math.log1p((len(counted) - count + 0.5) / (count + 0.5))
        for token, count in containing.items()
    }
    return [
        sum(idf[token] * _saturated(count, norm) for token, count in counts.items())
        for counts, norm in zip(counted, norms, strict=True)
    ]


def words(text: str) -> tuple[str, ...]:
    """Return lower-cased stems to search with CONTAINS: unique, in order, no stop words.

    Each is a piece that every form of its word contains (`studies` gives `stud`), so the search
    finds too much rather than too little. Accents stay; unspaced scripts give bigrams.
    """
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    found: dict[str, None] = {}
    for run in _UNSPACED.findall(text):
        found.update(dict.fromkeys(_bigrams(run) or [run]))
    for compound in _compounds(_UNSPACED.sub(" ", text)):
        for part in _JOINTS.split(_uncontracted(compound).lower()):
            if part not in _STOP_WORDS and (len(part) > 1 or part.isdigit()):
                found[_contained(part)] = None
    return tuple(found)


def _of_word(word: str) -> tuple[str, ...]:
    """Return the tokens of one run of letters, digits and joints."""
    return _of_short(word) if len(word) <= _WHOLE_CHARS else _terms(_parts(_uncontracted(word)))


@lru_cache(_CACHED_COMPOUNDS)
def _of_short(word: str) -> tuple[str, ...]:
    word = _uncontracted(word)
    parts = _parts(word)
    return _terms([word.casefold(), *parts] if len(parts) > 1 else parts)


def _uncontracted(word: str) -> str:
    """Cut a possessive or contracted ending; a word in `…n't` is a stop word and gives ""."""
    word = word.strip("_")
    if "'" not in word:
        return word
    lower = word.lower()
    return "" if lower.endswith("n't") else word[: len(_CONTRACTION.sub("", lower))]


def _parts(compound: str) -> list[str]:
    """Split at joints and at camel case; a camel-cased part of a compound also stays whole."""
    pieces = [piece for piece in _JOINTS.split(compound) if piece]
    found: list[str] = []
    for piece in pieces:
        humps = _CAMEL.findall(piece) if _is_camel(piece) else []
        if len(humps) <= 1 or len(pieces) > 1:
            found.append(piece)
        if len(humps) > 1:
            found += humps
    return [piece.casefold() for piece in found]


def _is_camel(piece: str) -> bool:
    return piece.isascii() and piece.isalpha() and not (piece[1:].islower() or piece.isupper())


def _terms(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(_stem(part[:_WHOLE_CHARS]) for part in parts if part not in _STOP_WORDS)


_stemmer: Final = SnowballStemmer("english")


def _stem(word: str) -> str:
    return str(_stemmer.stem_word(word)) if word.isascii() and word.isalpha() else word


def _contained(word: str) -> str:
    """Return the longest start that the word's other forms share, at least three letters."""
    if not (word.isascii() and word.isalpha() and len(word) > 3):
        return word
    shared = commonprefix([word, _stem(word)])  # noqa: RUF071
    shared = shared[:-1] if shared.endswith("i") and shared != word else shared
    return shared if len(shared) >= 3 else word[:3]


def _bigrams(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)]


def _folded(text: str) -> str:
    """Replace full-width letters and ligatures by plain letters, and drop accents."""
    flat = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).translate(_ACCENTS)
    return unicodedata.normalize("NFC", flat)


def _compounds(text: str) -> list[str]:
    r"""Return the words of any script with their joints.

    `\w` excludes marks, so it would cut Hindi or Hebrew at each vowel sign. The words are
    found in a copy of the text in which every mark is the same one.
    """
    marks = [each for each in set(text) if unicodedata.category(each)[0] == "M"]
    if not marks:
        return _COMPOUND.findall(text)
    same = {ord(each): _MARK for each in marks if each < _END_OF_MARKS}
    spans = (found.span() for found in _COMPOUND.finditer(text.translate(same)))
    return [text[start:end] for start, end in spans]


def _length_norm(length: float) -> float:
    return K1 * (1 - B + B * length / AVERAGE_TOKENS)


def _saturated(count: float, norm: float) -> float:
    return count * (K1 + 1) / (count + norm)


def _sorted(weights: dict[int, float]) -> SparseVector:
    indices = sorted(weights)
    return SparseVector(indices, [weights[index] for index in indices])
