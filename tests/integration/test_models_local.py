"""The bundled model: its vectors mean something, and nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from shared.models.providers.local import LocalEmbedding, _slices

PARAPHRASES = [
    ("Anna moved to Berlin last spring", "Last spring Anna relocated to Berlin"),
    ("The deployment failed because the disk was full", "No space left on disk broke the release"),
    ("I adopted a puppy", "I have a new little dog"),
    ("We decided to use Redis for the queue", "Redis was chosen as our message queue"),
]


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[LocalEmbedding]:
    loaded = await LocalEmbedding.load()
    yield loaded
    await loaded.close()


async def test_paraphrases_are_close_and_strangers_are_not(model: LocalEmbedding) -> None:
    left = await model.embed([pair[0] for pair in PARAPHRASES])
    right = await model.embed([pair[1] for pair in PARAPHRASES])
    cosines = left @ right.T
    same = np.diag(cosines)
    others = cosines[~np.eye(len(PARAPHRASES), dtype=bool)]
    assert same.min() > 0.55
    assert others.max() < 0.35


async def test_a_vector_does_not_depend_on_its_batch(model: LocalEmbedding) -> None:
    texts = ["short", "a somewhat longer text about a bridge", "word " * 400, "short"]
    together = await model.embed(texts)
    alone = np.stack([await model.embed_query(text) for text in texts])
    assert together.shape == (4, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ["", "   ", "\U0001f600" * 50, "日本語" * 800, "\x01\x02"])
async def test_any_text_has_a_vector(model: LocalEmbedding, text: str) -> None:
    vector = await model.embed_query(text)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


async def test_nothing_to_embed_is_nothing(model: LocalEmbedding) -> None:
    assert (await model.embed([])).shape == (0, 384)


async def test_a_question_does_not_wait_for_a_batch(model: LocalEmbedding) -> None:
    batch = asyncio.create_task(
        model.embed([f"memory number {at} of many" * 3 for at in range(150)])
    )
    await asyncio.sleep(0.05)  # so that the batch is under way
    await model.embed_query("where is it?")
    assert not batch.done(), "the question was answered first"
    await batch


def test_slices_hold_every_row_once_and_little_padding() -> None:
    lengths = [5, 250, 7, 30, 31, 250, 6, 120] * 5
    slices = list(_slices(lengths))
    assert sorted(row for rows in slices for row in rows) == list(range(len(lengths)))
    for rows in slices:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= 192
