"""/memory/by-tag: exact tags whatever their case, listed in pages, deleted with their points."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.support.stack.api_process import ApiProcess
from tests.support.waiting.conditions import wait_until


async def batch(api: ApiProcess, rows: list[dict[str, Any]]) -> list[str]:
    answer = await api.ask("POST", "/memory/batch", json={"memories": rows})
    assert answer.status == 201, answer
    return list(answer.body["memory_ids"])


async def jobs(api: ApiProcess, stage: str) -> str:
    async with Redis.from_url(api.redis_url, decode_responses=True) as redis:
        return str(await redis.xrange(f"{api.prefix}:{{{stage}}}:jobs"))


async def test_tags_match_whole_whatever_their_case(api: ApiProcess) -> None:
    tag = f"Topic:{uuid4()}"
    await api.stored("In", tags=[tag])
    await api.stored("Out", tags=[f"{tag}:part"])
    for given in (tag, tag.lower(), tag.upper()):
        found = await api.ask("GET", f"/memory/by-tag?tags={given}")
        assert [memory["content"] for memory in found.body["memories"]] == ["In"]
        assert found.body["tags"] == [given]


async def test_any_of_the_tags_is_enough_and_counts_once(api: ApiProcess) -> None:
    one, other = f"one-{uuid4()}", f"other-{uuid4()}"
    await batch(
        api,
        [
            {"content": "a", "tags": [one], "importance": 0.1},
            {"content": "b", "tags": [other], "importance": 0.2},
            {"content": "c", "tags": [one, other], "importance": 0.3},
        ],
    )
    found = await api.ask("GET", f"/memory/by-tag?tags={one}&tags={other}")
    assert [memory["content"] for memory in found.body["memories"]] == ["c", "b", "a"]


async def test_a_comma_joined_value_is_one_tag(api: ApiProcess) -> None:
    one, other = f"one-{uuid4()}", f"other-{uuid4()}"
    await api.stored("Apart", tags=[one, other])
    await api.stored("Joined", tags=[f"{one},{other}"])
    found = await api.ask("GET", f"/memory/by-tag?tags={one},{other}")
    assert [memory["content"] for memory in found.body["memories"]] == ["Joined"]


@pytest.mark.parametrize("query", ["", "?tags=", "?tags=%20"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_tags_it_is_refused(api: ApiProcess, method: str, query: str) -> None:
    answer = await api.ask(method, f"/memory/by-tag{query}")
    assert answer.status == 400
    assert answer.body["message"] == "'tags' query parameter is required"


@pytest.mark.parametrize(
    ("query", "limit", "offset"),
    [("", 20, 0), ("&limit=0", 1, 0), ("&limit=9999", 200, 0), ("&offset=-5", 20, 0)],
)
async def test_pages_are_clamped(api: ApiProcess, query: str, limit: int, offset: int) -> None:
    found = await api.ask("GET", f"/memory/by-tag?tags=nobody{query}")
    assert (found.body["limit"], found.body["offset"]) == (limit, offset)
    assert found.body["memories"] == []
    assert found.body["has_more"] is False


@pytest.mark.parametrize("query", ["limit=many", "offset=1.5"])
async def test_what_is_no_number_is_refused(api: ApiProcess, query: str) -> None:
    assert (await api.ask("GET", f"/memory/by-tag?tags=a&{query}")).status == 400


async def test_listing_is_an_access(api: ApiProcess) -> None:
    """The new access time reaches every reader, because it is stored in one place."""
    tag = f"read-{uuid4()}"
    await api.stored("Read me", tags=[tag], last_accessed="2020-01-01T00:00:00Z")
    await api.ask("GET", f"/memory/by-tag?tags={tag}")

    async def bumped() -> bool:
        found = await api.ask("GET", f"/memory/by-tag?tags={tag}")
        return bool(found.body["memories"][0]["last_accessed"] > "2021")

    await wait_until(bumped, "last_accessed has moved")


async def test_deleting_takes_the_points_along(api: ApiProcess) -> None:
    """An orphan vector would be recalled for ever: each deletion is announced (7.2, 5)."""
    tag = f"Gone-{uuid4()}"
    ids = await batch(api, [{"content": f"Row {at}", "tags": [tag]} for at in range(450)])
    kept = await api.stored("Kept", tags=[f"{tag}-not"])
    async with Redis.from_url(api.redis_url) as redis:
        await redis.delete(f"{api.prefix}:{{embed}}:jobs", f"{api.prefix}:{{embed}}:at")

    answer = await api.ask("DELETE", f"/memory/by-tag?tags={tag.lower()}")

    assert answer.status == 200
    assert answer.body == {"status": "success", "tags": [tag.lower()], "deleted_count": 450}
    announced = await jobs(api, "embed")
    assert all(memory_id in announced for memory_id in ids)
    assert kept not in announced
    assert (await api.ask("GET", f"/memory/{kept}")).status == 200
    assert (await api.ask("DELETE", f"/memory/by-tag?tags={tag}")).body["deleted_count"] == 0


async def test_who_followed_in_the_session_is_embedded_anew(api: ApiProcess) -> None:
    """A memory's vector holds what was said before it; that must go with the deleted ones."""
    tag, session = f"said-{uuid4()}", str(uuid4())
    rows: list[dict[str, Any]] = [
        {"content": f"Turn {at}", "session_id": session, "timestamp": f"2024-01-01T00:00:0{at}Z"}
        for at in range(5)
    ]
    for row in rows[:2]:
        row["tags"] = [tag]
    ids = await batch(api, rows)
    async with Redis.from_url(api.redis_url) as redis:
        await redis.delete(f"{api.prefix}:{{embed}}:jobs", f"{api.prefix}:{{embed}}:at")

    await api.ask("DELETE", f"/memory/by-tag?tags={tag}")

    announced = await jobs(api, "embed")
    assert [memory_id in announced for memory_id in ids] == [True, True, True, True, False]
