"""/openapi.json and /docs: the document of the route table, and Swagger UI to browse it.

Everything that the page loads comes from an installed package; its Content-Security-Policy
forbids the browser to reach another host.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from aiohttp import web

from services.api.http.route import Routes
from shared.errors import NotFound

DOCUMENT: web.AppKey[str] = web.AppKey("openapi_document", str)
# The files of the package that the page loads, and their types.
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_PAGE = Path(__file__).with_suffix(".html").read_text("utf-8")
_START = Path(__file__).with_suffix(".js").read_text("utf-8")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Swagger UI sets style attributes; scripts come from files alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:;"
    " frame-ancestors 'none'",
}
ROUTES = Routes(scope="open", group="operations")


@ROUTES.add("GET", "/openapi.json", "This document", answers={200: "OpenAPI 3.1"})
async def document(request: web.Request) -> web.Response:
    return web.Response(text=request.app[DOCUMENT], content_type="application/json")


@ROUTES.add(
    "GET", "/docs", "This document as a page", answers={200: "HTML"}, media_type="text/html"
)
async def page(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)


@ROUTES.add("GET", "/docs/{asset}", "A file that the page loads", documented=False)
async def asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["asset"]
    if name == "start.js":
        return web.Response(text=_START, content_type="text/javascript", headers=_HEADERS)
    if name not in _ASSETS:
        raise NotFound("Not Found")
    folder = import_module("swagger_ui_bundle").swagger_ui_path
    headers = {"Content-Type": _ASSETS[name], "Cache-Control": "public, max-age=86400"}
    return web.FileResponse(Path(folder) / name, headers=_HEADERS | headers)
