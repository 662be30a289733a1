"""Answers are rendered as the document describes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from aiohttp import web

from services.api.http.answers import (
    Absent,
    Answer,
    OnlyTrue,
    Success,
    Time,
    attribute,
    json_answer,
)
from services.api.http.openapi import document
from services.api.http.route import Route
from services.api.memory.answers import FoundAnswer, MemoryAnswer
from shared.config import Settings
from shared.domain.memory import Memory


@dataclass(frozen=True, slots=True)
class Note:
    key: str
    at: int
    text: str | None = None
    kept: bool = False


class NoteAnswer(Answer):
    """A note."""

    id: str = attribute("key")
    at: Time
    text: Absent[str] = None
    kept: OnlyTrue = False
    owner: str | None = None


class NotesAnswer(Success):
    notes: list[NoteAnswer]


def _body(answer: Answer) -> Any:
    response = json_answer(answer)
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def _described(answer: type[Answer]) -> tuple[dict[str, Any], dict[str, Any]]:
    async def nothing(_request: web.Request) -> web.StreamResponse:
        return web.Response()

    made = document([Route("GET", "/notes", nothing, "Notes", returns=answer)], Settings())
    schemas: dict[str, Any] = made["components"]["schemas"]
    return schemas[answer.__name__.removesuffix("Answer")], made


def test_absent_keys_are_left_out_and_nulls_are_answered() -> None:
    notes = [Note("a", 0), Note("b", 1000, "x", kept=True)]
    assert _body(NotesAnswer(notes=notes)) == {
        "status": "success",
        "notes": [
            {"id": "a", "at": "1970-01-01T00:00:00+00:00", "owner": None},
            {
                "id": "b",
                "at": "1970-01-01T00:00:01+00:00",
                "text": "x",
                "kept": True,
                "owner": None,
            },
        ],
    }


def test_the_description_says_which_keys_are_always_there() -> None:
    schema, _ = _described(NoteAnswer)
    assert schema["description"] == "A note."
    assert schema["required"] == ["id", "at", "owner"]
    assert schema["properties"]["text"] == {"type": "string"}
    assert schema["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert {"type": "null"} in schema["properties"]["owner"]["anyOf"]


@pytest.mark.parametrize(
    "memory",
    [
        Memory(id="1" * 32, version=1, payload_version=1, content="x"),
        Memory(
            id="1" * 32,
            version=2,
            payload_version=1,
            content="ü",
            t_invalid=5,
            summary="s",
            session_id="s",
            relevance_score=0.5,
            archived=True,
            archived_at=6,
            protected=True,
            protected_reason="r",
            metadata={"deep": [{"n": None}]},
            enriched_at=7,
            enriched_version=2,
        ),
    ],
)
def test_a_memory_is_what_its_description_says(memory: Memory) -> None:
    schema, made = _described(FoundAnswer)
    body = _body(FoundAnswer(memory=MemoryAnswer.model_validate(memory)))
    jsonschema.validate(body, {**schema, "components": made["components"]})
    assert ("summary" in body["memory"]) == (memory.summary is not None)
    assert ("archived" in body["memory"]) == memory.archived
    assert body["memory"]["enriched"] is body["memory"]["processed"] is memory.enriched
    assert None not in body["memory"].values()
