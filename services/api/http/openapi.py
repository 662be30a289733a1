"""The OpenAPI 3.1 document, made from the route table.

`python -m services.api.http.openapi` prints it.
What all routes share (tokens, errors, headers) is written here once; the rest each Route says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.api.http.answer_schemas import SHAPES
from services.api.http.route import Param, Route, Scope
from services.api.http.validation import AbsentBody

_REFERENCE = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_TOKENS = ("bearer", "apiKey", "apiKeyQuery")
_ADMIN_TOKENS = ("adminToken", "adminApiKey", "adminTokenQuery")
_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "apiKeyQuery": {"type": "apiKey", "in": "query", "name": "api_key"},
    "adminToken": {"type": "apiKey", "in": "header", "name": "X-Admin-Token"},
    "adminApiKey": {"type": "apiKey", "in": "header", "name": "X-Admin-Api-Key"},
    "adminTokenQuery": {"type": "apiKey", "in": "query", "name": "admin_token"},
}
_TEXT: Mapping[str, Any] = {"type": "string"}
# HTTP forbids other characters in a header.
_PRINTABLE = {"type": "string", "minLength": 1, "pattern": "^[!-~]+$"}
TENANT = Param(
    "X-Tenant-Id",
    {**_PRINTABLE, "maxLength": 64},
    "Which of the tenants that the token grants; default: its first",
)
IDEMPOTENCY_KEY = Param(
    "Idempotency-Key",
    {**_PRINTABLE, "maxLength": 255},
    "The same key with the same body is answered as the first time, for a day",
)
_HEADERS: Mapping[str, Any] = {
    "X-Request-Id": {"description": "Names the request in the logs", "schema": _TEXT},
    "Retry-After": {
        "description": "Seconds to wait before the next try",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Idempotent-Replay": {
        "description": "`true` where this is the answer of an earlier request with the same key",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_ERRORS: Mapping[int, str] = {
    400: "The input is wrong; the message says where",
    401: "No token, or a wrong one",
    403: "The token does not grant this",
    404: "Not found",
    409: "Contradicts what is stored, or what was sent under the same key",
    413: "The body is too large",
    503: "A store is down, or too much is waiting; nothing was done that a repeat would double",
}
_DESCRIPTION = (
    "Long-term memory for AI agents, compatible with AutoMem's clients. Where no token is"
    " configured none is asked for. Numbers out of range are clamped or refused as each"
    " parameter says; unknown parameters and keys are ignored."
)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of what `routes` documents; the same routes give the same document."""
    shown = [route for route in routes if route.documented]
    models = list(dict.fromkeys(route.body for route in shown if route.body is not None))
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        path = _PATH_PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Eunoe", "version": _version(), "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(route.group for route in shown)],
        "paths": paths,
        "components": {
            "schemas": {**SHAPES, **_schemas(models)},
            "responses": {str(code): _error(code, text) for code, text in _ERRORS.items()},
            "headers": dict(_HEADERS),
            "securitySchemes": dict(_SCHEMES),
        },
    }


def _schemas(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE
    )
    return dict(found.get("$defs", {}))


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": re.sub(r"[^\w-]+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "tags": [route.group],
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": _security(route.scope),
    }
    if route.body is not None:
        reference = {"$ref": _REFERENCE.format(model=route.body.__name__)}
        operation["requestBody"] = {
            "required": not issubclass(route.body, AbsentBody),
            "content": {"application/json": {"schema": reference}},
        }
    return {name: value for name, value in operation.items() if value != [] or name == "security"}


def _parameters(route: Route) -> list[dict[str, Any]]:
    headers = list(route.headers)
    if route.scope != "open":
        headers.append(TENANT)
    if route.repeatable:
        headers.append(IDEMPOTENCY_KEY)
    return [
        *(_path_parameter(name, route) for name in _PATH_PARAMETER.findall(route.path)),
        *(_parameter(param, "query") for param in route.query),
        *(_parameter(param, "header") for param in headers),
    ]


def _path_parameter(name: str, route: Route) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name == "memory_id" and route.path.startswith("/memory/"):
        schema = {"type": "string", "format": "uuid"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(param: Param, place: str) -> dict[str, Any]:
    schema = dict(param.schema)
    found: dict[str, Any] = {"name": param.name, "in": place, "schema": schema}
    if param.repeated:
        listed = {"type": "array", "items": schema, "maxItems": param.most}
        found |= {"schema": listed, "style": "form", "explode": True}
    if param.description:
        found["description"] = param.description
    return {**found, "required": True} if param.required else found


def _responses(route: Route) -> dict[str, Any]:
    own = {code: _own(route, code, text) for code, text in route.answers.items()}
    shared = {
        code: {"$ref": f"#/components/responses/{code}"} for code in _failures(route) - set(own)
    }
    return {str(code): answer for code, answer in sorted((own | shared).items())}


def _failures(route: Route) -> set[int]:
    """The errors that this route may answer, beside those it names itself."""
    takes = route.body is not None or route.query or route.headers
    return {
        *((400,) if takes or "{" in route.path or route.scope == "admin_only" else ()),
        *((401, 403, 503) if route.scope != "open" else ()),
        *((404,) if "{" in route.path else ()),
        *((409,) if route.repeatable else ()),
        *((413,) if route.body is not None else ()),
    }


def _own(route: Route, code: int, text: str) -> dict[str, Any]:
    if code >= 400:
        return _error(code, text)
    answer: dict[str, Any] = {"description": text, "headers": _headers("X-Request-Id")}
    if route.repeatable:
        answer["headers"] |= _headers("Idempotent-Replay")
    schema = route.returns if route.media_type == "application/json" else None
    return answer | {"content": {route.media_type: {"schema": schema} if schema else {}}}


def _error(code: int, text: str) -> dict[str, Any]:
    return {
        "description": text,
        "headers": _headers("X-Request-Id", *(("Retry-After",) if code == 503 else ())),
        "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security(scope: Scope) -> list[dict[str, list[str]]]:
    if scope == "open":
        return []
    if scope == "admin_only":
        return [{name: []} for name in _ADMIN_TOKENS]
    if scope == "admin":
        return [{token: [], admin: []} for token, admin in product(_TOKENS, _ADMIN_TOKENS)]
    return [{name: []} for name in _TOKENS]


def _version() -> str:
    try:
        return version("eunoe")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.1.0"


def rendered(routes: Iterable[Route]) -> str:
    return json.dumps(document(routes), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    from services.api.routes import ROUTES

    sys.stdout.write(rendered(ROUTES))
