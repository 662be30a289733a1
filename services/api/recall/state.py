"""Current mode: hide what is archived, expired or superseded; show what superseded it. Pure.

A superseded memory gives its place and its score to the newest of its chain. So does one that
its own fields hide: clients end a memory's validity and add the edge.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from services.api.recall.rank import Scored
from shared.domain.scope import hidden_reason
from shared.graph.recall.candidates import StoredCandidate
from shared.graph.records import Successor


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A memory that current mode hides, why, and by which relation to what."""

    id: str
    reason: str
    replacement_id: str | None = None
    relation_type: str | None = None


def active(successor: Successor, at_ms: int) -> bool:
    """Return whether a superseding memory is valid at `at_ms`."""
    begun = successor.t_valid is None or successor.t_valid <= at_ms
    ended = successor.t_invalid is not None and successor.t_invalid <= at_ms
    return not successor.archived and begun and not ended


def superseding(stored: StoredCandidate, at_ms: int) -> Successor | None:
    """Return the active memory that supersedes this one, the first by id, if there is one."""
    found = [
        each for each in stored.successors if active(each, at_ms) and each.id != stored.memory.id
    ]
    return min(found, key=lambda each: each.id, default=None)


def unread_successors(stored: Mapping[str, StoredCandidate], at_ms: int) -> list[str]:
    """Return the ids of superseding memories that are not in `stored` yet."""
    nexts = (superseding(each, at_ms) for each in stored.values())
    return sorted({each.id for each in nexts if each is not None and each.id not in stored})


def newest_of_chain(
    memory_id: str, stored: Mapping[str, StoredCandidate], at_ms: int
) -> str | None:
    """Return the id at which the chain from `memory_id` ends; None where that was not read.

    A cycle ends before its first repetition, so that one of its memories stays visible.
    """
    seen = {memory_id}
    at = memory_id
    while at in stored:
        step = superseding(stored[at], at_ms)
        if step is None or step.id in seen:
            return at
        seen.add(step.id)
        at = step.id
    return None


def replace_superseded(
    rows: Sequence[Scored],
    stored: Mapping[str, StoredCandidate],
    allowed_ids: Collection[str],
    *,
    at_ms: int,
) -> tuple[list[Scored], list[Suppressed]]:
    """Drop hidden rows and replace superseded ones by the newest of their chains.

    A replacement that is not among `allowed_ids` is left out; of rows with one replacement the
    best score counts. Returns the rows, and what was hidden in the order of `rows`.
    """
    kept: dict[str, Scored] = {}
    hidden: list[Suppressed] = []
    for row in rows:
        step = superseding(stored[row.id], at_ms) if row.id in stored else None
        reason = hidden_reason(row.memory, at_ms) or ("superseded" if step else None)
        if reason is None:
            _keep_best(kept, row)
        elif step is None:
            hidden.append(Suppressed(row.id, reason))
        else:
            newest = newest_of_chain(row.id, stored, at_ms)
            hidden.append(Suppressed(row.id, reason, newest, step.type))
            if newest is not None and newest in allowed_ids:
                _keep_best(kept, _in_place_of(row, stored[newest], step))
    return list(kept.values()), hidden


def _keep_best(kept: dict[str, Scored], row: Scored) -> None:
    if row.id not in kept or row.final > kept[row.id].final:
        kept[row.id] = row


def _in_place_of(row: Scored, newest: StoredCandidate, step: Successor) -> Scored:
    candidate = replace(
        row.candidate, id=newest.memory.id, match_type="state_replacement", source="graph"
    )
    relation = {"type": step.type, "strength": step.strength, "from": row.id}
    return replace(row, memory=newest.memory, candidate=candidate).with_note(
        state_replaces=row.id, state_relation=step.type, state_path=[relation]
    )
