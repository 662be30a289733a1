"""/openapi.json and /docs: the document of the route table, and Swagger UI to browse it.

Everything the page loads comes from an installed package; it reaches no other host, which
its Content-Security-Policy makes the browser enforce.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from aiohttp import web

from services.api.http.route import Route
from shared.errors import NotFound

DOCUMENT: web.AppKey[str] = web.AppKey("openapi_document", str)
# What the page loads of the package's files, and their types.
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_START = """\
window.onload = () => SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null,
});
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Eunoe API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Swagger UI sets style attributes; scripts come from files alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;"
    " frame-ancestors 'none'",
}


async def document(request: web.Request) -> web.Response:
    return web.Response(text=request.app[DOCUMENT], content_type="application/json")


async def page(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)


async def asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["asset"]
    if name == "start.js":
        return web.Response(text=_START, content_type="text/javascript", headers=_HEADERS)
    if name not in _ASSETS:
        raise NotFound("Not Found")
    kept = {"Content-Type": _ASSETS[name], "Cache-Control": "public, max-age=86400"}
    return web.FileResponse(_folder() / name, headers=_HEADERS | kept)


@cache
def _folder() -> Path:
    return Path(import_module("swagger_ui_bundle").swagger_ui_path)


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/openapi.json",
        document,
        "This document",
        scope="open",
        answers={200: "OpenAPI 3.1"},
        group="operations",
    ),
    Route(
        "GET",
        "/docs",
        page,
        "This document as a page",
        scope="open",
        answers={200: "HTML"},
        media_type="text/html",
        group="operations",
    ),
    Route("GET", "/docs/{asset}", asset, "What the page loads", scope="open", documented=False),
)
