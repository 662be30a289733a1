"""Indexes of payload keys: `field_schema` of a request, `payload_schema` of a collection."""

from __future__ import annotations

from typing import Any, Literal

import qdrant_edge as edge

from .config import CollectionConfig
from .updates import Update
from .wire import Wire


class KeywordIndexParams(Wire):
    type: Literal["keyword"]
    is_tenant: bool = False


class CreateIndex(Wire):
    field_name: str
    field_schema: Literal["keyword", "integer"] | KeywordIndexParams

    def updates(self, _config: CollectionConfig) -> list[Update]:
        wanted = self.field_schema
        if isinstance(wanted, KeywordIndexParams):
            schema = edge.KeywordIndexParams(is_tenant=wanted.is_tenant)
        else:
            schema = getattr(edge.PayloadSchemaType, wanted.capitalize())
        return [Update(edge.UpdateOperation.create_field_index(self.field_name, schema), 0)]


def schema_json(info: edge.PayloadIndexInfo) -> dict[str, Any]:
    # The engine's enums are no enum.Enum, whatever the stub says.
    kind = str(info.data_type).rpartition(".")[2].lower()
    body: dict[str, Any] = {"data_type": kind, "points": info.points}
    if isinstance(info.params, edge.KeywordIndexParams):
        body["params"] = {"type": kind, "is_tenant": bool(info.params.is_tenant)}
    return body
