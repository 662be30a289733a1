"""The words that the shapes of answers are written in: JSON Schema, shorter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
MAYBE_WHOLE: Schema = {"type": ["integer", "null"]}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
ID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time"}
UNIT: Schema = {"type": "number", "minimum": 0, "maximum": 1}
ANY: Schema = {"type": "object"}
SUCCESS: Schema = {"type": "string", "enum": ["success"]}
MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def object_of(description: str, /, optional: Schema | None = None, **needed: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": {**needed, **(optional or {})},
        "required": list(needed),
    }


def one_of(*names: str) -> Schema:
    return {"type": "string", "enum": list(names)}


IDS = list_of(TEXT)
