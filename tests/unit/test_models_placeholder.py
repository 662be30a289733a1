"""Placeholder vectors: deterministic, unit length, and not alike."""

import numpy as np

from shared.models.providers.placeholder import PlaceholderEmbedding


async def test_equal_texts_are_equal_and_others_are_far_apart() -> None:
    model = PlaceholderEmbedding(384)
    texts = [f"memory {at}" for at in range(200)]
    vectors = await model.embed(texts)
    np.testing.assert_array_equal(vectors, await PlaceholderEmbedding(384).embed(texts))
    np.testing.assert_array_equal(vectors[7], await model.embed_query("memory 7"))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = vectors @ vectors.T - np.eye(200)
    assert np.abs(cosines).max() < 0.35


async def test_any_dimension_is_served_under_a_name_of_its_own() -> None:
    model = PlaceholderEmbedding(7)
    assert (await model.embed([])).shape == (0, 7)
    assert (await model.embed(["x"])).dtype == np.float32
    assert model.name != PlaceholderEmbedding(8).name
