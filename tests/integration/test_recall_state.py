"""Current mode over the real stores: what took another's place is found by the other's words."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.conftest import CANARY
from tests.integration.test_recall_filling import related, stored
from tests.support.stack.stack import Client, Stack, StoreView


def day(back: float) -> str:
    return (datetime.now(UTC) - timedelta(days=back)).isoformat()


async def chained(api: Client, ids: list[str]) -> None:
    pairs = itertools.pairwise(ids)
    await asyncio.gather(*(related(api, old, new, "EVOLVED_INTO") for old, new in pairs))


def ids_of(body: dict[str, Any]) -> list[str]:
    return [each["id"] for each in body["results"]]


@pytest.mark.parametrize("embedded", [True, False])
async def test_what_the_client_supersedes_is_replaced_by_its_successor(
    api: Client, stack: Stack, stores: StoreView, embedded: bool
) -> None:
    """The official client ends the old one's validity, then adds the edge."""
    words = f"{CANARY} the wifi password of the office is tulip"
    old = await api.stored(words, tags=["wifi"])
    new = await api.stored(f"{CANARY} roses are what opens the network", tags=["wifi"])
    await stored(api, [{"content": f"{CANARY} unrelated matter {n}"} for n in range(5)])
    await stores.all_done(7)
    if not embedded:
        async with stack.frozen("embedder"):
            await _superseded(api, old, new)
        return
    await _superseded(api, old, new)
    await stores.all_done(7)
    await _shown(api, old, new)


async def _superseded(api: Client, old: str, new: str) -> None:
    answer = await api.ask("PATCH", f"/memory/{old}", json={"t_invalid": day(0)})
    assert answer.status == 200, answer
    await related(api, old, new, "INVALIDATED_BY")
    await _shown(api, old, new)


async def _shown(api: Client, old: str, new: str) -> None:
    answer = await api.recall("wifi password of the office tulip", state_debug="true", limit=3)
    first, block = answer.body["results"][0], answer.body["state_filter"]
    assert (first["id"], first["match_type"]) == (new, "state_replacement")
    assert first["relations"] == [{"type": "INVALIDATED_BY", "strength": 0.9, "from": old}]
    assert old not in ids_of(answer.body)
    assert (block["suppressed_count"], block["replacement_count"]) == (1, 1)
    [hidden] = block["suppressed"]
    assert (hidden["reason"], hidden["replacement_id"]) == ("expired", new)
    assert block["replacements"][0]["replaces_id"] == old
    listed = await api.recall(tags="wifi", state_debug="true")
    assert ids_of(listed.body) == [new]
    assert listed.body["state_filter"]["suppressed"] == [hidden]


async def test_what_is_not_valid_now_is_counted(api: Client, stores: StoreView) -> None:
    here = await api.stored(f"{CANARY} the badger sleeps", tags=["zoo"])
    for fields in ({"t_invalid": day(1)}, {"t_valid": day(-1)}):
        await api.stored(f"{CANARY} the badger sleeps elsewhere", tags=["zoo"], **fields)
    await stores.all_done(3)
    for params in ({"query": "where does the badger sleep"}, {"tags": "zoo"}):
        answer = await api.recall(**params, state_debug="true")
        assert ids_of(answer.body) == [here]
        block = answer.body["state_filter"]
        assert block["suppressed_count"] == 2
        assert {each["reason"] for each in block["suppressed"]} == {"expired", "not_yet_valid"}


@pytest.mark.parametrize("case", ["chain", "star", "expired", "repeats"])
async def test_many_that_may_not_be_answered_displace_no_other(
    api: Client, stores: StoreView, case: str
) -> None:
    """90 nearer ones that may not be answered, and three that may."""
    ended = {"t_invalid": day(1)} if case == "expired" else {}
    text = f"{CANARY} tapir notes" + ("" if case == "repeats" else " revision {}")
    many = [
        await api.stored(text.format(n), tags=["zz"], importance=0.9, **ended) for n in range(90)
    ]
    head = await api.stored(f"{CANARY} what is known of the animal today", tags=["zz"])
    rest = [await api.stored(f"{CANARY} a tapir was seen {n}", tags=["zz"]) for n in range(3)]
    if case == "chain":
        await chained(api, [*many, head])
    elif case == "star":
        await asyncio.gather(*(related(api, each, head, "EVOLVED_INTO") for each in many))
    await stores.all_done(94)
    for params in ({"query": "tapir notes revision"}, {"tags": "zz", "query": "tapir notes"}):
        answer = await api.recall(**params, limit=5, adaptive_floor="false", state_debug="true")
        found = ids_of(answer.body)
        assert set(rest) < set(found), (params, answer.body["state_filter"])
        assert head in found
        assert set(found) & set(many) == (
            set(found) - {head, *rest} if case == "repeats" else set()
        )


