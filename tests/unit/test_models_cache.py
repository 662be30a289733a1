"""CachedEmbedding: equal questions share one call, and nobody's mistake is kept."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from shared.errors import PermanentError, TransientError
from shared.models.cache import CachedEmbedding
from shared.models.providers.placeholder import PlaceholderEmbedding


class Counting(PlaceholderEmbedding):
    """Counts its questions; may be held up or made to fail."""

    def __init__(self) -> None:
        super().__init__(8)
        self.sent_texts: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failing = False

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        self.sent_texts.append(text)
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
    assert model.sent_texts == ["a"]
    assert (cached.name, cached.dimension, cached.paid) == (model.name, 8, False)


async def test_the_least_recently_used_goes_first() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    await ask(cached, ["a", "b", "a", "c", "a", "b"])
    assert model.sent_texts == ["a", "b", "c", "b"]


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
    assert model.sent_texts == ["a"]


async def test_a_failure_is_raised_for_all_and_not_kept() -> None:
    model = Counting()
    cached = CachedEmbedding(model, 2)
    model.failing = True
    answers = await asyncio.gather(
        cached.embed_query("a"), cached.embed_query("a"), return_exceptions=True
    )
    assert all(isinstance(each, TransientError) for each in answers)
    model.failing = False
    assert (await cached.embed_query("a")).shape == (8,)
    assert len(model.sent_texts) == 2


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


class Paid(PlaceholderEmbedding):
    """Counts the texts that a provider would charge; waits for its gate; refuses `bad` texts."""

    def __init__(self, dimension: int = 8) -> None:
        super().__init__(dimension)
        self.paid_for: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.bad = ""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.paid_for += texts
        await self.open.wait()
        if self.bad in texts:
            raise PermanentError("refused")
        return await super().embed(texts)


async def right(cached: CachedEmbedding, texts: Sequence[str]) -> None:
    expected = await PlaceholderEmbedding(cached.dimension).embed(texts)
    np.testing.assert_array_equal(await cached.embed(texts), expected)


async def test_no_text_is_paid_for_twice() -> None:
    model = Paid()
    cached = CachedEmbedding(model, documents=10)
    await right(cached, ["a", "b", "a"])
    await right(cached, ["b", "c", "a", "c"])
    assert model.paid_for == ["a", "b", "c"]
    assert (await cached.embed([])).shape == (0, 8)


async def test_batches_at_the_same_time_pay_once() -> None:
    model = Paid()
    cached = CachedEmbedding(model, documents=0)  # not even where nothing is kept
    model.open.clear()
    batches = [["a", "b"], ["b", "c"], ["c", "a"], ["a"]]
    calls = [asyncio.create_task(right(cached, texts)) for texts in batches]
    for _ in range(5):
        await asyncio.sleep(0)
    model.open.set()
    await asyncio.gather(*calls)
    assert model.paid_for == ["a", "b", "c"]


async def test_a_neighbours_refusal_fails_no_other_call() -> None:
    model = Paid()
    cached = CachedEmbedding(model, documents=10)
    model.bad = "bad"
    model.open.clear()
    theirs = asyncio.create_task(cached.embed(["a", "bad"]))
    await asyncio.sleep(0)
    own_call = asyncio.create_task(right(cached, ["a"]))
    gone = asyncio.create_task(cached.embed(["bad"]))
    await asyncio.sleep(0)
    gone.cancel()  # who gives up takes nothing from the others
    model.open.set()
    with pytest.raises(PermanentError):
        await theirs
    await own_call
    assert model.paid_for == ["a", "bad", "a"]


async def test_a_cancelled_batch_leaves_its_texts_to_the_others() -> None:
    model = Paid()
    cached = CachedEmbedding(model, documents=10)
    model.open.clear()
    theirs = asyncio.create_task(cached.embed(["a"]))
    await asyncio.sleep(0)
    own_call = asyncio.create_task(right(cached, ["a"]))
    await asyncio.sleep(0)
    theirs.cancel()
    await asyncio.gather(theirs, return_exceptions=True)
    model.open.set()
    await own_call


async def test_the_oldest_documents_go_first_by_number_and_by_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Paid()
    cached = CachedEmbedding(model, documents=2)
    for texts in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        await right(cached, texts)
    assert model.paid_for == ["a", "b", "c", "b"]
    monkeypatch.setattr("shared.models.cache._MAX_BYTES", 3 * 8 * 4)
    small = CachedEmbedding(Paid(), documents=1000)
    await right(small, [str(number) for number in range(20)])
    assert len(small._documents._vectors) == 3


async def test_what_is_done_to_an_answer_changes_no_other() -> None:
    cached = CachedEmbedding(Paid(), documents=10)
    (await cached.embed(["a"]))[:] = 0
    await right(cached, ["a"])


async def test_hits_and_misses_are_counted() -> None:
    def count(result: str) -> float:
        labels = {"model": "placeholder-24", "kind": "document", "result": result}
        return REGISTRY.get_sample_value("eunoe_model_cache_total", labels) or 0.0

    cached = CachedEmbedding(Paid(24), documents=10)
    await cached.embed(["a", "b", "a"])
    await cached.embed(["a", "c"])
    assert (count("hit"), count("miss")) == (1, 3)
