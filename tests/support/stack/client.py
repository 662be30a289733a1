"""The API over HTTP, in its own words: what a test says to a stack."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from tests.support.waiting.conditions import wait_until
from tests.support.waiting.pace import limit_s


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `body` is None where it was not JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]
    text: str = ""
    seconds: float = 0.0


class Served(Protocol):
    """An API: a stack's, whose address may change with a restart, or one of this process."""

    @property
    def url(self) -> str: ...


class Client:
    """HTTP in the words of the API; every verb answers, whatever the status."""

    def __init__(self, api: Served, *, token: str | None = None, tenant: str | None = None) -> None:
        self._api = api
        self._headers = {
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"X-Tenant-Id": tenant} if tenant else {}),
        }
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=limit_s()),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Any request; `path` begins with a slash and is sent as it is."""
        assert self._session is not None
        began = time.monotonic()
        url = URL(self._api.url + path, encoded=True)
        async with self._session.request(method, url, **options) as response:
            raw = await response.read()
            text = raw.decode(errors="replace")
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        return Answer(response.status, body, response.headers, text, time.monotonic() - began)

    async def store(self, content: str, **fields: Any) -> Answer:
        return await self.ask("POST", "/memory", json={"content": content, **fields})

    async def _served(self, method: str, path: str, status: int = 200, **options: Any) -> Answer:
        """An answer with this status; 503 is asked again.

        On a busy machine two probes of a store may fail in a row, and then the API answers 503
        although the store is up. A write that is repeated is recognised by the product.
        """
        last: list[Answer] = []

        async def served() -> bool:
            last[:] = [await self.ask(method, path, **options)]
            return last[0].status != 503

        await wait_until(served, f"{method} {path} is served")
        assert last[0].status == status, last
        return last[0]

    async def stored(self, content: str, **fields: Any) -> str:
        """The id of a memory that was acknowledged."""
        body = {"content": content, **fields}
        answer = await self._served("POST", "/memory", 201, json=body)
        return str(answer.body["memory_id"])

    async def get(self, memory_id: str) -> Answer:
        return await self.ask("GET", f"/memory/{memory_id}")

    async def memory(self, memory_id: str) -> dict[str, Any]:
        answer = await self._served("GET", f"/memory/{memory_id}")
        return dict(answer.body["memory"])

    async def patch(self, memory_id: str, **fields: Any) -> Answer:
        return await self.ask("PATCH", f"/memory/{memory_id}", json=fields)

    async def delete(self, memory_id: str) -> Answer:
        return await self.ask("DELETE", f"/memory/{memory_id}")

    async def recall(self, query: str = "", **params: Any) -> Answer:
        return await self.ask("GET", _recall(query, params))

    async def recalled(self, query: str = "", **params: Any) -> list[str]:
        """The ids found, best first."""
        answer = await self._served("GET", _recall(query, params))
        return [row["id"] for row in answer.body["results"]]

    async def health(self) -> dict[str, Any]:
        answer = await self.ask("GET", "/health")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def store_all(
        self, contents: Sequence[str], *, connections: int = 16, persistent: bool = False
    ) -> list[str]:
        """Ids of those acknowledged; `persistent`: a refused one is sent again until it is."""
        waiting, ids = list(reversed(contents)), list[str]()

        async def worker() -> None:
            while waiting:
                content = waiting.pop()
                if (answer := await self._store_once(content, persistent)) is None:
                    waiting.append(content)
                    await asyncio.sleep(0.05)
                else:
                    ids.append(answer)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(worker())
        return ids

    async def _store_once(self, content: str, persistent: bool) -> str | None:
        if not persistent:
            return await self.stored(content)
        try:
            answer = await self.store(content)
        except (aiohttp.ClientError, OSError, IndexError):
            return None
        return str(answer.body["memory_id"]) if answer.status == 201 else None


def _recall(query: str, params: Mapping[str, Any]) -> str:
    given = {name: value for name, value in params.items() if value is not None}
    return f"/recall?{urlencode({'query': query, **given}, doseq=True)}"


def refused(answer: Answer, status: int) -> str:
    """The reason of an error answer, whose body has the one shape of all errors."""
    assert answer.status == status, answer
    body = answer.body
    assert body["status"] == "error"
    assert body["code"] == status
    assert body["error"] == body["message"] == body["detail"] != ""
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return str(body["error"])