async def test_a_long_chain_leads_to_its_head_by_its_first_words(
    api: Client, stores: StoreView
) -> None:
    first = await api.stored(f"{CANARY} the aardvark eats ants", tags=["first"])
    texts = [f"{CANARY} something else altogether, number {n}" for n in range(12)]
    later = [await api.stored(each, tags=["later"]) for each in texts]
    await chained(api, [first, *later])
    await stores.all_done(13)
    answer = await api.recall("aardvark ants", limit=1)
    [row] = answer.body["results"]
    assert row["id"] == later[-1]


async def test_priority_ids_come_first_without_a_query(api: Client) -> None:
    await stored(api, [{"content": f"{CANARY} filler {n}", "importance": 1.0} for n in range(40)])
    wanted = await api.stored(f"{CANARY} wanted", tags=["fill"], importance=0.1)
    old = await api.stored(f"{CANARY} of old", importance=0.1)
    await related(api, old, wanted, "EVOLVED_INTO")
    for params in ({}, {"query": "*"}, {"sort": "time_asc"}):
        for named in (wanted, old):
            answer = await api.recall(**params, limit=3, priority_ids=named)
            assert ids_of(answer.body)[0] == wanted, (params, named)
            assert answer.body["context_priority"]["injected"]


async def test_expansions_fill_beyond_what_does_not_hold(api: Client, stores: StoreView) -> None:
    text = f"{CANARY} Met with Alice Johnson about topic"
    seed = await api.stored(f"{CANARY} The quokka report by Alice Johnson", tags=["seed"])
    standing = [await api.stored(f"{text} {n}", importance=0.2) for n in range(3)]
    ended = [
        await api.stored(f"{text} of old {n}", importance=1.0, t_invalid=day(1)) for n in range(6)
    ]
    for each in (*standing, *ended):  # what ended is related last, and strongest
        await related(api, seed, each, "RELATES_TO")
    await stores.all_done(10)
    by_relation = await api.recall("quokka", limit=1, expand_relations="true", relation_limit=5)
    assert set(ids_of(by_relation.body)[1:]) == set(standing)
    assert by_relation.body["state_filter"]["suppressed_count"] >= 1
    by_entity = await api.recall("quokka report", tags="seed", expand_entities="true")
    assert set(ids_of(by_entity.body)[1:]) == set(standing)


async def test_strong_relations_are_looked_for_among_all(api: Client, stores: StoreView) -> None:
    seed = await api.stored(f"{CANARY} The numbat report", tags=["seed"])
    strong = await api.stored(f"{CANARY} strongly bound")
    weak = [await api.stored(f"{CANARY} weakly bound {n}") for n in range(6)]
    body = {"memory1_id": seed, "type": "RELATES_TO", "strength": 0.8}
    await api.ask("POST", "/associate", json={**body, "memory2_id": strong})
    for each in weak:
        await api.ask("POST", "/associate", json={**body, "memory2_id": each, "strength": 0.1})
    await stores.all_done(8)
    params = {"limit": 1, "expand_relations": "true", "relation_limit": 3}
    found = await api.recalled("numbat", **params, expand_min_strength=0.5)
    assert found == [seed, strong]


async def test_a_fallback_that_found_nothing_is_reported(api: Client) -> None:
    await api.stored(f"{CANARY} the wombat digs", tags=["zoo"])
    answer = await api.recall("wombat", tags="zoo", scope_fallback="true")
    assert answer.body["scope_fallback"] is True
    answer = await api.recall("wombat", tags="zoo", limit=1, scope_fallback="true")
    assert "scope_fallback" not in answer.body
