"""A text that takes too long is given up, and its neighbours are read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from services.enricher.entities import reader, recognizer
from services.enricher.entities.nlp import Annotated, Pipeline
from services.enricher.entities.reader import EntityReader, SlowText
from services.enricher.entities.rules import Word, words_of
from tests.support.waiting.conditions import wait_until

MARKER = "tarpit"


class Plain(Pipeline):
    """A pipeline without a model, which never ends for a text with the marker in `stuck`."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.stuck = stuck

    def annotate(self, texts: Sequence[str]) -> list[Annotated]:
        while self.stuck and any(MARKER in text for text in texts):
            pass
        return [Annotated(text) for text in texts]


@pytest.fixture(autouse=True)
def _small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TEXT_CPU_S", 0.3)


def hanging(text: str) -> list[Word]:
    while MARKER in text:
        pass
    return words_of(text)


def failing(text: str) -> list[Word]:
    if MARKER in text:
        raise ValueError("a bug in a rule")
    return words_of(text)


TEXTS = ["Met with Ada Lovelace", f"a {MARKER}", "Met with Grace Hopper", f"{MARKER} again"]


async def test_each_slow_text_is_given_up_and_the_others_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recognizer, "words_of", hanging)
    found = await EntityReader(Plain()).read(TEXTS)
    assert found == [{"people": ["Ada Lovelace"]}, None, {"people": ["Grace Hopper"]}, None]


async def test_the_loop_goes_on_meanwhile_and_the_next_batch_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recognizer, "words_of", hanging)
    entities = EntityReader(Plain())
    slow = asyncio.create_task(entities.read([TEXTS[1]]))
    assert await entities.read([TEXTS[0]]) == [{"people": ["Ada Lovelace"]}]
    assert not slow.done()
    assert await slow == [None]
    assert await entities.read([TEXTS[2]]) == [{"people": ["Grace Hopper"]}]


async def test_a_model_that_takes_too_long_is_interrupted() -> None:
    pipeline = Plain(stuck=True)
    entities = EntityReader(pipeline)
    with pytest.raises(SlowText):
        await entities.read(TEXTS)
    assert await entities.read([TEXTS[0]]) == [{"people": ["Ada Lovelace"]}]


class Blocked(Pipeline):
    """A pipeline that waits in C, where no exception reaches it, until it is released."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.released = threading.Event()

    def annotate(self, texts: Sequence[str]) -> list[Annotated]:
        self.began.set()
        self.released.wait()
        return [Annotated(text) for text in texts]


@pytest.mark.parametrize("overdue_s", [0.0, 1000.0])
async def test_a_model_that_never_comes_back_is_seen_once_it_is_overdue(
    overdue_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "OVERDUE_S", overdue_s)
    pipeline = Blocked()
    entities = EntityReader(pipeline)
    batches = [asyncio.create_task(entities.read(TEXTS[:1])) for _ in range(2)]
    try:
        await wait_until(pipeline.began.is_set, "the model reads")
        if overdue_s:
            assert entities.is_alive()
        else:
            await wait_until(lambda: not entities.is_alive(), "the model is overdue")
    finally:
        pipeline.released.set()
    assert await asyncio.gather(*batches) == [[{"people": ["Ada Lovelace"]}]] * 2
    assert entities.is_alive()


@pytest.mark.parametrize("texts", [[], [""], ["", "a"]])
async def test_a_batch_without_names_is_read(texts: list[str]) -> None:
    assert await EntityReader(Plain()).read(texts) == [{}] * len(texts)


async def test_a_bug_in_a_rule_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "words_of", failing)
    with pytest.raises(ValueError, match="a bug"):
        await EntityReader(Plain()).read(TEXTS)
