"""CachedEmbedding: equal questions share one call, and nobody's mistake is kept."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import TransientError
from shared.models.cache import CachedEmbedding
from shared.models.placeholder import PlaceholderEmbedding


class Counting(PlaceholderEmbedding):
    """Counts its questions; may be held up or made to fail."""

    def __init__(self) -> None:
        super().__init__(8)
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failing = False

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        self.asked.append(text)
        await self.open.wait()
        if self.failing:
            raise TransientError("down")
        return await super().embed_query(text)


async def ask(cached: CachedEmbedding, texts: Sequence[str]) -> None:
    for text in texts:
        await cached.embed_query(text)


async def test_a_question_is_asked_once() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    first = await cached.embed_query("a")
    assert await cached.embed_query("a") is first
    assert model.asked == ["a"]
    assert (cached.name, cached.dimension, cached.paid) == (model.name, 8, False)


async def test_the_least_recently_used_goes_first() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    await ask(cached, ["a", "b", "a", "c", "a", "b"])
    assert model.asked == ["a", "b", "c", "b"]
    assert len(cached) == 2


async def test_questions_that_arrive_together_share_a_call() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    model.open.clear()
    waiting = [asyncio.create_task(cached.embed_query("a")) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # who asked first gives up; the others still get their answer
    model.open.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(each, np.ndarray) for each in answers[1:])
    assert model.asked == ["a"]


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    model.failing = True
    answers = await asyncio.gather(
        cached.embed_query("a"), cached.embed_query("a"), return_exceptions=True
    )
    assert all(isinstance(each, TransientError) for each in answers)
    model.failing = False
    assert (await cached.embed_query("a")).shape == (8,)
    assert len(model.asked) == 2


async def test_a_kept_vector_cannot_be_changed() -> None:
    vector = await CachedEmbedding(Counting(), 2).embed_query("a")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1


async def test_closing_ends_what_is_being_asked() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    model.open.clear()
    waiting = asyncio.create_task(cached.embed_query("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cached.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
