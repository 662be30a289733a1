"""Counters of the enrichers that outlive their processes, for GET /enrichment/status.

There is one Redis hash per tenant, since no tenant may read an id or an error of another. Every
enricher adds to it once per batch. It expires a month after the last batch; losing it loses
numbers only.
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
_LATEST = ("last_success_id", "last_success_at", "last_error", "last_error_at")
_CLASSIFIED = ("llm_attempts", "llm_successes", "fallbacks", "pattern_classifications")


@dataclass(slots=True)
class Tally:
    """The result of one batch for one tenant; `last_*` are empty where there was none.

    Errors name what failed and never quote a memory.
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
        """Return `stats`, `classification` and `spacy_model` (None before the first batch).

        Raises: Unavailable while Redis is down.
        """
        with translated():
            stored = cast("dict[str, str]", await self._redis.hgetall(self._key(tenant)))
        counts = {name: int(stored.get(name, 0)) for name in (*_COUNTS, *_CLASSIFIED)}
        return {
            "stats": {
                "processed_total": counts["successes"] + counts["failures"],
                **{name: counts[name] for name in _COUNTS},
                **{name: stored.get(name) for name in _LATEST},
            },
            "classification": {
                **{name: counts[name] for name in _CLASSIFIED},
                "last_error": stored.get("classification_error"),
                "last_error_at": stored.get("classification_error_at"),
            },
            "spacy_model": stored.get("spacy_model"),
        }

    async def add(self, tallies: Mapping[str, Tally], *, spacy_model: str | None = None) -> None:
        """Add one batch, by tenant, in one round trip; nothing is added while Redis is down."""
        if not tallies:
            return
        try:
            with translated():
                # One transaction: a hash always has a time-to-live.
                async with self._redis.pipeline(transaction=True) as pipe:
                    for tenant, tally in tallies.items():
                        key = self._key(tenant)
                        for name in (*_COUNTS, *_CLASSIFIED):
                            if count := getattr(tally, name):
                                pipe.hincrby(key, name, count)
                        if latest := _latest(tally, spacy_model):
                            pipe.hset(key, mapping=cast("dict[Any, Any]", latest))
                        pipe.expire(key, TTL_S)
                    await pipe.execute()
        except EunoeError:
            return

    def _key(self, tenant: str) -> str:
        return f"{self._prefix}:enrichment:stats:{tenant}"


def _latest(tally: Tally, spacy_model: str | None) -> dict[str, str]:
    """Return the last success and the last errors, each with its time."""
    at = iso(now_ms()) or ""
    latest = {"spacy_model": spacy_model} if spacy_model else {}
    if tally.last_success_id:
        latest |= {"last_success_id": tally.last_success_id, "last_success_at": at}
    for name in ("last_error", "classification_error"):
        if error := getattr(tally, name):
            latest |= {name: error[:_ERROR_CHARS], f"{name}_at": at}
    return latest
