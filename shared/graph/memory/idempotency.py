"""Idempotency keys of requests whose effect may be repeated, but not answered twice.

A key that comes with new memories is written in their own query (`memories.create`). Here a
key is taken first and answered after the effect: where the process ends in between, the
request that comes again has its effect once more.
"""

from __future__ import annotations

from shared.graph.engine.client import Row
from shared.graph.engine.part import StorePart
from shared.graph.engine.schema import GUARD
from shared.graph.records import Idem

IDEM_COLUMNS = "i.key, i.body_hash, i.ids, i.answer, i.created_at"
_TAKE = (
    f"{GUARD} MERGE (i:Idem {{key: $key}})"
    " ON CREATE SET i.body_hash = $body_hash, i.ids = [], i.answer = '', i.created_at = $now"
    f" RETURN {IDEM_COLUMNS}"
)


class Keys(StorePart):
    """`store.keys`; every method is one query."""

    async def take(self, tenant: str, key: str, body_hash: str) -> Idem:
        """Return the request of the key: this one, not answered yet, if the key was free."""
        await self._schema.ensure(tenant)
        rows = await self._write(tenant, "take_key", _TAKE, key=key, body_hash=body_hash)
        if not rows:  # The graph was flushed meanwhile, and with it every key.
            self._schema.forget(tenant)
            return Idem(key, body_hash, (), "")
        return idem_of(rows[0])

    async def answer(self, tenant: str, key: str, answer: str) -> None:
        """Keep what the request under the key was answered; without a key nothing happens."""
        query = "MATCH (i:Idem {key: $key}) SET i.answer = $answer"
        await self._write(tenant, "answer_key", query, key=key, answer=answer)


def idem_of(row: Row) -> Idem:
    """The Idem of a row of IDEM_COLUMNS."""
    ids = tuple(row["ids"] or ())
    return Idem(row["key"], row["body_hash"], ids, row["answer"] or "", row["created_at"])
