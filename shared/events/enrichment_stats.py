"""What GET /enrichment/status tells beyond the queues: counters that outlive the processes.

One Redis hash per tenant (an id or an error of one tenant is nobody else's to read), which
every enricher adds to, once per batch. It expires when nothing was added for a month, and
losing it loses numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from shared.domain.memory import iso, now_ms
from shared.errors import EunoeError
from shared.redis.client import RedisClients, translated

TTL_S = 30 * 86_400
_ERROR_CHARS = 300
_COUNTS = ("successes", "failures")
_CLASSIFIED = ("llm_attempts", "llm_successes", "fallbacks", "pattern_classifications")


@dataclass(slots=True)
class Tally:
    """What one batch came to for one tenant; `last_*` are empty where there was none.

    Errors name what failed, never what a memory says.
    """

    successes: int = 0
    failures: int = 0
    last_success_id: str = ""
    last_error: str = ""
    llm_attempts: int = 0
    llm_successes: int = 0
    fallbacks: int = 0
    pattern_classifications: int = 0
    classification_error: str = ""


class EnrichmentStats:
    """The counters of all tenants."""

    def __init__(self, clients: RedisClients) -> None:
        self._redis = clients.command
        self._prefix = clients.prefix

    async def read(self, tenant: str) -> dict[str, Any]:
        """`stats`, `classification` and `spacy_model` (None before the first batch).

        Raises: Unavailable while Redis is down.
        """
        with translated():
            held = cast("dict[str, str]", await self._redis.hgetall(self._key(tenant)))
        counts = {name: int(held.get(name, 0)) for name in (*_COUNTS, *_CLASSIFIED)}
        return {
            "stats": {
                "processed_total": counts["successes"] + counts["failures"],
                **{name: counts[name] for name in _COUNTS},
                **_texts(held, "last_success_id", "last_success_at", "last_error", "last_error_at"),
            },
            "classification": {
                **{name: counts[name] for name in _CLASSIFIED},
                "last_error": held.get("classification_error"),
                "last_error_at": held.get("classification_error_at"),
            },
            "spacy_model": held.get("spacy_model"),
        }

    async def add(self, tallies: Mapping[str, Tally], *, spacy_model: str | None = None) -> None:
        """Add one batch, by tenant, in one round trip; never raises for a Redis that fails."""
        if not tallies:
            return
        try:
            with translated():
                # One transaction: no hash ever stays without its time-to-live.
                async with self._redis.pipeline(transaction=True) as pipe:
                    for tenant, tally in tallies.items():
                        key = self._key(tenant)
                        for name in (*_COUNTS, *_CLASSIFIED):
                            if count := getattr(tally, name):
                                pipe.hincrby(key, name, count)
                        if told := _told(tally, spacy_model):
                            pipe.hset(key, mapping=cast("dict[Any, Any]", told))
                        pipe.expire(key, TTL_S)
                    await pipe.execute()
        except EunoeError:
            return

    def _key(self, tenant: str) -> str:
        return f"{self._prefix}:enrichment:stats:{tenant}"


def _texts(held: Mapping[str, str], *names: str) -> dict[str, str | None]:
    return {name: held.get(name) for name in names}


def _told(tally: Tally, spacy_model: str | None) -> dict[str, str]:
    """What is kept of the last success and of the last errors, each with its time."""
    at = iso(now_ms()) or ""
    told = {"spacy_model": spacy_model} if spacy_model else {}
    if tally.last_success_id:
        told |= {"last_success_id": tally.last_success_id, "last_success_at": at}
    if tally.last_error:
        told |= {"last_error": tally.last_error[:_ERROR_CHARS], "last_error_at": at}
    if tally.classification_error:
        error = tally.classification_error[:_ERROR_CHARS]
        told |= {"classification_error": error, "classification_error_at": at}
    return told
