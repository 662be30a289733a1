"""Whatever a backup's row holds: it is refused, or can be stored and read again."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from services.api.backup.row_check import node_of, plain, relation_of, restored
from services.api.memory.answers import MemoryAnswer
from shared.domain.memory import Memory, iso
from shared.errors import InvalidInput
from shared.graph.records import PROPERTIES, columns

NOW = 1_790_000_000_000
_ID = str(uuid4())
_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["2026-01-01T00:00:00Z", '{"session_id": 5}', '{"enrichment": 1}', "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(PROPERTIES[1:]), _ANY, max_size=6))
def test_a_memory_is_refused_or_can_be_shown(properties: dict[str, Any]) -> None:
    try:
        memory = restored({"id": _ID, "content": "c"} | properties, NOW).memory
    except InvalidInput:
        return
    json.dumps(MemoryAnswer.model_validate(memory).model_dump(), allow_nan=False).encode()
    for name, value in zip(Memory.__slots__, columns(memory), strict=True):
        assert _kept(value), name


def _kept(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_kept, value))
    if isinstance(value, str):
        return "\0" not in value and bool(value.encode() or True)
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


@given(st.dictionaries(st.sampled_from(["id", "name", "aliases", "created_at", "x_due"]), _ANY))
def test_another_node_is_refused_or_can_be_kept(properties: dict[str, Any]) -> None:
    try:
        found = plain({"id": "entity:people:ada"} | properties, NOW)
    except InvalidInput:
        return
    assert all(map(_kept, found.values()))
    assert isinstance(found.get("name", ""), str)
    iso(found.get("created_at"))


@given(_ANY, _ANY)
def test_edges_and_nodes_of_any_shape_are_read_or_refused(one: object, other: object) -> None:
    _, properties = relation_of("RELATES_TO", one)
    assert all(map(_kept, properties.values()))
    _, dated = relation_of("RELATES_TO", {"updated_at": one})
    iso(dated.get("updated_at"))
    try:
        node_of({"id": 1, "labels": one, "properties": other})
    except InvalidInput:
        return
