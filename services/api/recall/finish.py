"""The last steps on ranked rows: replace superseded ones, drop duplicates, prefer newer rows, cut.

A superseded memory gives its place and its score to the newest of its chain. So does one that
its own fields hide: clients end a memory's validity and add the edge. All functions are pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from services.api.recall.rank import Scored, Suppressed, ordered
from services.api.recall.words import RECENT_WORDS, query_tokens
from shared.domain.memory import Memory, tag_keys
from shared.domain.scope import hidden_reason
from shared.graph.recall.candidates import StoredCandidate, Successor

_GAP_SHARE = 0.25
_FINGERPRINT_CHARS = 320
_MARKUP = re.compile(r"<[^>]{0,320}>|[`*_#>~\[\]()]")
_NOISE = re.compile(r"[\W_]+")


def newest_of_chain(memory_id: str, stored: Mapping[str, StoredCandidate]) -> str | None:
    """Return the id at which the chain from `memory_id` ends; None where that was not read.

    A cycle ends before its first repetition, so that one of its memories stays visible.
    """
    seen = {memory_id}
    at = memory_id
    while at in stored:
        step = stored[at].successor
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
        step = stored[row.id].successor if row.id in stored else None
        reason = hidden_reason(row.memory, at_ms) or ("superseded" if step else None)
        if reason is None:
            _keep_best(kept, row)
        elif step is None:
            hidden.append(Suppressed(row.id, reason))
        else:
            newest = newest_of_chain(row.id, stored)
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


def deduplicated(rows: Sequence[Scored], most: int | None = None) -> tuple[list[Scored], int]:
    """Return the rows without duplicates, and how many were removed.

    The first of several stays and notes the ids of the others. The same text with other tags
    or in another session is no duplicate. The scan ends at the row after `most` kept ones.
    """
    best: dict[tuple[object, ...], Scored] = {}
    removed: dict[str, list[str]] = {}
    for row in rows:
        key = fingerprint(row.memory)
        if key in best:
            removed.setdefault(best[key].id, []).append(row.id)
        elif most is not None and len(best) >= most:
            break
        else:
            best[key] = row
    kept = [
        row.with_note(deduped_from=removed[row.id]) if row.id in removed else row
        for row in best.values()
    ]
    return kept, sum(map(len, removed.values()))


def fingerprint(memory: Memory) -> tuple[object, ...]:
    """Return the key that duplicates share: their text without markup and case, and context.

    If no text is left, the memory's own id takes its place.
    """
    plain = _NOISE.sub(" ", _MARKUP.sub(" ", memory.content)).strip().lower()
    text = plain[:_FINGERPRINT_CHARS] or memory.id
    return text, frozenset(tag_keys(memory.tags)), memory.session_id, memory.project


def biased(
    rows: Sequence[Scored], mode: str, texts: Sequence[str], weight: float
) -> tuple[list[Scored], bool]:
    """Raise newer rows by at most `weight` where `mode` or the words of the query ask for it.

    The component `temporal` is not weighted: 1 for the newest row, 0 for the oldest.
    """
    on = mode == "on" or (mode == "auto" and bool(RECENT_WORDS.intersection(query_tokens(texts))))
    if not on or not rows:
        return list(rows), on
    times = [row.memory.timestamp for row in rows]
    oldest, span = min(times), max(times) - min(times)
    if span == 0:
        return list(rows), on
    shares = [(time - oldest) / span for time in times]
    with_recency = [
        row.with_score("temporal", weight * share, reported=share)
        for row, share in zip(rows, shares, strict=True)
    ]
    return ordered(with_recency, "score"), on


def floored(
    rows: Sequence[Scored], *, adaptive: bool, min_score: float, most: int | None = None
) -> list[Scored]:
    """Return the rows that score enough; `rows` come best first.

    With `adaptive`, the rows below a wide gap in the scores of the first `most` are dropped; in
    any case, those below `min_score`.
    """
    first = rows[:most]
    above = _above_gap(first) if adaptive else len(first)
    upper = rows if above == len(first) else rows[:above]
    return [row for row in upper if row.final >= min_score]


def _above_gap(rows: Sequence[Scored]) -> int:
    """Count the rows above the widest gap between two scores; all rows if it does not count.

    The gap counts if it exceeds a quarter of the top score and leaves at least half of the rows.
    AutoMem also keeps the row just below the gap; this function drops it.
    """
    if len(rows) <= 3 or rows[0].final <= 0:
        return len(rows)
    at = max(range(1, len(rows)), key=lambda n: rows[n - 1].final - rows[n].final)
    gap = rows[at - 1].final - rows[at].final
    if gap <= _GAP_SHARE * rows[0].final or at < len(rows) // 2:
        return len(rows)
    return at
