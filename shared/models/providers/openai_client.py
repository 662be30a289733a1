"""Clients of the openai package, imported off the event loop; its errors are translated here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared.errors import TransientError, Unavailable
from shared.models.circuit import Kind
from shared.models.outbound import error_of_status, observed_call
from shared.models.types import Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_CONNECT_TIMEOUT_S: Final = 5.0


async def connect(endpoint: Endpoint) -> AsyncOpenAI:
    """Return a client that never retries, since exactly one layer above it does.

    It is created in a thread: the import takes half a second and reads certificates.
    """
    return await asyncio.to_thread(_client, endpoint)


def is_official(base_url: str | None) -> bool:
    return base_url is None or urlsplit(base_url).hostname == "api.openai.com"


@asynccontextmanager
async def observed_openai_call(kind: Kind, model: str, timeout_s: float) -> AsyncIterator[None]:
    """`observed_call` for a call of an `AsyncOpenAI`, whose exceptions become ours."""
    import openai

    async with observed_call(kind, model, timeout_s):
        try:
            yield
        except openai.APIStatusError as error:
            headers = error.response.headers
            raise error_of_status(kind, error.status_code, error.body, headers) from error
        except openai.APITimeoutError as error:
            raise Unavailable(kind, f"{model} did not answer in time") from error
        except openai.APIResponseValidationError as error:
            raise TransientError(
                f"{kind}: the answer has another shape than the API documents"
            ) from error
        except openai.APIError as error:
            reason = type(error.__cause__ or error).__name__
            raise Unavailable(kind, f"{model} cannot be reached ({reason})") from error


def _client(endpoint: Endpoint) -> AsyncOpenAI:
    from openai import AsyncOpenAI, Timeout

    # httpx logs each call with its address, whose user part may be a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    limit_s = endpoint.timeout_s
    timeout = Timeout(limit_s, connect=min(_CONNECT_TIMEOUT_S, limit_s))
    # Private servers need no key, but the client requires one.
    key = endpoint.key or "none"
    return AsyncOpenAI(api_key=key, base_url=endpoint.base_url, timeout=timeout, max_retries=0)
