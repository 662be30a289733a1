"""Entities of a text: from what spaCy saw and from the wording, one category for each name."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.enricher.entities.filter import may_be_entity
from services.enricher.entities.nlp import Annotated, Span
from services.enricher.entities.recognizer import (
    MAX_ENTITIES,
    Found,
    entities_of,
    entity_tag,
    entity_tags,
)

LABELS = ("PERSON", "ORG", "PRODUCT", "WORK_OF_ART", "LAW", "EVENT", "GPE", "LOC", "NORP", "DATE")


def seen(text: str, **labels: str) -> Found:
    """The entities of `text` when spaCy saw, by label, these pieces of it."""
    spans = [
        Span(label, text.index(piece), text.index(piece) + len(piece))
        for label, pieces in labels.items()
        for piece in pieces.split("|")
    ]
    return entities_of(Annotated(text, tuple(sorted(spans, key=lambda span: span.start))))


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("ORG", "organizations"),
        ("PRODUCT", "tools"),
        ("WORK_OF_ART", "tools"),
        ("LAW", "tools"),
        ("EVENT", "concepts"),
        ("GPE", "concepts"),
        ("LOC", "concepts"),
        ("NORP", "concepts"),
        ("PERSON", "people"),
    ],
)
def test_spacys_labels_become_categories(label: str, category: str) -> None:
    text = "We heard of Vandor Quist there."
    assert seen(text, **{label: "Vandor Quist"}) == {category: ["Vandor Quist"]}


def test_dates_and_numbers_are_no_entities() -> None:
    assert seen("The Twentieth Century ended.", DATE="The Twentieth Century") == {}


@pytest.mark.parametrize("intro", ["Met with", "Meeting with", "Talked to", "Spoke with"])
def test_people_are_introduced_by_wording(intro: str) -> None:
    assert seen(f"{intro} Orsolya Keszi about it.") == {"people": ["Orsolya Keszi"]}


@pytest.mark.parametrize(
    "text",
    [
        "We use Zephyrite here.",
        "They were using Zephyrite again.",
        "Will deploy Zephyrite soon.",
        "It was deployed with Zephyrite.",
        "Send it via Zephyrite.",
        "Picked Zephyrite over the rest.",
        "Zephyrite vs the rest.",
        "Zephyrite versus the rest.",
        "Take Zephyrite instead of the rest.",
    ],
)
def test_tools_are_introduced_by_wording(text: str) -> None:
    assert seen(text) == {"tools": ["Zephyrite"]}


@pytest.mark.parametrize(
    ("text", "project"),
    [
        ("Project Xylem starts.", "Xylem"),
        ('A repo called "night-owl" exists.', "night-owl"),
        ("the repository named Lighthouse", "Lighthouse"),
        ("project: billing-core is new", "billing-core"),
        ("Look at `auth-gateway` now", "auth-gateway"),
        ("Look at `Blue Heron` now", "Blue Heron"),
        ("The payments-api is down", "payments-api"),
    ],
)
def test_projects_are_introduced_by_wording(text: str, project: str) -> None:
    assert seen(text) == {"projects": [project]}


def test_a_technology_is_a_tool_whatever_spacy_says() -> None:
    assert seen("Kafka lag was high.", PERSON="Kafka") == {"tools": ["Kafka"]}
    assert seen("Shown in Grafana.", GPE="Grafana") == {"tools": ["Grafana"]}
    assert seen("moved from memcached to redis") == {"tools": ["Memcached", "Redis"]}


@pytest.mark.parametrize(
    "text",
    [
        "There is rust on my hands and I go home.",
        "Express your opinion.",
        "React quickly to slack from the express lane.",
    ],
)
def test_ordinary_words_are_no_technologies(text: str) -> None:
    assert seen(text) == {}


def test_a_part_of_a_persons_name_is_that_person() -> None:
    text = "Met with Alice Johnson. Deploy with Alice, said Johnson."
    assert seen(text, PERSON="Alice Johnson") == {"people": ["Alice Johnson"]}


def test_people_win_over_tools() -> None:
    assert seen("Met with Quillon. We use Quillon.", PRODUCT="Quillon") == {"people": ["Quillon"]}


@pytest.mark.parametrize(
    ("text", "piece", "person"),
    [
        ("Dr. Helen Carter called.", "Dr. Helen Carter", "Helen Carter"),
        ("Frau Dr. Annika Schröder fehlt.", "Annika Schröder", "Annika Schröder"),
        ("Lukas Großmann's patch works.", "Lukas Großmann's", "Lukas Großmann"),
        ("Tessa van Dijk left.", "Tessa van Dijk", "Tessa van Dijk"),
        ("Pierre de la Fontaine left.", "Pierre", "Pierre de la Fontaine"),
        ("Jean-Luc Moreau left.", "Jean-Luc Moreau", "Jean-Luc Moreau"),
        ("Maria: Happy to hear that!", "Maria: Happy", "Maria"),
    ],
)
def test_a_name_loses_titles_and_possessives(text: str, piece: str, person: str) -> None:
    assert seen(text, PERSON=piece) == {"people": [person]}


@pytest.mark.parametrize("name", ["Caroline", "Zebulon", "Sven Olsen"])
def test_a_turns_speaker_is_a_person(name: str) -> None:
    assert seen(f"{name}: I went there, did you?") == {"people": [name]}


@pytest.mark.parametrize("role", ["User", "Assistant", "System", "Note", "TODO", "Summary"])
def test_a_role_or_heading_is_nobody(role: str) -> None:
    assert seen(f"{role}: I went there, did you?", PERSON=role) == {}


@pytest.mark.parametrize(
    "text",
    [
        "```\nimport Zephyr\nuse Zephyr\n```",
        "see https://example.org/Use/Zephyr for it",
        "mail Zephyr@Example.org about it",
        "use Zephyr.build(Alpha) now",
        '{"Name": "use Zephyr"}',
        "/srv/use/Zephyr",
        "Traceback (most recent call last):\n  use Zephyr\n",
        "ValueError: use Zephyr instead",
    ],
)
def test_code_paths_and_messages_yield_nothing(text: str) -> None:
    assert seen(text) == {}


def test_a_known_tool_in_an_error_message_counts() -> None:
    assert seen("ConnectionError: Redis is down") == {"tools": ["Redis"]}


def test_a_span_of_odd_spaces_is_nothing() -> None:
    assert seen("\u2003 and \xa0", PERSON="\u2003|\xa0") == {}


def test_german_nouns_are_no_names() -> None:
    text = "Wir haben die Rechnung mit der Buchhaltung besprochen."
    assert seen(text, PERSON="Rechnung", ORG="Buchhaltung") == {}


def test_names_are_sorted_and_bounded() -> None:
    names = [f"Zed{chr(97 + i // 26)}{chr(97 + i % 26)}or" for i in range(80)]
    text = " ".join(f"We use {name}." for name in names)
    tools = seen(text)["tools"]
    assert tools == names[:MAX_ENTITIES]
    assert seen("We use Zebra and Alpaca.")["tools"] == ["Alpaca", "Zebra"]


def test_tags_are_sorted_and_name_their_category() -> None:
    assert entity_tag("people", "Alice Johnson") == "entity:people:alice-johnson"
    found = {"tools": ["Redis", "Kafka"], "people": ["Jürgen Müller"]}
    assert entity_tags(found) == (
        "entity:people:jurgen-muller",
        "entity:tools:kafka",
        "entity:tools:redis",
    )


PIECES = """Alice met with Bob use Kafka `x` project: Project Atlas vs . , : ``` { } ( ' over Dr.
the https://a.b van Müller's — „ “ Redis-like a/b.c Error:"""
words = st.sampled_from([*PIECES.split(), "\n", "\t"])


@settings(max_examples=200, deadline=None)
@given(st.data(), st.one_of(st.text(max_size=300), st.lists(words, max_size=40).map(" ".join)))
def test_any_text_gives_valid_names_that_occur_in_it(data: st.DataObject, text: str) -> None:
    bounds = st.integers(0, len(text))
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(LABELS), bounds, bounds), max_size=5))
    spans = tuple(Span(label, min(a, b), max(a, b)) for label, a, b in pairs if a != b)
    found = entities_of(Annotated(text, spans))
    assert found == entities_of(Annotated(text, spans))
    for category, names in found.items():
        assert names == sorted(set(names))
        for name in names:
            assert may_be_entity(category, name)
            assert name.lower() in text.lower()


@pytest.mark.parametrize(
    "piece", ["A", "a.", "use A ", "`", "{", "Aa ", "met with ", "\n", "a-b-", "Use Zephyr, "]
)
def test_no_text_takes_long(piece: str) -> None:
    """20 000 characters made for backtracking: well under a second each."""
    text = piece * (20_000 // len(piece))
    started = time.thread_time()
    entities_of(Annotated(text))
    assert time.thread_time() - started < 2
