"""Run the server: `python -m shared.embedded.qdrant_server --port P --data DIR`.

Logs go to standard error; the line `listening on http://HOST:PORT` appears once
requests are served, with the port that was chosen for `--port 0`. SIGTERM and
SIGINT finish the requests in flight, flush, and exit with 0.
"""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web

from .errors import ServerError
from .optimizer import Optimizer
from .registry import Registry, UnreadableCollection, locked
from .routes import new_application

log = logging.getLogger(__name__)

_FLUSH_TICK_S = 0.5
_SHUTDOWN_TIMEOUT_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="qdrant_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6333, help="0 picks a free port")
    parser.add_argument("--data", type=Path, required=True, help="folder of all collections")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        with locked(options.data):
            asyncio.run(serve(options.host, options.port, options.data))
    except BlockingIOError:
        sys.exit(f"{options.data} is in use by another server")
    except UnreadableCollection as error:
        sys.exit(str(error))


async def serve(host: str, port: int, folder: Path) -> None:
    """Serve until SIGTERM or SIGINT; everything is flushed when it returns."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    registry = Registry(folder)
    registry.open()
    runner = web.AppRunner(
        new_application(registry), access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    log.info("listening on http://%s:%d", host, runner.addresses[0][1])
    try:
        await _maintain(registry, stopping)
    finally:
        await runner.cleanup()
        registry.close()
        log.info("stopped")


async def _maintain(registry: Registry, stopping: asyncio.Event) -> None:
    """Flush and optimise until `stopping` is set; an unexpected error ends the server."""
    async with asyncio.TaskGroup() as group:
        upkeep = [
            group.create_task(_flush(registry), name="flush"),
            group.create_task(Optimizer(registry).run(), name="optimize"),
        ]
        await stopping.wait()
        for task in upkeep:
            task.cancel()


async def _flush(registry: Registry) -> None:
    while True:
        await asyncio.sleep(_FLUSH_TICK_S)
        for collection in registry.collections:
            try:
                collection.flush_if_due()
            except ServerError as error:
                log.warning("flushing %s failed: %s", collection.name, error)


if __name__ == "__main__":
    main()
