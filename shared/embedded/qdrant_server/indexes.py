"""Payload indexes: `field_schema` of a request, `payload_schema` of a collection."""

# The engine's stub has aliases that the module has not.
from __future__ import annotations

from collections.abc import Callable

import qdrant_edge as edge

from .errors import malformed
from .fields import JsonObject, boolean, chosen, fields, text, whole

_TYPES = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
    "text": edge.PayloadSchemaType.Text,
    "uuid": edge.PayloadSchemaType.Uuid,
}
_PARAMS: dict[str, Callable[..., edge.PayloadSchemaParams]] = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
    "bool": edge.BoolIndexParams,
    "datetime": edge.DatetimeIndexParams,
    "text": edge.TextIndexParams,
    "uuid": edge.UuidIndexParams,
}
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}
# Placement and tenancy flags that the engine keeps per index.
_FLAGS = frozenset(
    {"is_tenant", "is_principal", "on_disk", "enable_hnsw", "lookup", "range", "prefix"}
    | {"lowercase", "ascii_folding", "phrase_matching"}
)
_SIZES = frozenset({"min_token_len", "max_token_len"})


def index_schema(value: object) -> edge.PayloadSchemaType | edge.PayloadSchemaParams:
    """Return the index that a `field_schema` asks for: a type's name, or an object."""
    if isinstance(value, str):
        return chosen(value, "field_schema", _TYPES)
    body = fields(value, "field_schema", _FLAGS | _SIZES | {"type", "tokenizer"})
    kind = text(body.pop("type", None), "field_schema.type")
    if kind not in _PARAMS:
        raise malformed(f"field_schema.type: unknown variant `{kind}`")
    return _PARAMS[kind](**{name: _setting(name, setting) for name, setting in body.items()})


def _setting(name: str, value: object) -> object:
    if name == "tokenizer":
        return chosen(value, name, _TOKENIZERS)
    return whole(value, name) if name in _SIZES else boolean(value, name)


def schema_json(info: edge.PayloadIndexInfo) -> JsonObject:
    kind = _type_name(info.data_type)
    body: JsonObject = {"data_type": kind, "points": info.points}
    if info.params is not None:
        body["params"] = {"type": kind} | _settings(info.params)
    return body


def _settings(params: edge.PayloadSchemaParams) -> JsonObject:
    found = {name: getattr(params, name, None) for name in _FLAGS | _SIZES}
    return {name: value for name, value in found.items() if value is not None}


def _type_name(data_type: edge.PayloadSchemaType) -> str:
    # The engine's enums are neither hashable nor enum.Enum, whatever the stub says.
    return next((name for name, known in _TYPES.items() if known == data_type), "geo")
