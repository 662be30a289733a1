"""What a recall is limited to, and whether one memory lies within it.

The vector store and the graph filter by the same Scope before they cut their answers.
`is_visible` applies it again to what the graph holds, so a stale payload cannot leak a memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from shared.domain.memory import Memory, tag_keys, tag_prefixes


@dataclass(frozen=True, slots=True)
class Scope:
    """Which memories a recall may return; an empty or None field allows all.

    `start_ms` and `end_ms` bound `timestamp`, both included. `current_at_ms` hides what is
    archived, not valid yet at that time, or expired by then. A prefix tag matches whole
    `:`-separated segments. An excluded tag also hides every tag that begins with it.
    """

    tags: tuple[str, ...] = ()
    tag_mode: Literal["any", "all"] = "any"
    tag_match: Literal["prefix", "exact"] = "prefix"
    exclude_tags: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    project: str | None = None
    session_id: str | None = None
    layer: str | None = None
    exclude_types: tuple[str, ...] = ()
    current_at_ms: int | None = None

    @property
    def stored_tags(self) -> tuple[str, ...]:
        """`tags` as memories hold them, among tag_prefixes or tag_keys."""
        return tag_keys(self.tags) if self.tag_match == "exact" else longest_prefixes(self.tags)

    def at_any_time(self) -> Scope:
        """Return this scope without the limit to memories that are valid now."""
        return replace(self, current_at_ms=None)

    def with_any_tags(self) -> Scope:
        """Return this scope without the limit to its tags; excluded tags stay excluded."""
        return replace(self, tags=())


EVERYTHING: Final = Scope()


def longest_prefixes(tags: Iterable[str]) -> tuple[str, ...]:
    """Return each tag as its longest entry in tag_prefixes: `Proj/Alpha` becomes `proj:alpha`."""
    return tuple(dict.fromkeys((tag, *tag_prefixes([tag]))[-1] for tag in tag_keys(tags)))


def is_visible(memory: Memory, scope: Scope) -> bool:
    """Return whether the scope allows the memory, by every one of its limits."""
    return (
        memory.type not in scope.exclude_types
        and (scope.current_at_ms is None or hidden_reason(memory, scope.current_at_ms) is None)
        and (scope.start_ms is None or memory.timestamp >= scope.start_ms)
        and (scope.end_ms is None or memory.timestamp <= scope.end_ms)
        and scope.project in (None, memory.project)
        and scope.session_id in (None, memory.session_id)
        and scope.layer in (None, memory.layer)
        and not has_excluded_tag(memory, scope)
        and has_wanted_tags(memory, scope)
    )


def hidden_reason(memory: Memory, at_ms: int) -> str | None:
    """Return why the memory is not current at `at_ms` by its fields; None where it is."""
    if memory.archived:
        return "archived"
    if memory.t_valid is not None and memory.t_valid > at_ms:
        return "not_yet_valid"
    if memory.t_invalid is not None and memory.t_invalid <= at_ms:
        return "expired"
    return None


def has_excluded_tag(memory: Memory, scope: Scope) -> bool:
    """Return whether one of the memory's tags equals or begins with an excluded tag."""
    excluded = tag_keys(scope.exclude_tags)
    return bool(excluded) and any(key.startswith(excluded) for key in tag_keys(memory.all_tags))


def has_wanted_tags(memory: Memory, scope: Scope) -> bool:
    """Return whether the memory has any (or all) of the scope's tags, in any letter case."""
    if not scope.tags:
        return True
    keys_of = tag_keys if scope.tag_match == "exact" else tag_prefixes
    held = set(keys_of(memory.all_tags))
    return (all if scope.tag_mode == "all" else any)(tag in held for tag in scope.stored_tags)
