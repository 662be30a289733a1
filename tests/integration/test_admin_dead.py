"""/admin/dead: each tenant sees, replays and discards its own dead jobs, and nobody else's."""

from __future__ import annotations

import pytest

from services.api.operations import dead_letters
from shared.config import GraphSettings
from shared.domain.memory import NEVER_MS
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.transitions import Published
from tests.support.stack.operating import OTHER, OTHERS_TOKEN, Operations
from tests.support.stores.graphs import TENANT, a_memory, cypher
from tests.support.workers.working import delivered, drained


async def _given_up(admin: Operations, stage: Stage = Stage.ENRICH) -> tuple[Job, str]:
    """A memory whose job is dead and that the relay has marked; the job and its entry."""
    memory = a_memory()
    await admin.graph.memories.create(TENANT, memory)
    job = Job(TENANT, memory.id, memory.version)
    [entry_id] = await admin.dead_lettered(stage, [job])
    assert await admin.graph.work.give_up(TENANT, stage, [(memory.id, memory.version)])
    return job, entry_id


async def test_a_dead_job_is_shown_with_its_reason(admin: Operations) -> None:
    [entry_id] = await admin.dead_lettered(
        Stage.EMBED, [Job(TENANT, "m", 3, run="r", attempt=4)], "exhausted", "refused"
    )
    body = await admin.asks("GET", "/admin/dead?stream=embed")
    [row] = body["dead"]
    assert (row["id"], row["stream"]) == (entry_id, "embed")
    assert (row["memory_id"], row["version"], row["run"]) == ("m", 3, "r")
    assert (row["reason"], row["error"], row["attempts"]) == ("exhausted", "refused", 5)
    assert row["buried_at"].endswith("+00:00")
    assert (body["count"], body["next"]) == (1, None)


async def test_all_stages_come_together_in_pages(admin: Operations) -> None:
    for number in range(3):
        await admin.dead_lettered(Stage.ENRICH, [Job(TENANT, f"e{number}", 1)])
        await admin.dead_lettered(Stage.EMBED, [Job(TENANT, f"m{number}", 1)])
    seen, before = [], ""
    for _ in range(10):
        body = await admin.asks("GET", f"/admin/dead?limit=2{before}")
        seen += [row["memory_id"] for row in body["dead"]]
        if body["next"] is None:
            break
        before = f"&before={body['next']}"
    assert sorted(seen) == ["e0", "e1", "e2", "m0", "m1", "m2"]
    assert (seen[0] in {"e2", "m2"}, seen[-1] in {"e0", "m0"}) == (True, True)


