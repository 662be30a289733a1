"""A memory whose text takes too long lies with the dead; its neighbours are enriched."""

from __future__ import annotations

import pytest

from services.enricher.entities import reader, recognizer
from services.enricher.entities.nlp import Annotated
from services.enricher.entities.rules import Word, words_of
from shared.streams.job import Job, Stage
from tests.support.stores.graphs import TENANT
from tests.support.waiting.conditions import wait_until
from tests.support.workers.enriching import Enriching, typed_by_rule
from tests.support.workers.working import consuming

MARKER = "tarpit"


def hanging(text: str) -> list[Word]:
    while MARKER in text:
        pass
    return words_of(text)


def hanging_model(self: object, texts: list[str]) -> list[Annotated]:
    while any(MARKER in text for text in texts):
        pass
    return [Annotated(text) for text in texts]


@pytest.mark.parametrize("where", ["rule", "model"])
async def test_only_the_slow_text_is_dead_lettered(
    work: Enriching, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TEXT_CPU_S", 0.3)
    if where == "rule":
        monkeypatch.setattr(recognizer, "words_of", hanging)
    else:
        monkeypatch.setattr("services.enricher.entities.nlp.Pipeline.annotate", hanging_model)
    slow = typed_by_rule(f"Met with Ada Lovelace at the {MARKER}")
    others = [typed_by_rule(f"Met with Grace Hopper, {n} times") for n in range(6)]
    memories = [*others[:3], slow, *others[3:]]
    await work.store(*memories)
    stream = work.streams[Stage.ENRICH]
    await stream.publish([Job(TENANT, each.id, each.version) for each in memories])
    async with consuming(stream, work.enricher, on_failures=work.enricher.failed):

        async def is_settled() -> bool:
            return (await stream.depth()).live == 0

        await wait_until(is_settled, "every job is settled")
    for memory in others:
        after = await work.now(memory)
        assert (after.enriched, after.entities) == (True, {"people": ["Grace Hopper"]})
    assert not (await work.now(slow)).enriched
    [letter] = await stream.dead(limit=10)
    assert letter.job is not None
    assert (letter.job.memory_id, letter.reason) == (slow.id, "permanent")
    assert "CPU" in letter.error
    texts = [event for event in await work.event_texts() if slow.id in event]
    assert any("enrichment.failed" in event for event in texts)
    assert not any("enrichment.complete" in event for event in texts)
