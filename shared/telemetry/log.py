"""Structured logs: one event per line, fields instead of prose, never memory content.

Events are `noun.verb_past` constants; JSON where stdout is no terminal.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import structlog
from structlog import contextvars, processors, stdlib

# Libraries that log request bodies, URLs with keys or prompts at INFO and below.
_QUIET = (
    *("httpx", "httpcore", "httpx2", "httpcore2"),
    *("openai", "qdrant_client", "asyncio", "aiohttp.access"),
)


def configure(level: str, *, role: str) -> None:
    """Route structlog and the standard library through one renderer to stdout."""
    shared: list[Any] = [
        contextvars.merge_contextvars,
        processors.add_log_level,
        processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Any] = [
        stdlib.ProcessorFormatter.remove_processors_meta,
        processors.format_exc_info,
        structlog.dev.ConsoleRenderer() if sys.stdout.isatty() else processors.JSONRenderer(),
    ]
    handler = logging.StreamHandler(sys.stdout)
    formatter = stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its errors are malformed requests, quoted; the middleware logs the product's own errors.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    contextvars.bind_contextvars(role=role)


def get_logger(name: str) -> Any:
    return structlog.get_logger(name)


def frames_of(error: BaseException) -> list[str]:
    """Return the last eight places of the traceback; unlike its text they quote no memory."""
    stack = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in stack]
