"""Recall where AutoMem's answers are wrong or incomplete."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.models.providers.local import LocalEmbedding
from shared.vectors import VectorQuery, VectorStore
from tests.integration.conftest import CANARY
from tests.support.stack.stack import Client, Stack, StoreView, refused

# Beside recall itself: the touch of what was found, the probes, what health counts.
_BESIDE = ("touch", "ping", "counts", "count", "probe", "readiness", "get_aliases")


async def stored(api: Client, rows: Sequence[dict[str, Any]]) -> list[str]:
    answer = await api.ask("POST", "/memory/batch", json={"memories": list(rows)})
    assert answer.status == 201, answer
    return list(answer.body["memory_ids"])


async def related(api: Client, old: str, new: str, kind: str = "EVOLVED_INTO") -> None:
    body = {"memory1_id": old, "memory2_id": new, "type": kind, "strength": 0.9}
    answer = await api.ask("POST", "/associate", json=body)
    assert answer.status == 201, answer


def day(back: float) -> str:
    return (datetime.now(UTC) - timedelta(days=back)).isoformat()


# -- candidates -----------------------------------------------------------------------------


async def test_an_exact_word_far_outside_the_vectors_top_is_found(
    api: Client, stack: Stack, stores: StoreView, tenant: str
) -> None:
    """The query means the decoys and names only the wanted one, in a word that says nothing."""
    near = [{"content": f"{CANARY} Ada drinks coffee in garden {n}"} for n in range(70)]
    *decoys, wanted = await stored(api, [*near, {"content": "the invoice QX7731 was paid"}])
    await stores.all_done(71)
    query = "a hot beverage outdoors QX7731"
    for nearest in await _nearest(stack, tenant, query, 50):
        assert len(nearest) == 50
        assert set(nearest) <= set(decoys)
    assert wanted in await api.recalled(query, limit=3, adaptive_floor="false")


async def _nearest(stack: Stack, tenant: str, query: str, limit: int) -> list[list[str]]:
    """The first `limit` ids by each dense vector alone, asked of the stack's vectors directly."""
    vectors = await asyncio.to_thread(VectorStore, stack.store_settings()[2])
    model = await LocalEmbedding.load()
    try:
        live = await vectors.live.attach()
        assert live.fits(model.name, model.dimension)
        vector = await model.embed_query(query)
        queries = [VectorQuery("dense", vector, limit), VectorQuery("context", vector, limit)]
        return [[hit.id for hit in hits] for hits in await vectors.search(tenant, queries)]
    finally:
        await model.close()
        await vectors.close()


async def test_a_narrow_window_fills(api: Client, stores: StoreView) -> None:
    outside = [
        {"content": f"{CANARY} the build failed {n}", "timestamp": day(2)} for n in range(70)
    ]
    inside = [
        {"content": f"{CANARY} the cake {n} was eaten", "timestamp": day(100 + n / 100)}
        for n in range(3)
    ]
    ids = await stored(api, [*outside, *inside])
    await stores.all_done(73)
    found = await api.recalled(
        "why did the build fail", start=day(102), end=day(99), limit=3, adaptive_floor="false"
    )
    assert set(found) == set(ids[70:])


async def test_the_number_of_store_calls_does_not_grow_with_the_limit(
    api: Client, stack: Stack, stores: StoreView
) -> None:
    rows = [
        {"content": f"{CANARY} Alice Johnson met customer {n}", "tags": ["visit"]}
        for n in range(60)
    ]
    ids = await stored(api, rows)
    await asyncio.gather(*(related(api, ids[0], each, "RELATES_TO") for each in ids[1:8]))
    await stores.all_done(60)

    async def calls(**params: Any) -> dict[tuple[str, str], float]:
        before = await _calls(stack)
        answer = await api.recall("who met a customer", adaptive_floor="false", **params)
        assert answer.body["count"] >= min(params["limit"], 50)
        after = await _calls(stack)
        return {key: made - before.get(key, 0) for key, made in after.items()}

    for more in ({}, {"expand_relations": "true", "expand_entities": "true", "tags": "visit"}):
        one, fifty = await calls(limit=1, **more), await calls(limit=50, **more)
        assert sum(one.values()) > 0
        # Fewer are possible: what was gathered for fifty need not be read for the expansion.
        assert {key: n for key, n in fifty.items() if n > one.get(key, 0)} == {}


