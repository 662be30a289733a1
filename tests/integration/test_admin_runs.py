"""/admin/sync, /admin/reembed and /admin/runs: asked for, waited for, looked at, cancelled.

The test plays the syncer: it takes the job of a run and brings the run to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.api.operations.runs import RUNS
from shared.domain.memory import iso
from shared.graph.store import GraphStore
from shared.graph.upkeep.runs import Run, RunState
from shared.redis.client import RedisClients
from shared.streams.job import Job, Stage
from shared.streams.stream import Stream
from shared.streams.transitions import Done, Settlement
from tests.support.stack.in_process import ADMIN_TOKEN, API, probes
from tests.support.stack.operating import OTHERS_TOKEN, Operations, operated
from tests.support.stores.graphs import TENANT
from tests.support.waiting.conditions import wait_until
from tests.support.workers.working import drained


async def _taken(admin: Operations) -> Run:
    """The run whose job waits, begun; the job is settled."""
    stream, jobs = admin.streams[Stage.SYNC], list[Job]()

    async def came() -> bool:
        held = await stream.read("syncer", 1)
        await stream.settle("syncer", [Settlement(each, Done()) for each in held])
        jobs.extend(each.job for each in held)
        return bool(jobs)

    await wait_until(came, "a run is announced")
    run = await admin.graph.runs.begin(jobs[0].tenant, jobs[0].memory_id)
    assert run is not None
    return run


async def _finished(
    admin: Operations,
    result: Mapping[str, Any] | None,
    *,
    error: str | None = None,
) -> Run:
    run = await _taken(admin)
    state = RunState.COMPLETE if error is None else RunState.FAILED
    await admin.graph.runs.finish(TENANT, run, state, progress={}, result=result, error=error)
    return run


async def _answered(
    admin: Operations, path: str, body: Any, result: Mapping[str, Any]
) -> tuple[Any, Run]:
    """The answer to a request that waits, and the run that was made for it."""
    call = asyncio.create_task(admin.asks("POST", path, json=body))
    run = await _finished(admin, result)
    return await call, run


DRIFT = {
    "status": "already_synced",
    "falkordb_count": 12,
    "qdrant_count": 10,
    "missing_count": 0,
    "orphaned_count": 1,
    "synced": 0,
    "failed": 0,
}


async def test_a_dry_run_asks_for_no_repair(admin: Operations) -> None:
    result = {**DRIFT, "status": "dry_run", "missing_sample": ["a"]}
    body, run = await _answered(admin, "/admin/sync", {"dry_run": True}, result)
    assert body == result | {"run_id": run.id}
    assert (run.task, run.dry_run) == ("drift", True)
    assert run.request == {
        "dry_run": True,
        "delete_orphans": False,
        "repair": False,
    }


async def test_a_repair_deletes_orphans_only_where_asked(admin: Operations) -> None:
    _, run = await _answered(admin, "/admin/sync", {}, DRIFT)
    assert (run.request["repair"], run.request["delete_orphans"]) == (True, False)
    _, run = await _answered(admin, "/admin/sync", {"delete_orphans": "true"}, DRIFT)
    assert (run.request["repair"], run.request["delete_orphans"]) == (True, True)


async def test_a_body_may_be_left_out(admin: Operations) -> None:
    call = asyncio.create_task(admin.asks("POST", "/admin/sync"))
    await _finished(admin, DRIFT)
    assert (await call)["status"] == "already_synced"


async def test_a_reembedding_is_summed_up_as_in_the_seed(admin: Operations) -> None:
    result = {
        "status": "complete",
        "processed": 4,
        "failed": 1,
        "total": 5,
        "batch_size": 10,
        "metadata_preserved": True,
        "generation": "memories__m__1",
    }
    body, run = await _answered(
        admin, "/admin/reembed", {"batch_size": 10, "limit": 5, "force": True}, result
    )
    assert body == result | {"run_id": run.id}
    assert run.task == "reembed"
    assert run.request == {"batch_size": 10, "limit": 5, "force": True}


async def test_nothing_to_reembed_says_so(admin: Operations) -> None:
    result = {
        "status": "complete",
        "processed": 0,
        "failed": 0,
        "total": 0,
        "batch_size": 32,
        "metadata_preserved": True,
    }
    body, _ = await _answered(admin, "/admin/reembed", {}, result)
    assert (body["status"], body["processed"], body["total"]) == ("complete", 0, 0)
    assert body["message"]


@pytest.mark.parametrize(
    ("given", "batch_size", "limit"),
    [
        ({}, 32, 0),
        ({"batch_size": 0, "limit": None}, 1, 0),
        ({"batch_size": "7", "limit": "3"}, 7, 3),
        ({"batch_size": 10**40, "limit": -1}, 100, 0),
    ],
)
async def test_numbers_are_clamped(
    admin: Operations, given: dict[str, Any], batch_size: int, limit: int
) -> None:
    body = await admin.asks("POST", "/admin/reembed?wait=false", 202, json=given)
    run = await admin.graph.runs.get(TENANT, body["run_id"])
    assert run is not None
    assert (run.request["batch_size"], run.request["limit"]) == (batch_size, limit)
    await drained(admin.streams[Stage.SYNC])


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/admin/sync", {"batch_size": "many"}, "'batch_size' must be an integer"),
        ("/admin/sync", {"batch_size": True}, "'batch_size' must be an integer"),
        ("/admin/sync", {"dry_run": "perhaps"}, "'dry_run' must be true or false"),
        ("/admin/sync", [], "JSON body is required"),
        ("/admin/reembed", {"limit": 1.5}, "'limit' must be an integer"),
        ("/admin/reembed", {"provider": "nobody"}, "'provider': "),
        ("/admin/reembed", {"dimension": 0}, "'dimension': "),
        ("/admin/reembed", {"provider": "openai"}, "EMBEDDING_PROVIDER is openai, but"),
        ("/admin/reembed", {"model": "another"}, "'model': placeholder serves"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(
    admin: Operations, path: str, body: Any, reason: str
) -> None:
    assert (await admin.asks("POST", path, 400, json=body))["error"].startswith(reason)
    assert await admin.graph.runs.latest(TENANT) == []


async def test_a_switch_names_the_model_that_was_proven_to_open(admin: Operations) -> None:
    body = await admin.asks("POST", "/admin/reembed?wait=false", 202, json={"dimension": 64})
    run = await admin.graph.runs.get(TENANT, body["run_id"])
    assert run is not None
    assert run.request["dimension"] == 64
    await drained(admin.streams[Stage.SYNC])


async def test_nobody_has_to_wait(admin: Operations) -> None:
    body = await admin.asks("POST", "/admin/sync?wait=false", 202)
    assert body["status"] == "accepted"
    assert (
        admin.answers[-1].headers["Location"] == body["location"] == f"/admin/runs/{body['run_id']}"
    )
    found = (await admin.asks("GET", body["location"]))["run"]
    assert (found["state"], found["progress"], found["started_at"]) == (
        "queued",
        {"ratio": 0.0},
        None,
    )
    run = await _taken(admin)
    await admin.graph.runs.advance(
        TENANT, run, {"processed": 3, "total": 12, "ids": ["x"], "failed_ids": ["y"]}
    )
    found = (await admin.asks("GET", body["location"]))["run"]
    assert found["progress"] == {
        "processed": 3,
        "total": 12,
        "failed_ids": ["y"],
        "ratio": 0.25,
    }
    assert (found["state"], found["started_at"]) == ("running", iso(run.started_at))
    await admin.graph.runs.finish(TENANT, run, RunState.COMPLETE, progress={}, result=DRIFT)
    found = (await admin.asks("GET", body["location"]))["run"]
    assert (found["state"], found["progress"]["ratio"], found["result"]) == ("complete", 1.0, DRIFT)
    assert found["completed_at"].endswith("+00:00")


async def test_a_run_that_fails_tells_why(admin: Operations) -> None:
    call = asyncio.create_task(admin.asks("POST", "/admin/sync", 500))
    run = await _finished(admin, None, error="the model refuses")
    assert (await call)["error"] == f"Run {run.id} failed: the model refuses"
    found = (await admin.asks("GET", f"/admin/runs/{run.id}"))["run"]
    assert (found["state"], found["error"]) == ("failed", "the model refuses")


async def test_who_waits_long_enough_is_sent_the_location(
    clients: RedisClients, store: GraphStore, streams: Mapping[Stage, Stream]
) -> None:
    async with operated(clients, store, streams, longest_wait_s=0.1) as admin:
        assert (await admin.asks("POST", "/admin/sync", 202))["status"] == "accepted"
        await drained(streams[Stage.SYNC])


async def test_who_waits_is_let_go_when_the_process_ends(admin: Operations) -> None:
    call = asyncio.create_task(admin.asks("POST", "/admin/sync", 202))
    await _taken(admin)
    assert admin.client.app is not None
    await admin.client.app[RUNS].close()
    assert (await call)["status"] == "accepted"


async def test_nothing_asks_on_for_a_client_that_hung_up(
    admin: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    get = admin.graph.runs.get

    async def counting(tenant: str, run_id: str) -> Run | None:
        nonlocal looks
        looks += 1
        return await get(tenant, run_id)

    monkeypatch.setattr(admin.graph.runs, "get", counting)
    call = asyncio.create_task(admin.asks("POST", "/admin/sync"))
    await wait_until(lambda: looks > 0, "somebody waits")
    with capture_logs() as lines:
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await wait_until(
            lambda: any(each["event"] == "admin.called" for each in lines), "the wait ended"
        )
    assert (await _taken(admin)).state is RunState.RUNNING  # the run itself goes on


@pytest.mark.parametrize(
    ("down", "reason"),
    [
        ("vectors", "Qdrant is not available - cannot store embeddings"),
        ("graph", "FalkorDB is unavailable"),
        ("redis", "Redis is unavailable"),
    ],
)
@pytest.mark.parametrize("path", ["/admin/sync", "/admin/reembed"])
async def test_nothing_begins_while_a_store_is_down(
    clients: RedisClients,
    store: GraphStore,
    streams: Mapping[Stage, Stream],
    path: str,
    down: str,
    reason: str,
) -> None:
    async with operated(clients, store, streams, seen=probes(**{down: False})) as admin:
        assert (await admin.asks("POST", path, 503))["error"] == reason
        assert int(admin.answers[-1].headers["Retry-After"]) >= 1
        assert await store.runs.latest(TENANT) == []


async def test_a_cancelled_run_stops_and_answers_who_waits(admin: Operations) -> None:
    call = asyncio.create_task(admin.asks("POST", "/admin/sync", 409))
    run = await _taken(admin)
    path = f"/admin/runs/{run.id}"
    assert (await admin.asks("DELETE", path))["run"]["state"] == "cancelled"
    assert (await call)["error"] == f"Run {run.id} was cancelled"
    assert not await admin.graph.runs.advance(TENANT, run, {})
    assert (await admin.asks("DELETE", path, 409))["error"] == "The run is over already: cancelled"


async def test_runs_are_listed_newest_first(admin: Operations) -> None:
    for number, task in enumerate(("drift", "reembed", "drift")):
        await admin.graph.runs.create(TENANT, task, {"number": number})
        await asyncio.sleep(0.002)  # their order is their creation's millisecond
    rows = (await admin.asks("GET", "/admin/runs"))["runs"]
    assert [row["request"]["number"] for row in rows] == [2, 1, 0]
    rows = (await admin.asks("GET", "/admin/runs?task=drift&limit=1"))["runs"]
    assert [row["request"]["number"] for row in rows] == [2]
    await admin.asks("GET", "/admin/runs?limit=x", 400)


async def test_a_run_is_its_tenant_s_alone(admin: Operations) -> None:
    run = await admin.graph.runs.create(TENANT, "drift", {})
    path = f"/admin/runs/{run.id}"
    await admin.asks("GET", path, 404, headers=OTHERS_TOKEN)
    await admin.asks("DELETE", path, 404, headers=OTHERS_TOKEN)
    assert (await admin.asks("GET", "/admin/runs", headers=OTHERS_TOKEN))["runs"] == []
    await admin.asks("GET", f"/admin/runs/{uuid4()}", 404)


@pytest.mark.parametrize("token", [None, "wrong-guess", ADMIN_TOKEN])
async def test_every_call_leaves_a_line_that_shows_no_token(
    admin: Operations, token: str | None
) -> None:
    status = 200 if token == ADMIN_TOKEN else 401
    headers = dict(API) if token is None else {**API, "X-Admin-Token": token}
    with capture_logs() as lines:
        async with admin.client.get("/admin/runs", headers=headers) as answer:
            body = await answer.json()
    assert answer.status == status
    assert status == 200 or body["error"] == "Admin authorization required"
    [line] = [each for each in lines if each["event"] == "admin.called"]
    assert line["action"] == "GET /admin/runs"
    assert line["outcome"] == ("200" if status == 200 else "refused")
    assert token is None or (len(line["token"]) == 8 and token not in str(line))
