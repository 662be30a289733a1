"""What the routes of entities answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from services.api.http.answers import Absent, Answer, Success, Time, attribute

_SourceTags = Annotated[tuple[str, ...], BeforeValidator(lambda entity_id: (entity_id,))]


class MergeAnswer(Answer):
    """What was merged into what, by ids."""

    canonical: str
    alias: str
    alias_slug: str
    edges_moved: int


class AcceptedEntityAnswer(Answer):
    """An entity that passed every check."""

    id: str
    category: str
    slug: str
    name: str
    source_tags: _SourceTags = attribute("id")
    references: int
    confidence: float = 1.0


class RejectedEntityAnswer(Answer):
    """An entity that deserves a look."""

    tag: str = attribute("id")
    category: str
    slug: str
    reason: str
    references: int


class EntityAnswer(Answer):
    """An entity; `reference_count` memories name it."""

    id: str
    slug: str
    category: str
    name: str
    aliases: tuple[str, ...]
    identity: str | None
    identity_version: int
    identity_updated_at: Time | None
    identity_source_count: int
    reference_count: int = attribute("references")
    created_at: Time | None
    last_referenced_at: Time | None


class EntityListAnswer(Success):
    """The most referenced first."""

    entities: list[EntityAnswer]
    count: int


class EntityFoundAnswer(Success):
    """An entity."""

    entity: EntityAnswer


class MergeCandidateAnswer(Answer):
    """Two entities, by id, that may be the same."""

    entity_a: str
    entity_b: str
    canonical: str
    alias: str
    confidence: float
    reason: str
    auto_merge: bool


class MergeCandidatesAnswer(Success):
    """The surest first."""

    candidates: list[MergeCandidateAnswer]
    count: int


class MergedAnswer(Success):
    """A merge that is done."""

    merge: MergeAnswer


class AuditAnswer(Success):
    """A dry run's report; the rows are samples under other keys where `summary` is true."""

    dry_run: Literal[True] = True
    accepted: Absent[list[AcceptedEntityAnswer]] = None
    rejected_entities: Absent[list[RejectedEntityAnswer]] = None
    accepted_sample: Absent[list[AcceptedEntityAnswer]] = None
    rejected_sample: Absent[list[RejectedEntityAnswer]] = None
    merge_candidates: list[MergeCandidateAnswer]
    counts: dict[str, int]
    counts_by_reason: dict[str, int]
    counts_by_category: dict[str, dict[str, int]]
    summary: bool
    limit: int
    offset: int
    merge_candidates_skipped: bool
