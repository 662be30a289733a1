"""What a run of `reembed` does where a point stands in its way, or when it is taken up again."""

from __future__ import annotations

import asyncio

import pytest

from services.syncer.reembedding import forced_jobs, switch
from services.syncer.reembedding.reembed import TASK, Reembed
from services.syncer.reembedding.switch import Switch
from services.syncer.runs import Progress, RunLost
from shared.config import EmbeddingSettings
from shared.domain.memory import Memory
from tests.support.stores.drifting import Place
from tests.support.stores.graphs import TENANT, a_memory

LIMIT = 6


async def begun(here: Place, **request: object) -> Progress:
    made = await here.graph.runs.create(TENANT, TASK, request)
    return await taken(here, made.id)


async def taken(here: Place, run_id: str) -> Progress:
    run = await here.graph.runs.begin(TENANT, run_id)
    assert run is not None
    return Progress(here.graph.runs, TENANT, run, asyncio.Event())


async def switched(here: Place) -> list[str]:
    """To the generation that is live already: the passes after the switch are all there is."""
    progress = await begun(here)
    live = await here.vectors.live.attach()
    stores = (here.graph, here.vectors, here.outbox)
    return await Switch(*stores, progress=progress, target=live)()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced_jobs, "_ANNOUNCE_EVERY_S", 0.2)
    monkeypatch.setattr(forced_jobs, "_DONE_AT_MOST", 5)
    monkeypatch.setattr(switch, "_SEEN_AFTER_S", 0.0)


async def test_a_switch_mends_a_point_of_nobody(here: Place) -> None:
    ids = [each.id for each in await here.seed(5)]
    await here.set_payload(ids[:2], tenant="of-nobody")
    async with here.embedding():
        assert await switched(here) == []
    assert set(here.embedded) == set(ids[:2])
    assert await here.agree()


async def test_a_switch_ends_though_a_memory_never_comes_up(here: Place) -> None:
    """Its jobs are done, and its point is not there: it counts as refused."""
    ids = [each.id for each in await here.seed(5)]
    await here.drop_points(ids[:2])
    here.refused = {ids[0]}
    async with here.embedding():
        assert await switched(here) == [ids[0]]
    audit = await here.audit()
    assert (audit.given_up_count, audit.drifted) == (1, 0)


async def timed(here: Place, times: list[int]) -> list[Memory]:
    made = [a_memory(f"of {at}", timestamp=at) for at in times]
    await here.graph.memories.create_many(TENANT, made)
    await here.embed(made)
    return made


@pytest.mark.parametrize("times", [list(range(1000, 1010)), [1000] * 10, [1000] * 3 + [2000] * 7])
async def test_a_limited_refresh_that_is_resumed_goes_on_where_it_was(
    here: Place, monkeypatch: pytest.MonkeyPatch, times: list[int]
) -> None:
    """What is stored meanwhile is newer than all of it, and moves nothing."""
    known = await timed(here, times)
    newest = sorted(known, key=lambda each: (-each.timestamp, each.id))[:LIMIT]
    settings = EmbeddingSettings(_env_file=None, EMBEDDING_BATCH_SIZE=2)
    task = Reembed(here.graph, here.vectors, here.outbox, settings)
    progress = await begun(here, limit=LIMIT, batch_size=1)
    write = progress.write

    async def lost(**counts: object) -> None:
        await write(**counts)
        if progress.state.get("processed"):
            raise RunLost("killed")

    monkeypatch.setattr(progress, "write", lost)
    async with here.embedding():
        with pytest.raises(RunLost):
            await task(progress)
        assert set(here.embedded) == {each.id for each in newest[:2]}
        await timed(here, [5000, 5001, 5002])
        progress = await taken(here, progress.run.id)
        result = await task(progress)
    assert (result["processed"], result["total"]) == (LIMIT, LIMIT)
    assert set(here.embedded) == {each.id for each in newest}
