"""What must hold once all work has ended: everything is done, and nothing is stored twice."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from qdrant_client import models

from tests.support.stack.stack import Stack, StoreView, quiet

# Scores are kept as 32-bit floats, and an int8 model differs a little from batch to batch.
_TOLERANCE = 0.01
_THRESHOLD = 0.8


async def finished(stack: Stack, acknowledged: Collection[str], *, tenant: str = "default") -> None:
    """Every acknowledged memory is enriched, embedded and related, and exists once."""
    stores = stack.stores(tenant)
    await stores.all_done(len(acknowledged))
    await quiet(stack)
    ids = {row[0] for row in await stores.rows("MATCH (m:Memory) RETURN m.id")}
    assert not set(acknowledged) - ids, "acknowledged, but gone"
    assert await stores.duplicates() == []
    assert await stores.one_sided() == 0
    points = await stores.points(vectors=True)
    assert points.keys() == ids
    await _nearest_are_linked(stores, points)


async def _nearest_are_linked(stores: StoreView, points: dict[str, models.Record]) -> None:
    """Each memory with a near enough neighbour has an edge to it, or to an equally near one."""
    ids = list(points)
    vectors = np.asarray([_dense(points[key]) for key in ids], np.float32)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    linked = {
        (row[0], row[1])
        for row in await stores.rows("MATCH (a:Memory)-[:SIMILAR_TO]->(b:Memory) RETURN a.id, b.id")
    }
    missing = 0
    for at, key in enumerate(ids):
        best = float(likeness[at].max())
        if best < _THRESHOLD + _TOLERANCE:
            continue
        near = np.flatnonzero(likeness[at] >= best - _TOLERANCE)
        missing += not any((key, ids[other]) in linked for other in near)
    assert missing == 0, f"{missing} memories are not linked with their nearest"
    assert linked, "the texts were meant to have neighbours"


def _dense(point: models.Record) -> list[float]:
    assert isinstance(point.vector, dict)
    vector = point.vector["dense"]
    assert isinstance(vector, list)
    return vector  # type: ignore[return-value]
