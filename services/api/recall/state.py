"""Current mode: what is archived, expired or superseded makes way for what replaced it; pure.

A superseded memory's place, and its score, go to the head of its chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.api.recall.rank import Scored, suppression
from shared.graph.candidates import Candidate as Known
from shared.graph.nodes import Successor

MOST_HOPS = 5


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A memory that current mode hides, why, and by which relation to what."""

    id: str
    reason: str
    replacement_id: str | None = None
    relation_type: str | None = None


def active(successor: Successor, at_ms: int) -> bool:
    """Whether a superseding memory holds now."""
    begun = successor.t_valid is None or successor.t_valid <= at_ms
    ended = successor.t_invalid is not None and successor.t_invalid <= at_ms
    return not successor.archived and begun and not ended


def superseding(known: Known, at_ms: int) -> Successor | None:
    """The first active memory that supersedes this one, by id; None where it stands."""
    found = [
        each for each in known.successors if active(each, at_ms) and each.id != known.memory.id
    ]
    return min(found, key=lambda each: each.id, default=None)


def wanted_heads(known: Mapping[str, Known], at_ms: int) -> list[str]:
    """Superseding memories that are not among `known` yet."""
    nexts = (superseding(each, at_ms) for each in known.values())
    return sorted({each.id for each in nexts if each is not None and each.id not in known})


def head_of(memory_id: str, known: Mapping[str, Known], at_ms: int) -> str | None:
    """Where the chain from `memory_id` ends; None for a cycle or a chain that is too long."""
    seen = {memory_id}
    at = memory_id
    # Once more than there are hops: at the end of the last one it is looked whether it stands.
    for _ in range(MOST_HOPS + 1):
        if at not in known:
            return None
        step = superseding(known[at], at_ms)
        if step is None:
            return at
        if step.id in seen:
            return None
        seen.add(step.id)
        at = step.id
    return None


def settle(
    rows: Sequence[Scored], known: Mapping[str, Known], allowed: Iterable[str], *, at_ms: int
) -> tuple[list[Scored], list[Suppressed]]:
    """`rows` with every superseded one replaced by its chain's head, best score first kept.

    `allowed` are the ids that pass the request's other filters; a head outside is left out.
    """
    passing = set(allowed)
    kept: dict[str, Scored] = {}
    hidden: list[Suppressed] = []
    for row in rows:
        step = superseding(known[row.id], at_ms) if row.id in known else None
        if step is None:
            _keep(kept, row)
            continue
        head = head_of(row.id, known, at_ms)
        hidden.append(Suppressed(row.id, "superseded", head, step.type))
        if head is not None and head in passing:
            _keep(kept, _in_place_of(row, known[head], step.type))
    return list(kept.values()), hidden


def expired(known: Mapping[str, Known], at_ms: int) -> list[Suppressed]:
    """What its own fields hide."""
    reasons = ((key, suppression(each.memory, at_ms)) for key, each in known.items())
    return [Suppressed(key, reason) for key, reason in reasons if reason is not None]


def _keep(kept: dict[str, Scored], row: Scored) -> None:
    if row.id not in kept or row.final > kept[row.id].final:
        kept[row.id] = row


def _in_place_of(row: Scored, head: Known, relation: str) -> Scored:
    candidate = replace(
        row.candidate, id=head.memory.id, match_type="state_replacement", source="graph"
    )
    return replace(row, memory=head.memory, candidate=candidate).noted(
        state_replaces=row.id, state_relation=relation
    )
