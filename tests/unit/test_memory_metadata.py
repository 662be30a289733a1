"""Metadata is the client's; what workers add is laid over it and never becomes its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.api.memory.requests import MemoryPatch
from services.api.memory.service import authored, changed
from shared.domain.memory import Memory, summary_marks
from tests.support.stores.graphs import a_memory

ORIGINAL = "A long text. " * 60
FOUND = {"people": ["Alice Cooper"]}
BLOCK = {"last_run": "2026-01-01T00:00:00+00:00", "forced": False, "semantic_neighbors": []}


def _enriched(metadata: dict[str, Any]) -> Memory:
    return replace(a_memory(), metadata=metadata, entities=FOUND, enrichment=BLOCK)


def _patched(memory: Memory, **body: Any) -> dict[str, Any]:
    return dict(changed(memory, MemoryPatch(**body)).metadata)


def test_the_clients_own_is_shown_under_the_workers_keys() -> None:
    memory = _enriched({"entities": {"mine": [1], "people": ["me"]}, "enrichment": {"x": 1}})
    shown = memory.shown_metadata
    assert shown == {"entities": {"mine": [1], **FOUND}, "enrichment": {"x": 1, **BLOCK}}
    assert memory.metadata["entities"] == {"mine": [1], "people": ["me"]}


def test_what_is_no_object_is_shown_where_no_block_is() -> None:
    memory = replace(_enriched({"entities": "none", "enrichment": [1]}), entities={})
    assert memory.shown_metadata == {"entities": "none", "enrichment": BLOCK}


@pytest.mark.parametrize(
    "metadata",
    [
        {"n": 1, "nothing": None},
        {"entities": {"mine": [1]}, "enrichment": {"x": 1}},
        {"entities": {"mine": [1], "people": ["me"]}},
        {"entities": "none", "enrichment": 5},
    ],
)
def test_written_back_as_it_was_read_it_is_the_clients(metadata: dict[str, Any]) -> None:
    memory = _enriched(metadata)
    assert _patched(memory, metadata=memory.shown_metadata) == metadata


def test_what_the_client_took_out_of_what_it_read_goes() -> None:
    memory = _enriched({"n": 1, "entities": {"mine": [1], "people": ["me"]}})
    assert _patched(memory, metadata={"enrichment": BLOCK, "entities": {**FOUND}}) == {
        "entities": {"people": ["me"]}
    }
    assert _patched(memory, metadata={"enrichment": BLOCK}) == {}
    assert authored({"enrichment": BLOCK, "entities": {**FOUND, "a": 1}}) == {"entities": {"a": 1}}


@pytest.mark.parametrize("body", [{"metadata": {"mine": 2}}, {"metadata": {}}, {"tags": ["q"]}])
def test_a_shortened_memory_keeps_its_original(body: dict[str, Any]) -> None:
    memory = replace(a_memory("Short."), metadata={"k": 1, **summary_marks(ORIGINAL)})
    kept = body.get("metadata", {"k": 1})
    assert _patched(memory, **body) == {**kept, **summary_marks(ORIGINAL)}
    assert _patched(memory, content="Short.", **body) == {**kept, **summary_marks(ORIGINAL)}


def test_what_the_client_says_of_the_original_stands() -> None:
    memory = replace(a_memory("Short."), metadata=summary_marks(ORIGINAL))
    assert _patched(memory, metadata={"original_content": None}) == {
        **summary_marks(ORIGINAL),
        "original_content": None,
    }


def test_a_new_content_has_no_original() -> None:
    memory = replace(a_memory("Short."), metadata={"k": 1, **summary_marks(ORIGINAL)})
    assert _patched(memory, content="new") == {"k": 1}
    assert _patched(memory, content="new", metadata={"m": 2}) == {"m": 2}
    assert _patched(memory, content="new", metadata=memory.shown_metadata) == {"k": 1}
    theirs = summary_marks("another")
    assert _patched(memory, content="new", metadata={"n": None, **theirs}) == {"n": None, **theirs}


def test_marks_that_are_the_clients_own_are_left() -> None:
    own = {"original_content": "elsewhere", "n": None}
    memory = replace(a_memory("Short."), metadata=own)
    assert _patched(memory, content="new") == own
    assert _patched(memory, metadata={}) == {}
