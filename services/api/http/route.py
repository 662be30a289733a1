"""Route: a row of the table from which the app and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel

from services.api.http.answers import Answer
from services.api.http.parameters import Param

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Handler = TypeVar("_Handler", bound=Handler)
# open: no token; admin: the API token and the admin token; admin_only: the admin token alone.
Scope = Literal["open", "read", "write", "admin", "admin_only"]


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `answers`: status → its meaning, beside those that all routes share."""

    method: str
    path: str
    handler: Handler
    summary: str
    scope: Scope = "read"
    body: type[BaseModel] | None = None
    query: tuple[Param[Any], ...] = ()
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "Success"})
    group: str = "memory"
    media_type: str = "application/json"
    headers: tuple[Param[Any], ...] = ()
    # The body of a success; None where it may be any object.
    returns: type[Answer] | UnionType | None = None
    # Whether a client may send an Idempotency-Key.
    repeatable: bool = False
    # Whether the OpenAPI document names it; aliases and catch-alls are left out.
    documented: bool = True


class Routes(list[Route]):
    """The routes of one file, in the order of their handlers; `columns` hold for all of them."""

    def __init__(self, **columns: Any) -> None:
        super().__init__()
        self._columns = columns

    def add(
        self, method: str, path: str, summary: str, **columns: Any
    ) -> Callable[[_Handler], _Handler]:
        """Add the decorated handler; `columns` are the other fields of Route."""

        def decorate(handler: _Handler) -> _Handler:
            self.append(Route(method, path, handler, summary, **self._columns | columns))
            return handler

        return decorate
