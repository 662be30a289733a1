"""The types of relations between nodes of the graph, and who may write each."""

from __future__ import annotations

# Clients author these with POST /associate.
AUTHORED = (
    *("RELATES_TO", "LEADS_TO", "OCCURRED_BEFORE", "PREFERS_OVER", "EXEMPLIFIES", "CONTRADICTS"),
    *("REINFORCES", "INVALIDATED_BY", "EVOLVED_INTO", "DERIVED_FROM", "PART_OF"),
)
# Only workers write these.
WORKERS = ("SIMILAR_TO", "PRECEDED_BY", "DISCOVERED", "REFERENCED_IN", "SUMMARIZES")
RELATIONS = (*AUTHORED, *WORKERS)
# A memory with an edge of these to an active memory is not current any more.
SUPERSEDING = ("INVALIDATED_BY", "EVOLVED_INTO")
