"""What the routes for operators answer; see `shapes`."""

from __future__ import annotations

from collections.abc import Mapping

from services.api.json_schema import (
    ANY,
    FLAG,
    ID,
    IDS,
    MAYBE_TEXT,
    MAYBE_TIME,
    MAYBE_WHOLE,
    NUMBER,
    SUCCESS,
    TEXT,
    TIME,
    WHOLE,
    Schema,
    list_of,
    object_of,
    one_of,
)

_FAILED: Schema = {"failed_ids": IDS, "failed_ids_truncated": FLAG}
_RUN = object_of(
    "A task that takes longer than a request",
    id=TEXT,
    task=TEXT,
    state=one_of("queued", "running", "complete", "failed", "cancelled"),
    dry_run=FLAG,
    request=ANY,
    progress={"type": "object", "properties": {"ratio": {"type": ["number", "null"]}}},
    result={"type": ["object", "null"]},
    error=MAYBE_TEXT,
    created_at=TIME,
    started_at=MAYBE_TIME,
    completed_at=MAYBE_TIME,
)
_STEP = object_of(
    "One stage of one memory",
    state=one_of("done", "queued", "in_flight", "delayed", "dead", "given_up", "waiting"),
    version=WHOLE,
    attempts=MAYBE_WHOLE,
    next_at=MAYBE_TIME,
    last_error=MAYBE_TEXT,
    failed_at=MAYBE_TIME,
    dead_id=MAYBE_TEXT,
)
_ACCEPTED = object_of(
    "It goes on; `location` tells how far it is",
    status=one_of("accepted"),
    run_id=TEXT,
    location=TEXT,
)
_SYNCED = object_of(
    "What the comparison found, and what was repaired",
    {
        "missing_count": WHOLE,
        "missing_sample": IDS,
        "orphaned_sample": IDS,
        "synced": WHOLE,
        "failed": WHOLE,
        "stale_count": WHOLE,
        "payload_count": WHOLE,
        "pending_count": WHOLE,
        "orphans_deleted": WHOLE,
        **_FAILED,
    },
    status=one_of("dry_run", "already_synced", "complete"),
    run_id=TEXT,
    falkordb_count=WHOLE,
    qdrant_count=WHOLE,
    orphaned_count=WHOLE,
)
_REEMBEDDED = object_of(
    "How many were embedded again",
    {"message": TEXT, "generation": MAYBE_TEXT, **_FAILED},
    status=TEXT,
    run_id=TEXT,
    processed=WHOLE,
    failed=WHOLE,
    total=WHOLE,
    batch_size=MAYBE_WHOLE,
    metadata_preserved=FLAG,
)
OPERATIONS: Mapping[str, Schema] = {
    "Receipt": object_of(
        "How far a memory has come; `stored_at` is of its present version",
        {"stored": FLAG, "timestamp": TIME, "archived": FLAG},
        status=SUCCESS,
        memory_id=ID,
        version=WHOLE,
        stored_at=TIME,
        enriched=FLAG,
        enriched_at=MAYBE_TIME,
        embedded=FLAG,
        embedded_at=MAYBE_TIME,
        related=FLAG,
        related_at=MAYBE_TIME,
        searchable=FLAG,
        searchable_at=MAYBE_TIME,
        stages=object_of("Of each stage", enrich=_STEP, embed=_STEP, relate=_STEP),
    ),
    "EnrichmentStatus": object_of(
        "Of the token's tenant; `status` says whether any enricher runs",
        {"failed": WHOLE, "pending_ids": IDS},
        status=one_of("running", "stopped"),
        queue_size=WHOLE,
        pending=WHOLE,
        inflight=WHOLE,
        max_attempts=WHOLE,
        stats=ANY,
        classification=ANY,
        spacy_model=TEXT,
    ),
    "Reprocessing": object_of(
        "What was queued; `missing` are no memories",
        status=one_of("queued"),
        count=WHOLE,
        ids=list_of(ID),
        missing=list_of(ID),
    ),
    "Synced": {"anyOf": [_SYNCED, _ACCEPTED]},
    "Reembedded": {"anyOf": [_REEMBEDDED, _ACCEPTED]},
    "RunList": object_of("Newest first", status=SUCCESS, runs=list_of(_RUN), count=WHOLE),
    "RunFound": object_of("A run", status=SUCCESS, run=_RUN),
    "GenerationList": object_of(
        "Oldest first",
        status=SUCCESS,
        generations=list_of(
            object_of(
                "One vector collection",
                name=TEXT,
                state=one_of("live", "next", "old"),
                provider=MAYBE_TEXT,
                model=TEXT,
                dimension=WHOLE,
                number=WHOLE,
                points=WHOLE,
            )
        ),
        count=WHOLE,
    ),
    "Dropped": object_of("What was dropped", status=SUCCESS, dropped=TEXT),
    "DeadPage": object_of(
        "Newest first; `next` is the `before` of the following page",
        status=SUCCESS,
        dead=list_of(
            object_of(
                "One job; the ids are null of an entry that is none",
                id=TEXT,
                stream=TEXT,
                memory_id=MAYBE_TEXT,
                version=MAYBE_WHOLE,
                reason=TEXT,
                error=TEXT,
                attempts=WHOLE,
                deliveries=WHOLE,
                first_at=TIME,
                buried_at=TIME,
            )
        ),
        count=WHOLE,
        next=MAYBE_TEXT,
    ),
    "Replayed": object_of(
        "How many are tried again", status=SUCCESS, replayed=WHOLE, missing=IDS, next=MAYBE_TEXT
    ),
    "Discarded": object_of(
        "How many are forgotten", status=SUCCESS, discarded=WHOLE, missing=IDS, next=MAYBE_TEXT
    ),
    "Queues": object_of(
        "Of the whole instance",
        status=SUCCESS,
        streams=list_of(
            object_of(
                "One stage",
                stream=TEXT,
                depth=WHOLE,
                ready=WHOLE,
                in_flight=WHOLE,
                delayed=WHOLE,
                dead=WHOLE,
                oldest_age_seconds={"type": ["number", "null"]},
                consumers=list_of(
                    object_of(
                        "One reader",
                        name=TEXT,
                        pending=WHOLE,
                        idle_seconds=NUMBER,
                        last_heartbeat=TIME,
                        alive=FLAG,
                    )
                ),
            )
        ),
    ),
}
