"""The spaCy pipe: which model serves, and that it sees no less for being slimmed."""

from __future__ import annotations

import warnings

import pytest

from services.enricher.entities import nlp
from tests.support.patterns import cpu_s
from tests.support.waiting.pace import limit_s

TEXTS = [
    "Alice Johnson met Bob in Berlin on Monday.",
    "Siemens AG and the University of Oxford signed; Priya Desai leads Project Atlas.",
    "",
    "Jean-Luc Moreau moved from Lyon to Geneva in 2019 with the Red Cross.",
]


@pytest.fixture(scope="module")
def pipeline() -> nlp.Pipeline:
    return nlp.load("en_core_web_sm")


def test_a_model_is_active(pipeline: nlp.Pipeline) -> None:
    assert pipeline.name in {"en_core_web_sm", nlp.WHEEL}


def test_the_slim_pipe_sees_what_the_whole_one_sees(pipeline: nlp.Pipeline) -> None:
    import spacy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = spacy.load(pipeline.name)
    for text, annotated in zip(TEXTS, pipeline.annotate(TEXTS), strict=True):
        expected = [(ent.label_, ent.text) for ent in whole(text).ents]
        assert [(span.label, text[span.start : span.end]) for span in annotated.spans] == expected


def test_a_batch_gives_what_single_texts_give(pipeline: nlp.Pipeline) -> None:
    assert pipeline.annotate(TEXTS) == [pipeline.annotate([text])[0] for text in TEXTS]
    assert pipeline.annotate([]) == []


def test_odd_texts_do_not_stop_a_batch(pipeline: nlp.Pipeline) -> None:
    odd = ["\ud800 Alice", "x" * 100_000, "\0", "🙂" * 50, "\n\n"]
    annotated = pipeline.annotate([*odd, TEXTS[0]])
    assert annotated[-1].spans
    assert len(annotated[1].text) == nlp.MAX_CHARS


def test_without_a_model_the_rules_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlp, "WHEEL", "no_such_model")
    pipeline = nlp.load("no_such_model_either")
    assert pipeline.name == nlp.RULES_ONLY
    assert pipeline.annotate(["Alice"]) == [nlp.Annotated("Alice")]


def test_words_of_a_batch_are_forgotten(pipeline: nlp.Pipeline) -> None:
    before = len(pipeline._nlp.vocab.strings)
    pipeline.annotate([f"Zyx{i}qua said abc{i}def." for i in range(200)])
    assert len(pipeline._nlp.vocab.strings) - before < 50


@pytest.mark.parametrize("part", ["(", "(_", "'s", "-a", "。"])
def test_a_long_word_is_read_quickly(pipeline: nlp.Pipeline, part: str) -> None:
    """The tokenizer alone takes 6 s and more, and holds the interpreter meanwhile."""
    text = f"{TEXTS[0]} {part * (8_000 // len(part))}"
    annotated: list[nlp.Annotated] = []
    read_s = cpu_s(lambda: annotated.extend(pipeline.annotate([text])), limit_s=limit_s(10.0))
    assert read_s < limit_s(2.0)
    [alice] = [span for span in annotated[0].spans if span.start == 0]
    assert text[alice.start : alice.end] == "Alice Johnson"


def test_a_long_word_keeps_the_names_in_it(pipeline: nlp.Pipeline) -> None:
    cities = "Paris,London,Berlin,Madrid,Rome,Vienna,Prague,Warsaw,Lisbon,Dublin,Athens,Helsinki,"
    text = cities * 2 + "Oslo"
    [annotated] = pipeline.annotate([text])
    assert {"Paris", "Madrid", "Lisbon"} <= {
        text[each.start : each.end] for each in annotated.spans
    }
