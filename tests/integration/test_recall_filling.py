"""What a recall fills its limit with, where much of what it finds may not be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import CANARY
from tests.support.stack.stack import Client, Stack, StoreView


async def stored(api: Client, rows: Sequence[dict[str, Any]]) -> list[str]:
    answer = await api.ask("POST", "/memory/batch", json={"memories": list(rows)})
    assert answer.status == 201, answer
    return list(answer.body["memory_ids"])


async def related(api: Client, one: str, other: str, kind: str) -> None:
    body = {"memory1_id": one, "memory2_id": other, "type": kind, "strength": 0.9}
    answer = await api.ask("POST", "/associate", json=body)
    assert answer.status == 201, answer


def others(count: int, importance: float = 0.2) -> list[dict[str, Any]]:
    rows = [{"content": f"{CANARY} other matter {n}"} for n in range(count)]
    return [{**each, "importance": importance, "metadata": {"project": "p1"}} for each in rows]


# -- listings -------------------------------------------------------------------------------


async def test_a_listing_fills_beyond_the_tags_not_wanted(api: Client) -> None:
    noise = [
        {"content": f"{CANARY} noise {n}", "tags": ["noise"], "importance": 0.9} for n in range(130)
    ]
    ids = await stored(api, [*noise, *others(3)])
    assert set(await api.recalled(exclude_tags="noise", limit=5)) == set(ids[130:])


async def test_a_listing_fills_beyond_the_superseded(api: Client) -> None:
    old = [{"content": f"{CANARY} plan {n}", "importance": 0.9} for n in range(40)]
    head = {"content": f"{CANARY} the plan that holds", "importance": 0.1}
    *superseded, new = await stored(api, [*old, head])
    await asyncio.gather(*(related(api, each, new, "EVOLVED_INTO") for each in superseded))
    standing = await stored(api, others(10))
    found = await api.recalled(limit=5)
    assert len(found) == len(set(found)) == 5
    assert set(found) <= {new, *standing}
    assert found[0] == new


async def test_a_listing_fills_beyond_repeats(api: Client) -> None:
    same = [{"content": f"{CANARY} the same note", "importance": 0.9} for _ in range(30)]
    ids = await stored(api, [*same, *others(6)])
    found = await api.recalled(limit=5)
    assert len(found) == 5
    assert len(set(found) & set(ids[:30])) == 1


async def test_a_listing_is_read_again_only_so_often(api: Client, stack: Stack) -> None:
    """Whatever the limit, and not at all where the first rows are enough."""
    same = [{"content": f"{CANARY} the same note"} for _ in range(240)]
    await stored(api, same)
    later = await stored(api, others(5))

    async def listings(**params: Any) -> tuple[float, list[str]]:
        before = await _listings(stack)
        found = await api.recalled(**params)
        return await _listings(stack) - before, found

    plain, found = await listings(limit=5, sort="time_desc")
    assert (plain, len(found)) == (1, 5)
    for limit, most in ((2, 4), (50, 2)):
        made, found = await listings(limit=limit, sort="time_asc")
        assert 1 < made <= most
        assert len(found) == min(limit, 6)
        assert len(set(found) - set(later)) == 1


async def _listings(stack: Stack) -> float:
    url = f"http://127.0.0.1:{stack.one('api').ports['admin']}/metrics"
    async with aiohttp.ClientSession() as web, web.get(url) as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "eunoe_store_request_duration_seconds_count"
        and sample.labels["operation"] == "listing"
    )


# -- the floor ------------------------------------------------------------------------------


async def test_the_floor_leaves_what_is_above_the_gap(api: Client, stores: StoreView) -> None:
    near = [
        {"content": f"{CANARY} the zeppelin hangar inspection in Friedrichshafen {n}"}
        for n in range(6)
    ]
    far = [{"content": text, "importance": 0.0} for text in _FAR]
    ids = await stored(api, [*({**each, "importance": 1.0} for each in near), *far])
    await stores.all_done(12)
    query = "zeppelin hangar inspection Friedrichshafen"
    everything = await api.recall(query, limit=12, adaptive_floor="false")
    scores = [row["score"] for row in everything.body["results"]]
    assert {row["id"] for row in everything.body["results"][:6]} == set(ids[:6])
    assert scores[5] - scores[6] > 0.25 * scores[0], scores
    cut = await api.recall(query, limit=12, adaptive_floor="true")
    assert {row["id"] for row in cut.body["results"]} == set(ids[:6])
    assert cut.body["score_filter"]["filtered_count"] == len(scores) - 6


_FAR = ("cats sleep", "bread rises", "rain fell", "seven eggs", "blue paint", "old shoes")


# -- what joins the results -----------------------------------------------------------------


async def test_min_score_holds_for_what_joins(api: Client, stores: StoreView) -> None:
    seed = await api.stored(f"{CANARY} the outage of Monday", tags=["ops"], importance=1.0)
    cause = await api.stored("certificates ran out", tags=["tls"], importance=0.0)
    await related(api, seed, cause, "LEADS_TO")
    await stores.all_done(2)
    for parameters in (
        {"limit": 1, "expand_relations": "true"},
        {"limit": 2, "scope_fallback": "true", "tags": "ops"},
    ):
        both = (await api.recall("outage Monday", **parameters)).body["results"]
        assert [row["id"] for row in both] == [seed, cause]
        high, low = (row["score"] for row in both)
        assert high > low
        cut = await api.recall("outage Monday", **parameters, min_score=str((high + low) / 2))
        assert [row["id"] for row in cut.body["results"]] == [seed], parameters
        assert cut.body["score_filter"]["filtered_count"] == 1


async def test_what_relations_reach_is_replaced_by_its_head(api: Client, stores: StoreView) -> None:
    seed = await api.stored(f"{CANARY} the outage of Monday", tags=["ops"])
    old = await api.stored("the pager is with Bob", tags=["duty"])
    new = await api.stored("the pager is with Cy", tags=["duty"])
    await related(api, seed, old, "RELATES_TO")
    await related(api, old, new, "INVALIDATED_BY")
    await stores.all_done(3)
    parameters: dict[str, Any] = {"limit": 1, "tags": "ops", "state_debug": "true"}
    for options in ({"expand_relations": "true"}, {"limit": 3, "scope_fallback": "true"}):
        answer = await api.recall("outage Monday pager", **{**parameters, **options})
        assert [row["id"] for row in answer.body["results"]] == [seed, new], options
        block = answer.body["state_filter"]
        assert block["suppressed"] == [
            {
                "id": old,
                "reason": "superseded",
                "replacement_id": new,
                "relation_type": "INVALIDATED_BY",
            }
        ]
        if "expand_relations" in options:
            row = answer.body["results"][1]
            assert row["match_type"] == "state_replacement"
            assert block["replacements"][0]["replaces_id"] == old
            assert row["related_to"][0]["from"] == seed
    kept = await api.recalled(
        "outage Monday", **parameters, expand_relations="true", state_mode="history"
    )
    assert kept == [seed, old]
    tight = await api.recalled(
        "outage Monday", **parameters, expand_relations="true", expand_respect_tags="true"
    )
    assert tight == [seed]


async def test_a_seed_that_supersedes_what_it_reaches_is_there_once(
    api: Client, stores: StoreView
) -> None:
    old = await api.stored("the pager is with Bob", tags=["past"])
    new = await api.stored(f"{CANARY} the pager is with Cy", tags=["duty"])
    await related(api, old, new, "EVOLVED_INTO")
    await stores.all_done(2)
    answer = await api.recall("pager", tags="duty", expand_relations="true")
    assert [row["id"] for row in answer.body["results"]] == [new]
    assert answer.body["expansion"]["expanded_count"] == 0
    assert answer.body["state_filter"]["suppressed_count"] == 1
