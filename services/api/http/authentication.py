"""Scopes: what a route demands of a request's tokens, enforced around its handler.

The middleware authenticates the API token of every request but those that `needs_api_token`
lets pass. Here the token's scope is demanded, and of an admin route the admin token as well.
Every admin call leaves one line in the log: what was called, from where, by which token (the
first digits of its digest), and how it ended.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

from aiohttp import web

from services.api.http.access import Tokens, digest_of
from services.api.http.middleware import ACCESS, TENANT, admin_token_of
from services.api.http.route import Handler, Route
from shared.domain.tenant import DEFAULT_TENANT, check_tenant
from shared.telemetry import log

_DIGEST_CHARS = 8
_log = log.get_logger(__name__)
# Handlers of routes that need no API token; what is not in here needs one.
_tokenless: WeakSet[Handler] = WeakSet()
_admin_routes: WeakKeyDictionary[Handler, Route] = WeakKeyDictionary()


def guarded(route: Route, tokens: Tokens) -> Handler:
    """The route's handler behind its scope."""
    if route.scope in ("admin", "admin_only"):
        guarding = _admin(route, tokens)
        _admin_routes[guarding] = route
    elif route.scope == "open":
        guarding = _open(route)
    else:
        guarding = _scoped(route)
    if route.scope in ("open", "admin_only"):
        _tokenless.add(guarding)
    return guarding


def needs_api_token(request: web.Request) -> bool:
    """False only for routes that are open or ask for the admin token alone.

    Unknown paths need one too: 401 comes before 404.
    """
    return request.match_info.handler not in _tokenless


def audit_refused(request: web.Request) -> None:
    """The line of an admin call whose API token did not pass: its handler is never reached."""
    if route := _admin_routes.get(request.match_info.handler):
        _audit(route, request, "refused")


def _open(route: Route) -> Handler:
    async def opened(request: web.Request) -> web.StreamResponse:
        return await route.handler(request)

    return opened


def _scoped(route: Route) -> Handler:
    async def scoped(request: web.Request) -> web.StreamResponse:
        request[ACCESS].demand(route.scope)
        return await route.handler(request)

    return scoped


def _admin(route: Route, tokens: Tokens) -> Handler:
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

    return admin


def named_tenant(request: web.Request) -> str:
    """The admin token grants every tenant: the one in X-Tenant-Id or ?tenant=, else the default.

    Raises: InvalidInput for what is no tenant's name.
    """
    named = request.headers.get("X-Tenant-Id") or request.query.get("tenant")
    return check_tenant(named) if named else DEFAULT_TENANT


def _audit(route: Route, request: web.Request, outcome: str) -> None:
    given = admin_token_of(request)
    _log.info(
        "admin.called",
        action=f"{route.method} {route.path}",
        address=request.remote,
        token=digest_of(given)[:_DIGEST_CHARS] if given else None,
        tenant=request.get(TENANT),
        outcome=outcome,
    )
