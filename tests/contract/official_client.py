"""What AutoMem's official client does on the wire, call by call.

Written from observation, to be replayed: its URLs, headers, parameter forms, the fields it
reads, and its blind retries. Where it would show an error, `ClientError` is raised.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

TIMEOUT_S = 25.0
RETRY_AFTER_S = (0.5, 1.0, 2.0)
_STORED_KEYS = (
    *("content", "tags", "importance", "embedding", "metadata", "timestamp", "type"),
    *("confidence", "id", "t_valid", "t_invalid", "updated_at", "last_accessed"),
)
_BATCH_KEYS = ("content", "tags", "importance", "metadata", "timestamp", "type", "confidence")


TEXT, NUMBER = (str,), (int, float)
# What the client's output schema demands: of a memory, and of its calls' answers.
MEMORY: Mapping[str, tuple[type, ...]] = {
    "id": TEXT,
    "content": TEXT,
    "tags": (list,),
    "importance": NUMBER,
    "timestamp": TEXT,
    "updated_at": TEXT,
    "metadata": (dict,),
    "type": TEXT,
    "confidence": NUMBER,
    "last_accessed": TEXT,
}
BATCH: Mapping[str, tuple[type, ...]] = {
    "memory_ids": (list,),
    "stored": (int,),
    "qdrant": TEXT,
    "enrichment": TEXT,
    "query_time_ms": NUMBER,
}
MANY_ASSOCIATED: Mapping[str, tuple[type, ...]] = {
    "status": TEXT,
    "created_count": (int,),
    "failed_count": (int,),
    "succeeded": (list,),
    "failed": (list,),
    "summary": TEXT,
}
HEALTH: Mapping[str, tuple[type, ...]] = {
    "status": TEXT,
    "falkordb": TEXT,
    "qdrant": TEXT,
    "graph": TEXT,
    "timestamp": TEXT,
    "memory_count": (int,),
    "sync_status": TEXT,
    "vector_dimensions": (dict,),
    "enrichment": (dict,),
}


def assert_shape(found: Mapping[str, Any], shape: Mapping[str, tuple[type, ...]]) -> None:
    wrong = {
        name: found.get(name, "absent")
        for name, types in shape.items()
        if not isinstance(found.get(name), types) or isinstance(found.get(name), bool)
    }
    assert not wrong


class ClientError(Exception):
    """What the client tells its user; `status` is 0 where no answer came."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class OfficialClient:
    """The client's methods; `attempts` counts what was sent, repeats included."""

    endpoint: str
    api_key: str | None = None
    attempts: int = 0

    async def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Three retries on lost connections, timeouts and 5xx, whatever the method."""
        for wait_s in (*RETRY_AFTER_S, None):
            self.attempts += 1
            try:
                status, text = await self._send(method, path, body)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if wait_s is None:
                    raise ClientError(str(error)) from error
            else:
                if status < 500 or wait_s is None:
                    return _read(status, text)
            await asyncio.sleep(wait_s)
        raise AssertionError

    async def _send(self, method: str, path: str, body: object) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url = URL(f"{self.endpoint.removesuffix('/')}/{path}", encoded=True)
        raw = None if body is None else json.dumps(body)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, data=raw, headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    async def health(self) -> dict[str, Any]:
        found = await self.request("GET", "health")
        if found["status"] not in ("healthy", "degraded"):
            raise ClientError(f"unexpected health status {found['status']}")
        return found

    async def store(self, memory: Mapping[str, Any]) -> dict[str, Any]:
        body = {key: memory[key] for key in _STORED_KEYS if key in memory}
        found = await self.request("POST", "memory", {"tags": [], **body})
        return {"memory_id": found.get("memory_id") or found["id"], "message": found.get("message")}

    async def store_batch(self, memories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        rows = [{key: each[key] for key in _BATCH_KEYS if key in each} for each in memories]
        return await self.request("POST", "memory/batch", {"memories": rows})

    async def supersede(
        self, old_id: str, memory: Mapping[str, Any], *, relation: str, reason: str
    ) -> str:
        """Store what replaces `old_id`, mark that one, relate the two; the new id."""
        old = (await self.request("GET", f"memory/{quote(old_id)}"))["memory"]
        new_id = str((await self.store(memory))["memory_id"])
        marked = {
            **(old["metadata"] or {}),
            "deprecated": True,
            "superseded_by": new_id,
            "supersede_relation": relation,
            "supersede_reason": reason,
        }
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        try:
            await self.update(old_id, {"t_invalid": now, "metadata": marked})
        except ClientError:
            await self.delete(new_id)
            raise
        await self.associate(
            {"memory1_id": old_id, "memory2_id": new_id, "type": relation, "strength": 0.9}
        )
        return new_id

    async def recall_by_id(self, memory_id: str) -> dict[str, Any] | None:
        """None where there is none: a 404 is an empty result."""
        try:
            found = await self.request("GET", f"memory/{quote(memory_id)}")
        except ClientError as error:
            if error.status == 404:
                return None
            raise
        return dict(found["memory"])

    async def recall_all(self, tags: Sequence[str], *, page: int = 200) -> list[dict[str, Any]]:
        """The exhaustive recall: page after page while there is more."""
        found: list[dict[str, Any]] = []
        while True:
            query = urlencode(
                [*(("tags", tag) for tag in tags), ("limit", page), ("offset", len(found))]
            )
            answer = await self.request("GET", f"memory/by-tag?{query}")
            found += answer["memories"]
            if not answer["has_more"]:
                return found

    async def recall_ranked(self, **params: Any) -> dict[str, Any]:
        """Arrays repeat their name, an embedding is joined, booleans are true and false."""
        pairs: list[tuple[str, str]] = []
        for name, value in params.items():
            if name == "embedding":
                pairs.append((name, ",".join(map(str, value))))
            elif isinstance(value, list):
                pairs += [(name, str(each)) for each in value]
            else:
                pairs.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
        return await self.request("GET", f"recall?{urlencode(pairs)}")

    async def associate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        found = await self.request("POST", "associate", body)
        if "associations" not in body:
            return {"success": True, "message": found.get("message") or found.get("summary")}
        failed = found["failed_count"] > 0 or found["status"] == "partial_success"
        return {**found, "success": not failed}

    async def update(self, memory_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return await self.request("PATCH", f"memory/{quote(memory_id)}", dict(fields))

    async def delete(self, memory_id: str) -> dict[str, Any]:
        return await self.request("DELETE", f"memory/{quote(memory_id)}")

    async def delete_by_tag(self, tags: Sequence[str]) -> dict[str, Any]:
        query = urlencode([("tags", tag) for tag in tags])
        return await self.request("DELETE", f"memory/by-tag?{query}")


def _read(status: int, text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ClientError("Invalid JSON response", status) from error
    if not 200 <= status < 300:
        raise ClientError(body.get("message") or body.get("detail") or f"HTTP {status}", status)
    assert isinstance(body, dict)
    return body
