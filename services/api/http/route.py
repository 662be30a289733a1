"""Route: one line of the table that the app, the OpenAPI document and the docs come from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# open: no token; admin: the API token and the admin token; admin_only: the admin token alone.
Scope = Literal["open", "read", "write", "admin", "admin_only"]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the query or header.

    `schema` is JSON Schema; `repeated` ones may occur `most` times.
    """

    name: str
    schema: Mapping[str, Any]
    description: str = ""
    required: bool = False
    repeated: bool = False
    most: int = 100


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `answers`: status → what it means, beyond those all routes share."""

    method: str
    path: str
    handler: Handler
    summary: str
    scope: Scope = "read"
    body: type[BaseModel] | None = None
    query: tuple[Param, ...] = ()
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "Success"})
    group: str = "memory"
    media_type: str = "application/json"
    body_bytes: int | None = None
    headers: tuple[Param, ...] = ()
    # JSON Schema of the body of a success; names of shapes.SHAPES may be referred to.
    returns: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    # Takes an Idempotency-Key.
    repeatable: bool = False
    # Whether the OpenAPI document names it: aliases and catch-alls are left out.
    documented: bool = True
