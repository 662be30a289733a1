"""The OpenAPI 3.1 document, made from the route table.

What all routes share (tokens, errors, headers) is in openapi.json; each Route describes the rest.
The patterns of headers allow what HTTP does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from services.api.http.answers import ErrorAnswer
from services.api.http.body import AbsentBody
from services.api.http.parameters import Param
from services.api.http.route import Route, Scope
from shared.config import Settings

_SHARED: Mapping[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
_REFERENCE = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::[^{}]*)?\}")


class _JsonSchema(GenerateJsonSchema):
    """Describes an answer without defaults and titles; the keys that never are absent are required.

    Bodies of requests are described as pydantic does by default.
    """

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        if self.mode == "serialization":
            return "serialization_exclude_if" not in field
        return super().field_is_required(field, total)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        if self.mode == "serialization":
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return self.mode == "validation" and super().field_title_should_be_set(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        described = super().model_schema(schema)
        if self.mode == "serialization":
            del described["title"]
        return described

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removesuffix("Answer")


def document(routes: Iterable[Route], settings: Settings) -> dict[str, Any]:
    """Return the document of the documented `routes`."""
    documented = [route for route in routes if route.documented]
    schemas, components = _schemas(documented)
    paths: dict[str, dict[str, Any]] = {}
    for route in documented:
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas, settings)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Eunoe", "version": _version(), "description": _SHARED["description"]},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(route.group for route in documented)],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                code: _error(int(code), text) for code, text in _SHARED["errors"].items()
            },
            "headers": _SHARED["headers"],
            "securitySchemes": _SHARED["tokens"] | _SHARED["adminTokens"],
        },
    }


# A body or an answer → its schema, which refers to the components.
_Schemas = Mapping[object, Mapping[str, Any]]


def _schemas(routes: Iterable[Route]) -> tuple[_Schemas, dict[str, Any]]:
    """Return the schemas of all bodies and answers, and the components that they refer to."""
    modes: dict[Any, JsonSchemaMode] = {ErrorAnswer: "serialization"}
    modes |= {route.returns: "serialization" for route in routes if route.returns is not None}
    modes |= {route.body: "validation" for route in routes if route.body is not None}
    generated, components = TypeAdapter.json_schemas(
        [(type_, mode, TypeAdapter(type_)) for type_, mode in modes.items()],
        ref_template=_REFERENCE,
        schema_generator=_JsonSchema,
    )
    schemas: dict[object, Mapping[str, Any]] = {None: {"type": "object"}}
    schemas |= {type_: schema for (type_, _), schema in generated.items()}
    return schemas, components["$defs"]


def _operation(route: Route, schemas: _Schemas, settings: Settings) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"[^\w-]+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "tags": [route.group],
        "summary": route.summary,
        "parameters": _parameters(route, settings),
        "responses": _responses(route, schemas),
        "security": _security(route.scope),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": not issubclass(route.body, AbsentBody),
            "content": {"application/json": {"schema": schemas[route.body]}},
        }
    return {name: value for name, value in operation.items() if value != [] or name == "security"}


def _parameters(route: Route, settings: Settings) -> list[dict[str, Any]]:
    parameters = [
        *(_path_parameter(name, route) for name in _PATH_PARAMETER.findall(route.path)),
        *(_parameter(param, "query", settings) for param in route.query),
        *(_parameter(param, "header", settings) for param in route.headers),
    ]
    if route.scope != "open":
        parameters.append(_SHARED["parameters"]["tenant"])
    if route.repeatable:
        parameters.append(_SHARED["parameters"]["key"])
    return parameters


def _path_parameter(name: str, route: Route) -> dict[str, Any]:
    is_id = name == "memory_id" and route.path.startswith("/memory/")
    schema = {"type": "string"} | ({"format": "uuid"} if is_id else {"minLength": 1})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(param: Param[Any], place: str, settings: Settings) -> dict[str, Any]:
    schema = dict(param.schema(settings))
    described: dict[str, Any] = {"name": param.name, "in": place, "schema": schema}
    if param.most_values is not None:
        described["schema"] = {"type": "array", "items": schema, "maxItems": param.most_values}
        described |= {"style": "form", "explode": True}
    aliases = f"also named {', '.join(param.aliases)}" if param.aliases else ""
    if description := "; ".join(filter(None, (param.description, aliases))):
        described["description"] = description
    return {**described, "required": True} if param.required else described


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    own = {
        code: _success(route, meaning, schemas) if code < 400 else _error(code, meaning)
        for code, meaning in route.answers.items()
    }
    shared = {
        code: {"$ref": f"#/components/responses/{code}"} for code in _failures(route) - set(own)
    }
    return {str(code): answer for code, answer in sorted((own | shared).items())}


def _failures(route: Route) -> set[int]:
    """Return the errors that this route may answer, beside those that it names itself."""
    has_input = route.body is not None or route.query or route.headers
    return {
        *((400,) if has_input or "{" in route.path or route.scope == "admin_only" else ()),
        *((401, 403, 503) if route.scope != "open" else ()),
        *((404,) if "{" in route.path else ()),
        *((409,) if route.repeatable else ()),
        *((413,) if route.body is not None else ()),
    }


def _success(route: Route, meaning: str, schemas: _Schemas) -> dict[str, Any]:
    is_json = route.media_type == "application/json"
    return {
        "description": meaning,
        "headers": _headers("X-Request-Id", *(("Idempotent-Replay",) if route.repeatable else ())),
        "content": {route.media_type: {"schema": schemas[route.returns]} if is_json else {}},
    }


def _error(code: int, meaning: str) -> dict[str, Any]:
    return {
        "description": meaning,
        "headers": _headers("X-Request-Id", *(("Retry-After",) if code == 503 else ())),
        "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security(scope: Scope) -> list[dict[str, list[str]]]:
    """Return the alternatives; a request must carry all tokens of one of them."""
    if scope == "open":
        return []
    tokens, admin_tokens = _SHARED["tokens"], _SHARED["adminTokens"]
    accepted = {"admin": (tokens, admin_tokens), "admin_only": (admin_tokens,)}
    return [{name: [] for name in names} for names in product(*accepted.get(scope, (tokens,)))]


def _version() -> str:
    try:
        return version("eunoe")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.1.0"


def rendered(routes: Iterable[Route], settings: Settings) -> str:
    """Return the text of docs/openapi.json, the same for the same arguments."""
    return json.dumps(document(routes, settings), ensure_ascii=False, indent=1) + "\n"
