"""Indexes of payload keys: `field_schema` of a request, `payload_schema` of a collection."""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

from typing import Any, Literal

import qdrant_edge as edge

from .wire import Wire


class KeywordIndexParams(Wire):
    type: Literal["keyword"]
    is_tenant: bool = False


class CreateIndex(Wire):
    field_name: str
    field_schema: Literal["keyword", "integer"] | KeywordIndexParams

    def engine(self) -> edge.UpdateOperation:
        schema: edge.PayloadSchemaType | edge.PayloadSchemaParams
        if isinstance(self.field_schema, KeywordIndexParams):
            schema = edge.KeywordIndexParams(is_tenant=self.field_schema.is_tenant)
        elif self.field_schema == "keyword":
            schema = edge.PayloadSchemaType.Keyword
        else:
            schema = edge.PayloadSchemaType.Integer
        return edge.UpdateOperation.create_field_index(self.field_name, schema)


def schema_json(info: edge.PayloadIndexInfo) -> dict[str, Any]:
    # The engine's enums are no enum.Enum, whatever the stub says.
    kind = str(info.data_type).rpartition(".")[2].lower()
    body: dict[str, Any] = {"data_type": kind, "points": info.points}
    if isinstance(info.params, edge.KeywordIndexParams):
        body["params"] = {"type": kind, "is_tenant": bool(info.params.is_tenant)}
    return body
