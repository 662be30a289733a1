"""Current mode: what is archived, expired or superseded makes way for what replaced it; pure.

What an edge says is superseded gives its place, and its score, to the head of its chain, also
where its own fields hide it: clients end a memory's validity and add the edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.api.recall.rank import Scored
from shared.domain.scope import hidden_reason
from shared.graph.recall.candidates import StoredCandidate
from shared.graph.records import Successor

# So many memories of a chain are read one by one; those that were found anyway come free.
MOST_HOPS = 16


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


def superseding(known: StoredCandidate, at_ms: int) -> Successor | None:
    """The first active memory that supersedes this one, by id; None where it stands."""
    found = [
        each for each in known.successors if active(each, at_ms) and each.id != known.memory.id
    ]
    return min(found, key=lambda each: each.id, default=None)


def wanted_heads(known: Mapping[str, StoredCandidate], at_ms: int) -> list[str]:
    """Superseding memories that are not among `known` yet."""
    nexts = (superseding(each, at_ms) for each in known.values())
    return sorted({each.id for each in nexts if each is not None and each.id not in known})


def head_of(memory_id: str, known: Mapping[str, StoredCandidate], at_ms: int) -> str | None:
    """Where the chain from `memory_id` ends; None where that is not known.

    A cycle has no newest one: it ends before it would repeat, so that not all of it is hidden.
    """
    seen = {memory_id}
    at = memory_id
    while at in known:
        step = superseding(known[at], at_ms)
        if step is None or step.id in seen:
            return at
        seen.add(step.id)
        at = step.id
    return None


def settle(
    rows: Sequence[Scored],
    known: Mapping[str, StoredCandidate],
    allowed: Iterable[str],
    *,
    at_ms: int,
) -> tuple[list[Scored], list[Suppressed]]:
    """`rows` without what is hidden, each replaced by its chain's head; its best score counts.

    `allowed` are the ids that may be answered; a head outside is left out. What was hidden
    comes in the order of `rows`.
    """
    passing = set(allowed)
    kept: dict[str, Scored] = {}
    hidden: list[Suppressed] = []
    for row in rows:
        step = superseding(known[row.id], at_ms) if row.id in known else None
        reason = hidden_reason(row.memory, at_ms) or ("superseded" if step else None)
        if reason is None:
            _keep(kept, row)
        elif step is None:
            hidden.append(Suppressed(row.id, reason))
        else:
            head = head_of(row.id, known, at_ms)
            hidden.append(Suppressed(row.id, reason, head, step.type))
            if head is not None and head in passing:
                _keep(kept, _in_place_of(row, known[head], step))
    return list(kept.values()), hidden


def _keep(kept: dict[str, Scored], row: Scored) -> None:
    if row.id not in kept or row.final > kept[row.id].final:
        kept[row.id] = row


def _in_place_of(row: Scored, head: StoredCandidate, step: Successor) -> Scored:
    candidate = replace(
        row.candidate, id=head.memory.id, match_type="state_replacement", source="graph"
    )
    road = {"type": step.type, "strength": step.strength, "from": row.id}
    return replace(row, memory=head.memory, candidate=candidate).with_note(
        state_replaces=row.id, state_relation=step.type, state_road=[road]
    )
