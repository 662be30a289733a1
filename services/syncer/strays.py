"""Points that stand where a memory's own should: of another tenant, or of none.

No upsert replaces them and no read shows them, so whoever finds a memory without its point
clears the way before it is embedded again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from shared.graph.store import GraphStore
from shared.vectors import Generation, VectorStore


async def make_way(
    graph: GraphStore,
    vectors: VectorStore,
    tenant: str,
    ids: Sequence[str],
    generation: Generation,
) -> None:
    """Delete what stands under these ids of the tenant's memories and is not the tenant's.

    Another tenant's point stays where that tenant's graph holds the memory, too.
    """
    found = await vectors.strays.among(tenant, ids, generation=generation)
    if not found:
        return
    known = await graph.tenants()
    owned, free = defaultdict[str, list[str]](list), []
    for point in found:
        owner = point.payload.get("tenant")
        if isinstance(owner, str) and owner in known:
            owned[owner].append(point.id)
        else:
            free.append(point.id)
    for owner, held in owned.items():
        theirs = await graph.sweeps.present(owner, held)
        free += [key for key in held if key not in theirs]
    await vectors.strays.delete([tenant], free, generation=generation)
