"""Recall over HTTP: found at once by words, later by meaning, inside tags and limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.conftest import CANARY
from tests.support.stack.stack import Answer, Client, Stack, StoreView, refused
from tests.support.waiting.conditions import wait_until

NOTES = (
    "The invoice of the caterer was paid on Tuesday",
    "Kubernetes restarts the billing pods every night",
    "Our cat Miso sleeps on the warm radiator",
    "The violin lesson moved to half past five",
    "Postgres replication lags behind by two minutes",
)


async def test_a_fresh_write_is_found_before_its_embedding_exists(
    api: Client, stack: Stack, stores: StoreView
) -> None:
    async with stack.frozen("embedder"):
        memory_id = await api.stored(f"{CANARY} Ada prefers window seats on long flights")
        found: list[Answer] = []

        async def whole() -> bool:
            found[:] = [await api.recall("window seats")]
            return "degraded" not in found[0].body

        await wait_until(whole, "recall has its model, also on a busy machine")
        assert not await stores.points()
    [row] = found[0].body["results"]
    assert row["id"] == row["memory"]["id"] == row["memory"]["memory_id"] == memory_id
    assert row["memory"]["content"].endswith("window seats on long flights")


async def test_a_fresh_write_is_never_missed_while_its_embedding_is_made(api: Client) -> None:
    """Recall right behind the write, whatever the pipeline is doing to it at that moment."""
    for number in range(40):
        memory_id = await api.stored(f"{CANARY} marker{number} passes through the pipeline")
        for _ in range(6):
            assert memory_id in await api.recalled(f"marker{number}", limit=20), number


async def test_meaning_finds_what_words_do_not(api: Client, stores: StoreView) -> None:
    await asyncio.gather(*(api.stored(f"{CANARY} {note}") for note in NOTES))
    wanted = await api.stored("Ada likes to sit beside the window when she travels by air")
    await stores.all_done(6)
    found = await api.recall("preferred airplane place", limit=3)
    assert found.body["results"][0]["id"] == wanted
    assert found.body["vector_search"] == {"enabled": True, "matched": True}


async def test_the_answer_carries_scores_and_their_parts(api: Client, stores: StoreView) -> None:
    await api.stored(f"{CANARY} The violin lesson moved", tags=["music"], importance=0.8)
    await stores.all_done(1)
    answer = await api.recall("violin lesson", tags="music")
    body, [row] = answer.body, answer.body["results"]
    assert (body["status"], body["query"], body["count"]) == ("success", "violin lesson", 1)
    assert body["tags"] == ["music"]
    assert row["score"] == row["final_score"] > 0
    parts = row["score_components"]
    assert parts.keys() >= {
        *("vector", "keyword", "metadata", "relation", "tag", "exact"),
        *("importance", "confidence", "recency"),
    }
    assert parts["importance"] == 0.8
    assert row["memory"]["tags"][0] == "music"


async def test_scores_fall(api: Client, stores: StoreView) -> None:
    for note in NOTES:
        await api.stored(note)
    await stores.all_done(len(NOTES))
    answer = await api.recall("nightly restarts of billing", limit=5)
    scores = [row["score"] for row in answer.body["results"]]
    assert scores == sorted(scores, reverse=True)


async def test_tags_bound_what_is_found(api: Client, stores: StoreView) -> None:
    ids = {}
    for tag in ("proj:alpha:db", "proj:beta", "Other"):
        ids[tag] = await api.stored(f"{CANARY} the database lags", tags=[tag, "shared"])
    await stores.all_done(3)
    alpha, beta, other = (ids[tag] for tag in ("proj:alpha:db", "proj:beta", "Other"))
    assert set(await api.recalled("database", tags="proj")) == {alpha, beta}
    assert set(await api.recalled("database", tags="proj:alpha")) == {alpha}
    assert await api.recalled("database", tags="proj", tag_match="exact") == []
    assert set(await api.recalled("database", tags=["proj", "OTHER"])) == {alpha, beta, other}
    both = await api.recalled("database", tags=["shared", "other"], tag_mode="all")
    assert both == [other]
    assert set(await api.recalled("database", exclude_tags="proj")) == {other}


async def test_tags_alone_list_by_importance(api: Client) -> None:
    low = await api.stored(f"{CANARY} low", tags=["t"], importance=0.1)
    high = await api.stored(f"{CANARY} high", tags=["t"], importance=0.9)
    assert await api.recalled(tags="t") == [high, low]


async def test_limits_are_clamped(api: Client) -> None:
    await asyncio.gather(*(api.stored(f"{CANARY} item {n}", tags=["many"]) for n in range(7)))
    # The floor would drop those that have no vector yet.
    assert len(await api.recalled("item", tags="many", adaptive_floor="false")) == 5
    assert len(await api.recalled("item", tags="many", adaptive_floor="false", limit=2)) == 2
    assert len(await api.recalled("item", tags="many", adaptive_floor="false", limit=0)) == 1
    assert len(await api.recalled("item", tags="many", adaptive_floor="false", limit=100_000)) == 7
    assert len(await api.recalled("item", tags="many", adaptive_floor="false", limit="")) == 5


async def test_time_windows_bound_what_is_found(api: Client) -> None:
    old = await api.stored(f"{CANARY} the old report", timestamp="2020-05-05")
    new = await api.stored(f"{CANARY} the new report")
    assert await api.recalled("report", end="2021-01-01") == [old]
    assert await api.recalled("report", start="2021-01-01") == [new]
    assert await api.recalled("report", time_query="today") == [new]
    answer = await api.recall(time_query="today")
    assert answer.body["sort"] == "time_desc"
    assert set(answer.body["time_window"]) == {"start", "end"}


async def test_what_is_no_longer_valid_is_not_current(api: Client) -> None:
    now = await api.stored(f"{CANARY} the lead is Ada")
    past = await api.stored(f"{CANARY} the lead is Bob", t_invalid="2021-01-01")
    assert await api.recalled("the lead") == [now]
    assert set(await api.recalled("the lead", state_mode="history")) == {now, past}


async def test_an_empty_store_answers_emptily(api: Client) -> None:
    answer = await api.recall("anything")
    assert (answer.status, answer.body["results"], answer.body["count"]) == (200, [], 0)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"limit": "abc"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "nan"}, "limit"),
        ({"per_query_limit": "x"}, "per_query_limit"),
        ({"relation_limit": "1e9"}, "relation_limit"),
        ({"expansion_limit": "-"}, "expansion_limit"),
        ({"start": "yesterday-ish"}, "start"),
        ({"end": "12"}, "end"),
        ({"start": "2024-13-45"}, "start"),
        ({"end": "0001-01-01T00:00:00+23:59"}, "end"),
        ({"time_query": "whenever", "strict": "true"}, "time"),
        ({"state_mode": "future"}, "state_mode"),
        ({"embedding": "1,2,x"}, "Embedding"),
        ({"embedding": "1,2,3"}, "Embedding"),
        ({"embedding": ",".join(["nan"] * 384)}, "Embedding"),
        ({"embedding": ",".join(["0"] * 384)}, "Embedding"),
        ({"embedding": ",".join(["1e308"] * 384)}, "Embedding"),
        ({"min_score": "much"}, "min_score"),
        ({"min_score": "nan"}, "min_score"),
        ({"expand_min_importance": "inf"}, "expand_min_importance"),
        ({"query": "a\0b"}, "query"),
        ({"query": "x" * 4001}, "query"),
        ({"tags": "a\0b"}, "tags"),
        ({"tags": [f"t{n}" for n in range(101)]}, "tags"),
        ({"project": "a\0"}, "project"),
        ({"session_id": "\0"}, "session_id"),
        ({"layer": "x" * 4001}, "layer"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(
    api: Client, parameters: dict[str, Any], named: str
) -> None:
    reason = refused(await api.recall(**parameters), 400)
    assert named.lower() in reason.lower()


@pytest.mark.parametrize("text", ["query=%ff%fe", "tags=%80", "project=%c3%28", "start=%ff"])
async def test_a_parameter_that_is_no_utf8_is_refused_or_read_with_replacements(
    api: Client, text: str
) -> None:
    answer = await api.ask("GET", f"/recall?{text}")
    assert answer.status in (200, 400), answer
