"""Expansion: memories that a result's relations or its people and organizations lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.api.recall.rank import Candidate, Question, Scored, score
from services.api.recall.request import Expansion
from shared.config import RecallSettings
from shared.domain.memory import Memory
from shared.graph.recall.candidates import Link

SEED_SHARE = 0.25
ENTITY_BONUS = 0.15
MOST_ENTITIES = 5
PER_ENTITY = 5
_CATEGORIES = ("people", "organizations")


def important_enough(memory: Memory, wanted: Expansion) -> bool:
    return wanted.min_importance is None or memory.importance >= wanted.min_importance


def by_relations(
    seeds: Sequence[Scored],
    links: Sequence[Link],
    candidates: Mapping[str, Candidate],
    question: Question,
    weights: RecallSettings,
    *,
    at_ms: int,
    limit: int,
) -> list[Scored]:
    """One row per memory reached, in the seeds' order; reached twice it names both roads."""
    rank = {row.id: at for at, row in enumerate(seeds)}
    found: dict[str, Scored] = {}
    for link in links:
        if link.memory.id in rank:
            continue
        if link.memory.id not in found and len(found) >= limit:
            continue
        seed = seeds[rank[link.seed]]
        row = _related(link, seed, found, candidates, question, weights, at_ms)
        found[link.memory.id] = row.with_note(
            related_to=[*_roads(found.get(link.memory.id)), _road(link, rank[link.seed], seed)]
        )
    return list(found.values())


def _related(
    link: Link,
    seed: Scored,
    found: Mapping[str, Scored],
    candidates: Mapping[str, Candidate],
    question: Question,
    weights: RecallSettings,
    at_ms: int,
) -> Scored:
    relation = link.strength + SEED_SHARE * seed.final
    known = found.get(link.memory.id)
    if known is not None and known.components["relation"] >= relation:
        return known
    text = candidates.get(link.memory.id)
    candidate = Candidate(
        id=link.memory.id,
        dense=text.dense if text else 0.0,
        context=text.context if text else 0.0,
        words=text.words if text else 0.0,
        match_type="relation",
        query=seed.candidate.query,
    )
    row = score(link.memory, candidate, question, weights, at_ms=at_ms)
    components = {**row.components, "relation": relation}
    final = row.final + weights.weight_relation * relation
    return Scored(row.memory, candidate, final, components, {"relation_score": relation})


def _roads(row: Scored | None) -> list[object]:
    roads = row.notes.get("related_to") if row else None
    return list(roads) if isinstance(roads, list) else []


def _road(link: Link, rank: int, seed: Scored) -> dict[str, object]:
    road: dict[str, object] = {
        "type": link.type,
        "strength": link.strength,
        "from": link.seed,
        "seed_rank": rank + 1,
        "seed_score": round(seed.final, 6),
    }
    return road if link.kind is None else {**road, "kind": link.kind}


def entity_keys(seeds: Sequence[Scored]) -> list[str]:
    """Entity tags of the seeds' people, then organizations, seed by seed; at most five."""
    found = (
        tag
        for row in seeds
        for category in _CATEGORIES
        for tag in sorted(row.memory.entity_tags)
        if tag.startswith(f"entity:{category}:")
    )
    return list(dict.fromkeys(found))[:MOST_ENTITIES]


def by_entities(
    tagged: Sequence[tuple[str, Memory]],
    known: set[str],
    candidates: Mapping[str, Candidate],
    question: Question,
    weights: RecallSettings,
    *,
    at_ms: int,
) -> list[Scored]:
    """Rows for memories about the same entities that are not among the results yet."""
    found: dict[str, Scored] = {}
    for tag, memory in tagged:
        if memory.id in known or memory.id in found:
            continue
        text = candidates.get(memory.id) or Candidate(memory.id)
        candidate = Candidate(
            memory.id, text.dense, text.context, text.words, "entity_expansion", "graph", text.query
        )
        row = score(memory, candidate, question, weights, at_ms=at_ms)
        found[memory.id] = row.with_score("entity_expansion", ENTITY_BONUS).with_note(
            expanded_from_entity=tag.rpartition(":")[2]
        )
    return list(found.values())
