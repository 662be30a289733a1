"""The admin server of every role: /livez, /readyz, /metrics, /version, on its own port."""

from __future__ import annotations

import json
import urllib.request
from functools import partial

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import __version__
from shared.process.health import Check, Health


def make_admin_app(health: Health) -> web.Application:
    async def report(checks: dict[str, Check], _request: web.Request) -> web.Response:
        good, body = health.report(checks)
        return web.json_response({"ok": good, **body}, status=200 if good else 503)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def version(_request: web.Request) -> web.Response:
        return web.json_response({"version": __version__, "role": health.role})

    app = web.Application()
    app.router.add_get("/livez", partial(report, health.alive))
    app.router.add_get("/readyz", partial(report, health.ready))
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/version", version)
    return app


async def serve(
    app: web.Application, host: str, port: int, *, grace_s: float, line_bytes: int = 8190
) -> web.AppRunner:
    """Start `app`; the caller owns the runner and awaits `cleanup()`, which drains requests.

    `line_bytes`: the longest request line; one that is longer is refused without a handler.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace_s, max_line_size=line_bytes)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024, reuse_address=True).start()
    return runner


def probe_self(port: int) -> int:
    """Return 0 when this role's /readyz answers ok, else 1; the image needs no curl for it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=3) as answer:
            return 0 if json.load(answer)["ok"] else 1
    except (OSError, ValueError, KeyError):
        return 1
