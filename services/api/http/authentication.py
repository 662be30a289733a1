"""Checks of the tokens of a request: the API token, its scope, and the admin token.

`authenticate` checks the API token of every request, except on routes that are open or take
the admin token alone. `guarded` checks the token's scope, and on an admin route the admin token
too. Every admin call is logged once: the route, the address, the first digits of the token's
digest, and the outcome.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from aiohttp import web

from services.api.http.middleware import ACCESS, TENANT
from services.api.http.route import Handler, Route
from services.api.http.tenancy import Tokens, digest_of
from shared.domain.tenant import DEFAULT_TENANT, check_tenant
from shared.errors import EunoeError
from shared.telemetry import log

_ADMIN_SCOPES = ("admin", "admin_only")
_DIGEST_CHARS = 8
_log = log.get_logger(__name__)
_routes: WeakKeyDictionary[Handler, Route] = WeakKeyDictionary()


def guarded(route: Route, tokens: Tokens) -> Handler:
    """Return the route's handler, which runs only where the tokens grant its scope."""

    async def scoped(request: web.Request) -> web.StreamResponse:
        if route.scope != "open":
            request[ACCESS].demand(route.scope)
        return await route.handler(request)

    async def admin(request: web.Request) -> web.StreamResponse:
        outcome = "refused"
        try:
            tokens.demand_admin(admin_token_of(request))
            outcome = "failed"
            if route.scope == "admin_only":
                request[TENANT] = named_tenant(request)
            response = await route.handler(request)
            outcome = str(response.status)
            return response
        finally:
            _audit(route, request, outcome)

    handler = admin if route.scope in _ADMIN_SCOPES else scoped
    _routes[handler] = route
    return handler


def authenticate(request: web.Request, tokens: Tokens) -> None:
    """Put the access and tenant of the API token on the request where its route needs one.

    Unknown paths need a token too: 401 comes before 404. Raises: Unauthorized, Forbidden.
    """
    route = _routes.get(request.match_info.handler)
    if route is not None and route.scope in ("open", "admin_only"):
        return
    try:
        identify(request, tokens)
    except EunoeError:
        if route is not None and route.scope in _ADMIN_SCOPES:
            _audit(route, request, "refused")
        raise


def identify(request: web.Request, tokens: Tokens) -> None:
    """Put the request's access and tenant on it. Raises: Unauthorized, Forbidden."""
    access = tokens.authenticate(token_of(request))
    request[ACCESS] = access
    request[TENANT] = access.tenant(request.headers.get("X-Tenant-Id"))


def token_of(request: web.Request) -> str | None:
    """Return the token of Bearer, X-API-Key or ?api_key=, the first of them that is sent."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return request.headers.get("X-API-Key") or request.query.get("api_key")


def admin_token_of(request: web.Request) -> str | None:
    header = request.headers.get("X-Admin-Token") or request.headers.get("X-Admin-Api-Key")
    return header or request.query.get("admin_token")


def named_tenant(request: web.Request) -> str:
    """Return the tenant, any one, that an admin names, else the default. Raises: InvalidInput."""
    named = request.headers.get("X-Tenant-Id") or request.query.get("tenant")
    return check_tenant(named) if named else DEFAULT_TENANT


def _audit(route: Route, request: web.Request, outcome: str) -> None:
    token = admin_token_of(request)
    _log.info(
        "admin.called",
        action=f"{route.method} {route.path}",
        address=request.remote,
        token=digest_of(token)[:_DIGEST_CHARS] if token else None,
        tenant=request.get(TENANT),
        outcome=outcome,
    )
