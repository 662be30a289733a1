"""Expansion: memories that a result's relations, people and organizations lead to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from services.api.recall.rank import Candidate, Scored, Scorer
from services.api.recall.request import Expansion
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
    scorer: Scorer,
    *,
    limit: int,
) -> list[Scored]:
    """Return one row per memory reached, in the seeds' order, with every relation to it.

    Where several relations lead to a memory, the one that scores best counts.
    """
    place = {row.id: at for at, row in enumerate(seeds)}
    found: dict[str, Scored] = {}
    for link in links:
        reached = link.memory.id
        known = found.get(reached)
        if reached in place or (known is None and len(found) >= limit):
            continue
        at = place[link.seed]
        relation = link.strength + SEED_SHARE * seeds[at].final
        row = known
        if row is None or row.components["relation"] < relation:
            row = _related(link, relation, seeds[at], candidates, scorer)
        before = known.notes["related_to"] if known else []
        found[reached] = row.with_note(related_to=[*before, _path(link, at + 1, seeds[at])])
    return list(found.values())


def _related(
    link: Link, relation: float, seed: Scored, candidates: Mapping[str, Candidate], scorer: Scorer
) -> Scored:
    text = candidates.get(link.memory.id) or Candidate(link.memory.id)
    candidate = replace(text, match_type="relation", source="graph", query=seed.candidate.query)
    row = scorer.score(link.memory, candidate)
    weighted = scorer.weights.weight_relation * relation
    return row.with_score("relation", weighted, shown=relation).with_note(relation_score=relation)


def _path(link: Link, rank: int, seed: Scored) -> dict[str, object]:
    path: dict[str, object] = {
        "type": link.type,
        "strength": link.strength,
        "from": link.seed,
        "seed_rank": rank,
        "seed_score": round(seed.final, 6),
    }
    return path if link.kind is None else {**path, "kind": link.kind}


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


def by_entities(
    tagged: Sequence[tuple[str, Memory]],
    present_ids: Collection[str],
    candidates: Mapping[str, Candidate],
    scorer: Scorer,
) -> list[Scored]:
    """Return rows for memories about the same entities that are not among the results yet."""
    found: dict[str, Scored] = {}
    for tag, memory in tagged:
        if memory.id in present_ids or memory.id in found:
            continue
        text = candidates.get(memory.id) or Candidate(memory.id)
        row = scorer.score(memory, replace(text, match_type="entity_expansion", source="graph"))
        found[memory.id] = row.with_score("entity_expansion", ENTITY_BONUS).with_note(
            expanded_from_entity=tag.rpartition(":")[2]
        )
    return list(found.values())