async def _calls(stack: Stack) -> dict[tuple[str, str], float]:
    url = f"http://127.0.0.1:{stack.one('api').ports['admin']}/metrics"
    async with aiohttp.ClientSession() as web, web.get(url) as answer:
        text = await answer.text()
    return {
        (sample.labels["store"], sample.labels["operation"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "eunoe_store_request_duration_seconds_count"
        and sample.labels["operation"] not in _BESIDE
    }


# -- tags, time, order ------------------------------------------------------------------------


async def test_a_bare_window_lists_the_newest(api: Client) -> None:
    rows = [
        {"content": f"{CANARY} note {n}", "timestamp": day(6 - n), "importance": 0.9 - n / 10}
        for n in range(6)
    ]
    ids = await stored(api, rows)
    assert await api.recalled(start=day(30), limit=2) == [ids[5], ids[4]]
    assert await api.recalled(time_query="last 30 days", limit=2) == [ids[5], ids[4]]


@pytest.mark.parametrize("query", ["", "release"])
async def test_exact_tags_have_no_case(api: Client, stores: StoreView, query: str) -> None:
    wanted = await api.stored(f"{CANARY} release notes", tags=["Proj:Alpha"])
    await stores.all_done(1)
    for tag in ("proj:alpha", "PROJ:ALPHA", "Proj:Alpha"):
        assert await api.recalled(query, tags=tag, tag_match="exact") == [wanted], tag


async def test_a_comma_belongs_to_the_tag(api: Client) -> None:
    both = await api.stored(f"{CANARY} one", tags=["a,b"])
    await api.stored(f"{CANARY} two", tags=["a", "b"])
    assert await api.recalled(tags="a,b", tag_match="exact") == [both]


async def test_an_unknown_time_is_refused_or_reported(api: Client) -> None:
    memory_id = await api.stored(f"{CANARY} tea with Ada")
    answer = await api.recall("tea", time_query="whenever it rains")
    assert answer.body["warnings"] == ["Unknown time expression: 'whenever it rains'"]
    assert [row["id"] for row in answer.body["results"]] == [memory_id]
    refused(await api.recall("tea", time_query="whenever it rains", strict="true"), 400)


async def test_only_true_repeats_collapse(api: Client, stores: StoreView) -> None:
    text = f"{CANARY} Deploy on Fridays is forbidden"
    first = await api.stored(text, tags=["a"], session_id="s1", importance=0.9)
    again = await api.stored(f"**{text}**", tags=["A"], session_id="s1", importance=0.1)
    other_tag = await api.stored(text, tags=["b"], session_id="s1")
    other_session = await api.stored(text, tags=["a"], session_id="s2")
    await stores.all_done(4)
    answer = await api.recall("deploy on Fridays", limit=10, adaptive_floor="false")
    rows = {row["id"]: row for row in answer.body["results"]}
    assert len(rows) == 3
    assert {other_tag, other_session} <= set(rows)
    assert answer.body["dedup_removed"] == 1
    [kept] = {first, again} & set(rows)
    assert [kept, *rows[kept]["deduped_from"]] in ([first, again], [again, first])


async def test_min_score_and_the_floor_cut_and_say_so(api: Client, stores: StoreView) -> None:
    await stored(api, [{"content": f"{CANARY} {text}"} for text in ("red tea", "blue car", "x y")])
    await stores.all_done(3)
    everything = (await api.recall("red tea", adaptive_floor="false")).body["results"]
    top = everything[0]["score"]
    cut = await api.recall("red tea", min_score=str(top - 1e-4), adaptive_floor="false")
    assert [row["id"] for row in cut.body["results"]] == [everything[0]["id"]]
    assert cut.body["score_filter"]["filtered_count"] == len(everything) - 1
    assert cut.body["score_filter"]["adaptive_floor"] is False


# -- state ----------------------------------------------------------------------------------


@pytest.mark.parametrize("embedded", [True, False])
async def test_what_does_not_hold_leaks_from_nowhere(
    api: Client, stack: Stack, stores: StoreView, embedded: bool
) -> None:
    """No kind of request shows them, with or without their points."""
    text, tags = f"{CANARY} the team lead of Falcon is", ["falcon"]
    rows = [
        {"content": f"{text} Ada", "tags": tags, "metadata": {"repo": "falcon"}},
        {"content": f"{text} archived Bob", "tags": tags, "metadata": {"repo": "falcon"}},
        {"content": f"{text} outdated Cy", "tags": tags, "metadata": {"repo": "falcon"}},
    ]
    if not embedded:
        async with stack.frozen("embedder"):
            await _leak(api, stores, rows, tags)
        return
    await _leak(api, stores, rows, tags, wait=5)


async def _leak(
    api: Client, stores: StoreView, rows: list[dict[str, Any]], tags: list[str], wait: int = 0
) -> None:
    ada, bob, cy = await stored(api, rows)
    content = rows[0]["content"]
    expired = await api.stored(f"{content} expired", tags=tags, t_invalid=day(1))
    future = await api.stored(f"{content} future", tags=tags, t_valid=day(-1))
    if wait:
        await stores.all_done(wait)
    await related(api, cy, ada)
    for hidden in (bob, cy, expired, future):
        await related(api, ada, hidden, "RELATES_TO")
    await stores.rows(f"MATCH (m:Memory {{id: '{bob}'}}) SET m.archived = true")
    everything: dict[str, Any] = {"limit": 50, "adaptive_floor": "false"}
    requests: tuple[dict[str, Any], ...] = (
        {"query": "team lead of Falcon"},
        {"query": "falcon", "tags": "falcon"},
        {"tags": "falcon"},
        {"tags": "falcon", "sort": "time_desc"},
        {"query": "who leads", "expand_relations": "true", "expand_entities": "true"},
        {"query": "who leads", "priority_ids": [bob, cy, expired, future]},
        {"query": "who leads", "context_tags": "falcon"},
        {"query": "Falcon lead", "tags": "nothing", "scope_fallback": "true"},
        {"queries": ["Falcon", "lead"], "auto_decompose": "true"},
    )
    for params in requests:
        answer = await api.recall(**{**everything, **params})
        assert {each["id"] for each in answer.body["results"]} == {ada}, params
        shown = answer.body["results"][0]["relations"]
        assert [each for each in shown if "memory" in each] == [], "nor what it is related to"
    history = await api.recalled("team lead of Falcon", state_mode="history", **everything)
    assert set(history) == {ada, bob, cy, expired, future}


async def test_a_chain_s_head_replaces_what_it_superseded(api: Client, stores: StoreView) -> None:
    first = await api.stored(f"{CANARY} the wifi password is tulip", tags=["wifi"])
    second = await api.stored(f"{CANARY} the wifi password is rose", tags=["wifi"])
    last = await api.stored(f"{CANARY} unrelated words entirely", tags=["wifi"])
    await related(api, first, second, "INVALIDATED_BY")
    await related(api, second, last)
    answer = await api.recall("wifi password tulip", state_debug="true")
    [row] = answer.body["results"]
    assert (row["id"], row["match_type"]) == (last, "state_replacement")
    block = answer.body["state_filter"]
    assert block["replacement_count"] == 1
    assert {each["id"]: each["replacement_id"] for each in block["suppressed"]} == {
        first: last,
        second: last,
    }
    assert block["replacements"][0]["replaces_id"] == row["state_replaces"]
    assert await api.recalled("wifi", tags="wifi", state_mode="history", limit=9) != [last]


async def test_a_superseding_cycle_ends_and_hides_not_all_of_it(
    api: Client, stores: StoreView
) -> None:
    one = await api.stored(f"{CANARY} the moon is cheese")
    two = await api.stored(f"{CANARY} the moon is rock")
    await stores.all_done(2)
    await related(api, one, two)
    await related(api, two, one)
    answer = await api.recall("moon cheese", limit=1)
    [row] = answer.body["results"]
    assert (row["id"], row["state_replaces"]) == (two, one)
    assert len(await api.recalled("moon", state_mode="history")) == 2


# -- expansion, context, fallback -------------------------------------------------------------


async def test_relations_are_followed(api: Client, stores: StoreView) -> None:
    seed = await api.stored(f"{CANARY} the outage of Monday", tags=["ops"])
    cause = await api.stored(f"{CANARY} certificates ran out", tags=["tls"], importance=0.4)
    await related(api, seed, cause, "LEADS_TO")
    await stores.all_done(2)
    options = {"limit": 1, "tags": "ops"}
    answer = await api.recall("outage Monday", **options, expand_relations="true")
    ids = [row["id"] for row in answer.body["results"]]
    assert ids == [seed, cause]
    row = answer.body["results"][1]
    assert row["match_type"] == "relation"
    assert row["related_to"][0]["from"] == seed
    assert row["relations"][0]["type"] == "LEADS_TO"
    assert answer.body["expansion"] == {
        "enabled": True,
        "seed_count": 1,
        "expanded_count": 1,
        "relation_limit": 5,
        "expansion_limit": 25,
        "respect_tags": False,
    }
    for bound in (
        {"expand_respect_tags": "true"},
        {"expand_min_importance": "0.5"},
        {"expand_min_strength": "0.95"},
        {"exclude_tags": "tls"},
    ):
        found = await api.recalled("outage Monday", **options, expand_relations="true", **bound)
        assert found == [seed], bound


async def test_entities_are_followed_always_in_the_same_order(
    api: Client, stores: StoreView
) -> None:
    seed = await api.stored(f"{CANARY} Alice Johnson and Bob Miller planned the launch in Berlin")
    for n in range(4):
        await api.stored(f"Alice Johnson bought umbrella number {n}")
        await api.stored(f"Bob Miller repaired bicycle number {n}")
    await stores.all_done(9)
    options = {"limit": 1, "expand_entities": "true"}
    answers = [await api.recall("planned the launch", **options) for _ in range(3)]
    first = [row["id"] for row in answers[0].body["results"]]
    assert first[0] == seed
    assert len(first) > 1
    assert all([row["id"] for row in each.body["results"]] == first for each in answers)
    block = answers[0].body["entity_expansion"]
    assert block["expanded_count"] == len(first) - 1
    assert {"alice-johnson", "bob-miller"} & set(block["entities_found"])
    row = answers[0].body["results"][1]
    assert row["expanded_from_entity"] in block["entities_found"]
    assert row["score_components"]["entity_expansion"] == 0.15


async def test_context_prefers_and_priority_comes_first(api: Client, stores: StoreView) -> None:
    plain = await api.stored(f"{CANARY} sort imports before a commit")
    styled = await api.stored(f"{CANARY} sort imports with the linter", tags=["python-style"])
    far = await api.stored("the cat sleeps")
    await stores.all_done(3)
    answer = await api.recall(
        "sort imports", language="python", priority_ids=far, adaptive_floor="false"
    )
    assert [row["id"] for row in answer.body["results"]] == [far, styled, plain]
    block = answer.body["context_priority"]
    assert block["language"] == "python"
    assert "python" in block["priority_tags"]
    assert answer.body["results"][1]["score_components"]["context"] > 0


async def test_fallback_fills_from_outside_the_tags(api: Client, stores: StoreView) -> None:
    inside = await api.stored(f"{CANARY} tea is brewed at nine", tags=["office"])
    outside = await api.stored(f"{CANARY} tea is served at noon", tags=["home"])
    await stores.all_done(2)
    answer = await api.recall("when is tea", tags="office", scope_fallback="true")
    assert [row["id"] for row in answer.body["results"]] == [inside, outside]
    assert answer.body["results"][1]["outside_tag_scope"] is True
    assert "outside_tag_scope" not in answer.body["results"][0]
    assert answer.body["scope_fallback"] is True
