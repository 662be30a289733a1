"""Parameters as FalkorDB reads them, and the graph's own small rules."""

from __future__ import annotations

import math
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import GraphSettings
from shared.domain.relations import AUTHORED, RELATIONS
from shared.errors import InvalidInput, Unavailable
from shared.graph.engine.client import GraphClient, literal
from shared.graph.engine.schema import PROPERTY_KEYS, Schema
from shared.graph.memory.links import RELATION_PROPERTIES, Association, Links
from shared.graph.records import SLOTS, Embedding, embedding_columns, embedding_of, slot


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ([1, -2.5, "x"], '[1,-2.5,"x"]'),
        ("tab\tnew\nline", '"tab\\tnew\\nline"'),
        ("\x01\x1f", '"\x01\x1f"'),
        ("\\u0001", '"\\\\u0001"'),
        ("\\\x02", '"\\\\\x02"'),
        ('a"b', '"a\\"b"'),
        ("é😀", '"é😀"'),
    ],
)
def test_values_become_cypher_literals(value: object, text: str) -> None:
    assert literal(value) == text


@given(st.text())
def test_no_escape_is_left_that_the_server_cannot_read(text: str) -> None:
    """It knows \\\\ \\" \\n \\t \\r \\b \\f and no \\uXXXX."""
    body = literal(text)[1:-1]
    for known in ("\\\\", '\\"', "\\n", "\\t", "\\r", "\\b", "\\f"):
        body = body.replace(known, "")
    assert "\\" not in body
    assert '"' not in body


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, -math.inf]])
def test_numbers_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        literal(value)


def test_slots_follow_the_order_of_ids() -> None:
    ids = sorted(str(uuid4()) for _ in range(1000))
    slots = [slot(each) for each in ids]
    assert slots == sorted(slots)
    assert slot("00000000-0000-4000-8000-000000000000") == 0
    assert slot("ffffffff-ffff-4fff-bfff-ffffffffffff") == SLOTS - 1
    assert 0 <= slot("no uuid at all") < SLOTS


def test_vectors_are_kept_as_32_bit_floats() -> None:
    text, model = embedding_columns(Embedding("m", [0.25, -1.5, 0.1]))
    kept = embedding_of(text, model)
    assert kept is not None
    assert kept.model == "m"
    assert kept.vector == pytest.approx([0.25, -1.5, 0.1], abs=1e-7)
    assert embedding_of(*embedding_columns(None)) is None


def test_every_relation_property_is_a_registered_key() -> None:
    assert set(RELATION_PROPERTIES) >= set(AUTHORED)
    assert set(RELATION_PROPERTIES) <= set(RELATIONS)
    assert {key for keys in RELATION_PROPERTIES.values() for key in keys} <= set(PROPERTY_KEYS)


@pytest.mark.parametrize(
    "row",
    [
        Association("a", "b", "SIMILAR_TO"),
        Association("a", "b", "KNOWS]->() DELETE a //"),
        Association("a", "a", "RELATES_TO"),
        Association("a", "b", "RELATES_TO", {"reason": "x"}),
    ],
)
async def test_what_no_client_may_author_is_refused_before_any_query(row: Association) -> None:
    client = GraphClient(GraphSettings())
    with pytest.raises(InvalidInput):
        await Links(client, Schema(client)).associate_many("default", [row])


async def test_a_store_that_was_not_opened_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await GraphClient(GraphSettings()).query("default", "get", "RETURN 1")
