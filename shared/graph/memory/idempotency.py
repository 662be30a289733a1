"""Idempotency keys of requests whose effect may be repeated, but not answered twice.

A key that comes with new memories is written in their own query (`memories.create`). Here a
key is taken first and answered after the effect: who died in between does it once more.
"""

from __future__ import annotations

from shared.domain.memory import now_ms
from shared.graph.engine.client import GraphClient
from shared.graph.engine.schema import GUARD, Schema
from shared.graph.records import Idem

_TAKE = (
    f"{GUARD} MERGE (i:Idem {{key: $key}})"
    " ON CREATE SET i.body_hash = $body_hash, i.ids = [], i.answer = '', i.created_at = $now"
    " RETURN i.key, i.body_hash, i.ids, i.answer, i.created_at"
)


class Keys:
    """`store.keys`; every method is one tenant's and one query."""

    def __init__(self, client: GraphClient, schema: Schema) -> None:
        self._client = client
        self._schema = schema

    async def take(self, tenant: str, key: str, body_hash: str) -> Idem:
        """What stands under the key: this request, not answered yet, if nothing stood there."""
        await self._schema.ensure(tenant)
        answer = await self._client.write(
            tenant, "take_key", _TAKE, key=key, body_hash=body_hash, now=now_ms()
        )
        if not answer.rows:  # the graph was flushed behind our back: nothing stands there
            self._schema.forget(tenant)
            return Idem(key, body_hash, (), "")
        row = answer.rows[0]
        return Idem(row[0], row[1], tuple(row[2] or ()), row[3] or "", row[4])

    async def answer(self, tenant: str, key: str, answer: str) -> None:
        """Keep what the request under the key was answered; without a key nothing happens."""
        await self._client.write(
            tenant,
            "answer_key",
            "MATCH (i:Idem {key: $key}) SET i.answer = $answer",
            key=key,
            answer=answer,
        )