async def test_a_tenant_finds_its_own_among_many_of_others(
    admin: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more entries are looked at than one request may: the next page goes on there."""
    monkeypatch.setattr(dead_letters, "CHUNK", 10)
    monkeypatch.setattr(dead_letters, "_PAGES", 2)
    await admin.dead_lettered(Stage.ENRICH, [Job(TENANT, "mine", 1)])
    await admin.dead_lettered(Stage.ENRICH, [Job(OTHER, f"m{number}", 1) for number in range(45)])
    first = await admin.asks("GET", "/admin/dead?stream=enrich")
    assert first["dead"] == []
    before, found = first["next"], []
    while before:
        body = await admin.asks("GET", f"/admin/dead?stream=enrich&before={before}")
        found += [row["memory_id"] for row in body["dead"]]
        before = body["next"]
    assert found == ["mine"]


async def test_a_replay_makes_the_memory_due_again(
    admin: Operations, settings: GraphSettings
) -> None:
    job, entry_id = await _given_up(admin)
    body = await admin.asks(
        "POST", "/admin/dead/replay", json={"stream": "enrich", "ids": [entry_id, "1-1"]}
    )
    assert (body["replayed"], body["missing"]) == (1, ["1-1"])
    [[due, failed]] = await cypher(
        settings, "MATCH (m:Memory) RETURN m.enrich_due, m.enrich_failed_version"
    )
    assert due < NEVER_MS
    assert not failed
    assert await drained(admin.streams[Stage.ENRICH]) == [job]


async def test_a_replay_of_all_takes_only_the_tenant_s(admin: Operations) -> None:
    await admin.dead_lettered(Stage.ENRICH, [Job(TENANT, "mine", 1), Job(OTHER, "theirs", 1)])
    body = await admin.asks("POST", "/admin/dead/replay", json={"stream": "enrich", "all": True})
    assert (body["replayed"], body["next"]) == (1, None)
    assert [job.memory_id for job in await drained(admin.streams[Stage.ENRICH])] == ["mine"]


async def test_a_discarded_job_stays_given_up(admin: Operations, settings: GraphSettings) -> None:
    """Also where the relay had not seen it dead: it would have published it once more."""
    memory = a_memory()
    await admin.graph.memories.create(TENANT, memory)
    [entry_id] = await admin.dead_lettered(Stage.ENRICH, [Job(TENANT, memory.id, memory.version)])
    body = await admin.asks(
        "POST", "/admin/dead/discard", json={"stream": "enrich", "ids": [entry_id]}
    )
    assert (body["discarded"], body["missing"]) == (1, [])
    [[due]] = await cypher(settings, "MATCH (m:Memory) RETURN m.enrich_due")
    assert due == NEVER_MS
    assert (await admin.asks("GET", "/admin/dead"))["dead"] == []


async def test_a_discarded_run_is_over(admin: Operations) -> None:
    run = await admin.graph.runs.create(TENANT, "drift", {})
    [entry_id] = await admin.dead_lettered(Stage.SYNC, [Job(TENANT, run.id, 0)])
    await admin.asks("POST", "/admin/dead/discard", json={"stream": "sync", "ids": [entry_id]})
    after = await admin.graph.runs.get(TENANT, run.id)
    assert after is not None
    assert after.over


@pytest.mark.parametrize("verb", ["replay", "discard"])
async def test_nobody_moves_another_tenant_s(admin: Operations, verb: str) -> None:
    [entry_id] = await admin.dead_lettered(Stage.ENRICH, [Job(TENANT, "mine", 1)])
    assert (await admin.asks("GET", "/admin/dead", headers=OTHERS_TOKEN))["dead"] == []
    for choice in ({"ids": [entry_id]}, {"all": True}):
        body = await admin.asks(
            "POST",
            f"/admin/dead/{verb}",
            json={"stream": "enrich", **choice},
            headers=OTHERS_TOKEN,
        )
        assert body[f"{verb}ed"] == 0
        assert body["missing"] == choice.get("ids", [])
    assert await admin.streams[Stage.ENRICH].publish([Job(TENANT, "mine", 1)]) == [Published.DEAD]


async def test_what_is_no_job_is_the_default_tenant_s_to_discard(
    admin: Operations, clients: RedisClients
) -> None:
    """Its fields may hold anybody's words: they are not shown."""
    await clients.command.xadd(clients.key("enrich", "jobs"), {"job": "geheimnis"})
    stream = admin.streams[Stage.ENRICH]
    await delivered(stream, "a")
    await stream.hand_back("a")
    assert (await admin.asks("GET", "/admin/dead", headers=OTHERS_TOKEN))["dead"] == []
    body = await admin.asks("GET", "/admin/dead")
    [row] = body["dead"]
    assert (row["memory_id"], row["reason"]) == (None, "malformed")
    assert "geheimnis" not in str(body)
    chosen = {"stream": "enrich", "ids": [row["id"]]}
    assert (await admin.asks("POST", "/admin/dead/replay", json=chosen))["replayed"] == 0
    assert (await admin.asks("POST", "/admin/dead/discard", json=chosen))["discarded"] == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "'stream' must be one of"),
        ({"stream": "nowhere", "all": True}, "'stream' must be one of"),
        ({"stream": "enrich"}, "name the dead jobs in 'ids', or set 'all' to true"),
        ({"stream": "enrich", "ids": ["1-1"], "all": True}, "name the dead jobs in 'ids'"),
        ({"stream": "enrich", "ids": []}, "'ids' must be a list of 1 to 500 ids"),
        ({"stream": "enrich", "ids": ["x"]}, "an id of a dead job looks like"),
        ({"stream": "enrich", "ids": [f"{'9' * 30}-1"]}, "an id of a dead job looks like"),
        ({"stream": "enrich", "all": True, "before": "+"}, "an id of a dead job looks like"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    admin: Operations, body: dict[str, object], reason: str
) -> None:
    answer = await admin.asks("POST", "/admin/dead/replay", 400, json=body)
    assert answer["error"].startswith(reason)


@pytest.mark.parametrize("query", ["stream=x", "before=x", "before=0-0", "limit=x"])
async def test_a_wrong_query_is_refused(admin: Operations, query: str) -> None:
    await admin.asks("GET", f"/admin/dead?{query}", 400)
