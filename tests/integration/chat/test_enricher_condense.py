"""Long contents become their summary: once, believed only if useful, and nothing else is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.config import ApiSettings
from shared.graph.records import Embedding
from shared.streams.job import Stage
from shared.streams.transitions import Done
from tests.integration.chat.conftest import with_fallback_type
from tests.support.providers import scripted
from tests.support.providers.scripted import Answer, Provider
from tests.support.stores.graphs import TENANT, a_memory
from tests.support.waiting.conditions import wait_until
from tests.support.workers.enriching import Enriching
from tests.support.workers.working import drained

LONG = "The team talked about the new storage layer. " * 20
SHORT = "The team talked about the storage layer."


def summary(text: str) -> Answer:
    return scripted.completion(json.dumps({"summary": text}))


async def test_a_long_content_becomes_its_summary_once(work: Enriching, provider: Provider) -> None:
    memory = replace(a_memory(LONG, tags=("Team",)), metadata={"source": "x"}, type="Context")
    await work.store(memory)
    await work.enrich(memory)
    provider.script = [summary(f"  {SHORT}\n")]
    assert await work.ask() == [Done()]
    after = await work.now(memory)
    assert after.content == SHORT
    assert after.metadata == {
        "source": "x",
        "original_content": LONG,
        "was_summarized": True,
        "original_length": len(LONG),
    }
    assert after.version > memory.version
    assert (after.tags, after.type, after.timestamp) == (("Team",), "Context", memory.timestamp)
    for stage in (Stage.ENRICH, Stage.EMBED):
        jobs = await drained(work.streams[stage])
        assert after.version in {job.version for job in jobs}
    await work.enrich(memory)
    await work.ask()
    assert len(provider.requests) == 1
    assert (await work.now(memory)).enriched


async def test_a_supplied_vector_outlives_the_shortening(
    work: Enriching, provider: Provider
) -> None:
    memory = replace(a_memory(LONG), type="Context")
    supplied = Embedding("a-model", [0.5, 0.5])
    await work.graph.memories.create(TENANT, memory, embedding=supplied)
    await work.enrich(memory)
    provider.script = [summary(SHORT)]
    await work.ask()
    assert (await work.now(memory)).content == SHORT
    assert await work.graph.memories.embeddings(TENANT, [memory.id]) == {memory.id: supplied}
    await work.patch(memory, content="the client's own words")
    assert await work.graph.memories.embeddings(TENANT, [memory.id]) == {}


async def test_after_a_new_long_content_it_is_shortened_again(
    work: Enriching, provider: Provider
) -> None:
    memory = replace(a_memory(LONG), type="Context")
    await work.store(memory)
    await work.enrich(memory)
    provider.script = [summary(SHORT), summary("Shorter.")]
    await work.ask()
    await work.patch(memory, metadata={"mine": 1})
    assert (await work.now(memory)).metadata["original_content"] == LONG
    again = f"Again {LONG}".strip()
    await work.patch(memory, content=again)
    await work.enrich(memory)
    await work.ask()
    after = await work.now(memory)
    assert (after.content, after.metadata["original_content"]) == ("Shorter.", again)
    assert after.metadata["mine"] == 1


async def test_what_was_shortened_before_is_left_alone(work: Enriching, provider: Provider) -> None:
    memories = [
        replace(a_memory(LONG), type="Context", metadata=marks)
        for marks in ({"was_summarized": True}, {"original_content": "more"})
    ]
    await work.store(*memories)
    await work.enrich(*memories)
    await work.ask()
    assert provider.requests == []


@pytest.mark.parametrize(
    "answer",
    ["", "   ", "...", LONG + "!", "nul \x00 inside", "lone \ud800 surrogate"],
)
async def test_a_useless_summary_changes_nothing(
    work: Enriching, provider: Provider, answer: str
) -> None:
    provider.script = [summary(answer)]
    memory = replace(a_memory(LONG), type="Context", confidence=0.6)
    await work.store(memory)
    await work.enrich(memory)
    await work.ask()
    after = await work.now(memory)
    assert (after.content, after.version, after.metadata) == (LONG, memory.version, {})


async def test_a_summary_without_end_is_cut(work: Enriching, provider: Provider) -> None:
    provider.script = [summary("word " * 150)]
    memory = replace(a_memory(LONG), type="Context", confidence=0.6)
    await work.store(memory)
    await work.enrich(memory)
    await work.ask()
    after = await work.now(memory)
    assert len(after.content) <= ApiSettings(_env_file=None).content_soft_chars
    assert after.content.endswith("word…")


async def test_a_useless_summary_does_not_keep_the_type_from_being_requested(
    work: Enriching, provider: Provider
) -> None:
    provider.script = [summary("")]
    memory = with_fallback_type(LONG)
    await work.store(memory)
    await work.enrich(memory)
    await work.ask()
    after = await work.now(memory)
    assert (after.content, after.type) == (LONG, "Habit")


async def test_changes_while_the_model_writes_are_kept(work: Enriching, provider: Provider) -> None:
    memory = replace(a_memory(LONG), type="Context", confidence=0.6)
    other = replace(a_memory(LONG), type="Context", confidence=0.6)
    await work.store(memory, other)
    await work.enrich(memory, other)

    def late(request: Any, body: dict[str, Any]) -> Any:
        async def respond() -> Any:
            if len(provider.requests) == 2:
                await work.patch(memory, tags=["patched"], importance=0.9)
                await work.patch(other, content="patched")
            await wait_until(lambda: len(provider.requests) == 2, "both were sent")
            return summary(SHORT)(request, body)

        return respond()

    provider.otherwise = late
    await work.ask()
    after = await work.now(memory)
    assert (after.content, after.tags, after.importance) == (SHORT, ("patched",), 0.9)
    assert (await work.now(other)).content == "patched"
    assert "original_content" not in (await work.now(other)).metadata
