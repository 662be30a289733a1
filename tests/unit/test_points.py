"""The point of a memory: what its payload holds, and what it must not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.memory import Memory
from shared.vectors import point_for
from shared.vectors.points import point_id
from shared.vectors.sparse import sparse_document

ID = "2b2e0f5c-54a3-4f0b-9f0e-0c9e6f6b1a11"
FULL = Memory(
    id=ID,
    version=7,
    payload_version=9,
    content="CANARY content",
    type="Decision",
    tags=("Proj/Alpha", "db", "DB"),
    entity_tags=("entity:people:anna", "db"),
    timestamp=1_700_000_000_000,
    t_valid=1_700_000_000_001,
    t_invalid=1_700_000_000_002,
    project="apollo",
    layer="semantic",
    session_id="s1",
    speaker="Anna",
    metadata={"canary": "CANARY"},
    summary="CANARY",
    relevance_score=0.5,
    archived=True,
)


def test_the_payload_is_exactly_what_filters_and_guards_need() -> None:
    assert point_for("acme", FULL, text_hash="h").payload == {
        "tenant": "acme",
        "memory_id": ID,
        "project": "apollo",
        "session_id": "s1",
        "layer": "semantic",
        "type": "Decision",
        "tags": ["proj/alpha", "db", "entity:people:anna"],
        "tag_prefixes": [
            *("proj", "proj:alpha", "db"),
            *("entity", "entity:people", "entity:people:anna"),
        ],
        "timestamp": 1_700_000_000_000,
        "t_valid": 1_700_000_000_001,
        "t_invalid": 1_700_000_000_002,
        "archived": True,
        "state": "archived",
        "speaker": "anna",
        "version": 7,
        "payload_version": 9,
        "text_hash": "h",
    }


def test_what_has_no_value_is_left_out() -> None:
    memory = Memory(id=ID, version=1, payload_version=1, content="x")
    payload = point_for("acme", memory, text_hash="h").payload
    assert payload.keys() == {
        *("tenant", "memory_id", "project", "layer", "type", "tags", "tag_prefixes", "timestamp"),
        *("archived", "version", "payload_version", "text_hash"),
    }


def test_a_text_without_words_has_no_word_vector() -> None:
    wordless = point_for(
        "acme",
        FULL,
        text_hash="h",
        vectors={"dense": np.ones(3, np.float32), "bm25": sparse_document("!!!")},
    )
    assert wordless.vectors.keys() == {"dense"}


@given(content=st.text(min_size=1), metadata=st.dictionaries(st.text(), st.text()))
def test_content_and_metadata_change_no_payload(content: str, metadata: dict[str, str]) -> None:
    plain, other = (
        Memory(id=ID, version=1, payload_version=1, content=text, metadata=values)
        for text, values in (("x", {}), (content, metadata))
    )
    assert point_for("t", plain, text_hash="h") == point_for("t", other, text_hash="h")


def test_a_memory_has_a_point_of_its_own_in_each_tenant() -> None:
    """The ids are stored: any change of them leaves every point of every tenant an orphan."""
    assert point_id("default", ID) == ID
    assert point_id("acme", ID) == "48e5f0d2-3f57-57ca-962f-235a3b72f0d5"
    assert point_id("acme2", ID) != point_id("acme", ID)
