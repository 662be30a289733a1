"""What happens to a ranked list before it is answered: repeats, recency, floors; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.api.recall.rank import Scored, ordered
from services.api.recall.words import query_tokens
from shared.memory import tag_keys

_BIAS = 0.1
_GAP_SHARE = 0.25
_FINGERPRINT_CHARS = 320
_MARKUP = re.compile(r"<[^>]*>|[`*_#>~\[\]()]")
_NOISE = re.compile(r"[\W_]+")
_RECENT_WORDS = frozenset(
    (
        *("latest", "current", "currently", "now", "today", "changed", "newest", "recent"),
        *("recently", "updated", "last", "new"),
    )
)


def deduplicated(rows: Sequence[Scored]) -> tuple[list[Scored], int]:
    """Without repeats, and how many went; the best of each stays and names the others.

    The same text under other tags or in another session is another memory.
    """
    best: dict[tuple[object, ...], Scored] = {}
    gone: dict[str, list[str]] = {}
    for row in rows:
        key = (*fingerprint(row), *_context(row))
        if key in best:
            gone.setdefault(best[key].id, []).append(row.id)
        else:
            best[key] = row
    kept = [
        row.noted(deduped_from=gone[row.id]) if row.id in gone else row for row in best.values()
    ]
    return kept, len(rows) - len(kept)


def fingerprint(row: Scored) -> tuple[str]:
    """The text without markup, case and punctuation; its own id where nothing is left."""
    plain = _NOISE.sub(" ", _MARKUP.sub(" ", row.memory.content)).strip().lower()
    return (plain[:_FINGERPRINT_CHARS] or row.id,)


def _context(row: Scored) -> tuple[object, ...]:
    return frozenset(tag_keys(row.memory.tags)), row.memory.session_id, row.memory.project


def biased(rows: Sequence[Scored], mode: str, texts: Sequence[str]) -> tuple[list[Scored], bool]:
    """Newer ones raised by at most a tenth, where `mode` or the query's words say so."""
    on = mode == "on" or (mode == "auto" and bool(_RECENT_WORDS.intersection(query_tokens(texts))))
    if not on or not rows:
        return list(rows), on
    times = [row.memory.timestamp for row in rows]
    first, span = min(times), max(times) - min(times)
    if span == 0:
        return list(rows), on
    raised = [row.raised("temporal", _BIAS * (row.memory.timestamp - first) / span) for row in rows]
    return ordered(raised, "score"), on


def floored(
    rows: Sequence[Scored], *, adaptive: bool, min_score: float
) -> tuple[list[Scored], int]:
    """Cut at the widest gap of the upper half, if it is wide; then at `min_score`."""
    kept = _above_gap(rows) if adaptive else list(rows)
    kept = [row for row in kept if row.final >= min_score]
    return kept, len(rows) - len(kept)


def _above_gap(rows: Sequence[Scored]) -> list[Scored]:
    """Rows above the gap: it must be wider than a quarter of the top, and leave half."""
    if len(rows) <= 3 or rows[0].final <= 0:
        return list(rows)
    reach = range(1, max(3, len(rows) // 2))
    at = max(reach, key=lambda n: rows[n - 1].final - rows[n].final)
    gap = rows[at - 1].final - rows[at].final
    if gap <= _GAP_SHARE * rows[0].final or at * 2 < len(rows) - 1:
        return list(rows)
    return list(rows[:at])
