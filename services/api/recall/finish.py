"""What happens to a ranked list before it is answered: repeats, recency, floors; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from services.api.recall.rank import Scored, ordered
from services.api.recall.words import query_tokens
from shared.domain.memory import Memory, tag_keys

_GAP_SHARE = 0.25
_FINGERPRINT_CHARS = 320
_MARKUP = re.compile(r"<[^>]{0,320}>|[`*_#>~\[\]()]")
_NOISE = re.compile(r"[\W_]+")
_RECENT_WORDS = frozenset(
    (
        *("latest", "current", "currently", "now", "today", "changed", "newest", "recent"),
        *("recently", "updated", "last", "new"),
    )
)


def deduplicated(rows: Sequence[Scored], most: int | None = None) -> tuple[list[Scored], int]:
    """Without repeats, and how many went; the best of each stays and names the others.

    The same text under other tags or in another session is another memory. What follows the
    first `most` that stay is not looked at.
    """
    best: dict[tuple[object, ...], Scored] = {}
    gone: dict[str, list[str]] = {}
    for row in rows:
        key = likeness(row.memory)
        if key in best:
            gone.setdefault(best[key].id, []).append(row.id)
        elif most is not None and len(best) >= most:
            break
        else:
            best[key] = row
    kept = [
        row.with_note(deduped_from=gone[row.id]) if row.id in gone else row for row in best.values()
    ]
    return kept, sum(map(len, gone.values()))


def likeness(memory: Memory) -> tuple[object, ...]:
    """What repeats have in common: the text without markup, case and punctuation, its context.

    Its own id where nothing is left of the text.
    """
    plain = _NOISE.sub(" ", _MARKUP.sub(" ", memory.content)).strip().lower()
    text = plain[:_FINGERPRINT_CHARS] or memory.id
    return text, frozenset(tag_keys(memory.tags)), memory.session_id, memory.project


def biased(
    rows: Sequence[Scored], mode: str, texts: Sequence[str], weight: float
) -> tuple[list[Scored], bool]:
    """Newer ones raised by at most `weight`, where `mode` or the query's words say so.

    The component `temporal` is the plain share: 1 for the newest, 0 for the oldest.
    """
    on = mode == "on" or (mode == "auto" and bool(_RECENT_WORDS.intersection(query_tokens(texts))))
    if not on or not rows:
        return list(rows), on
    times = [row.memory.timestamp for row in rows]
    first, span = min(times), max(times) - min(times)
    if span == 0:
        return list(rows), on
    raised = [_newer(row, (row.memory.timestamp - first) / span, weight) for row in rows]
    return ordered(raised, "score"), on


def _newer(row: Scored, share: float, weight: float) -> Scored:
    components = {**row.components, "temporal": share}
    return replace(row, final=row.final + weight * share, components=components)


def floored(
    rows: Sequence[Scored], *, adaptive: bool, min_score: float, most: int | None = None
) -> list[Scored]:
    """Cut at the widest gap of the first `most`, if it is wide; then at `min_score`.

    `rows` best first.
    """
    shown = rows[:most]
    above = _above_gap(shown) if adaptive else len(shown)
    upper = rows if above == len(shown) else rows[:above]
    return [row for row in upper if row.final >= min_score]


def _above_gap(rows: Sequence[Scored]) -> int:
    """How many stand above the gap: it must be wider than a quarter of the top, and leave half.

    AutoMem looks in the upper half alone, where only the row past the gap that it keeps can
    make up the half; without that row the gap is looked for in the whole list.
    """
    if len(rows) <= 3 or rows[0].final <= 0:
        return len(rows)
    at = max(range(1, len(rows)), key=lambda n: rows[n - 1].final - rows[n].final)
    gap = rows[at - 1].final - rows[at].final
    if gap <= _GAP_SHARE * rows[0].final or at < len(rows) // 2:
        return len(rows)
    return at
