"""Expansion: memories that a result's relations, people and organizations lead to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.api.recall.rank import Candidate, Draft, Scored
from shared.domain.memory import Memory
from shared.graph.recall.candidates import Link

SEED_SHARE = 0.25
ENTITY_BONUS = 0.15
MOST_ENTITIES = 5
PER_ENTITY = 5
_CATEGORIES = ("people", "organizations")


def by_relations(draft: Draft, links: Sequence[Link], limit: int) -> list[Scored]:
    """Return one row per memory reached, in the draft's order, with every relation to it.

    Where several relations lead to a memory, the one that scores best counts.
    """
    place = {row.id: at for at, row in enumerate(draft.rows)}
    found: dict[str, Scored] = {}
    for link in links:
        known = found.get(link.memory.id)
        if link.memory.id in place or (known is None and len(found) >= limit):
            continue
        rank = place[link.seed]
        seed = draft.rows[rank]
        relation = link.strength + SEED_SHARE * seed.final
        row = known
        if row is None or row.components["relation"] < relation:
            row = _related(draft, link.memory, relation, seed.candidate.query)
        path = {
            "type": link.type,
            "strength": link.strength,
            "from": link.seed,
            "seed_rank": rank + 1,
            "seed_score": round(seed.final, 6),
            **({} if link.kind is None else {"kind": link.kind}),
        }
        before = known.notes["related_to"] if known else []
        found[link.memory.id] = row.with_note(related_to=[*before, path])
    return list(found.values())


def _related(draft: Draft, memory: Memory, relation: float, query: str) -> Scored:
    row = _reached(draft, memory, match_type="relation", query=query)
    weighted = draft.settings.weight_relation * relation
    return row.with_score("relation", weighted, reported=relation).with_note(
        relation_score=relation
    )


def _reached(draft: Draft, memory: Memory, **fields: Any) -> Scored:
    text = draft.candidates.get(memory.id) or Candidate(memory.id)
    return draft.scorer.score(memory, replace(text, source="graph", **fields))


def entity_keys(seeds: Sequence[Scored]) -> list[str]:
    """Return at most five entity tags, seed by seed: its people, then its organizations."""
    found = (
        tag
        for row in seeds
        for category in _CATEGORIES
        for tag in sorted(row.memory.entity_tags)
        if tag.startswith(f"entity:{category}:")
    )
    return list(dict.fromkeys(found))[:MOST_ENTITIES]


def by_entities(draft: Draft, tagged: Sequence[tuple[str, Memory]]) -> list[Scored]:
    """Return rows for memories about the same entities that are not among the results yet."""
    present_ids = {row.id for row in draft.rows}
    found: dict[str, Scored] = {}
    for tag, memory in tagged:
        if memory.id not in present_ids and memory.id not in found:
            row = _reached(draft, memory, match_type="entity_expansion")
            found[memory.id] = row.with_score("entity_expansion", ENTITY_BONUS).with_note(
                expanded_from_entity=tag.rpartition(":")[2]
            )
    return list(found.values())
