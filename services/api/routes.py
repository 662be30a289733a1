"""The route table: everything the API serves, in one place.

The application, the OpenAPI document and the documentation page are built from it; handlers
parse, call one use case, and render. `python -m services.api.routes` prints docs/openapi.json.
"""

from __future__ import annotations

import sys

from services.api import later
from services.api.backup import backup
from services.api.graph import analyze, associate, entities, related, views
from services.api.http import docs_page, openapi
from services.api.http.answer_schemas import shape
from services.api.http.route import Route
from services.api.memory import batch, by_tag, handlers
from services.api.memory.answers import ChangedAnswer, FoundAnswer, StoredAnswer
from services.api.memory.requests import MemoryIn, MemoryPatch
from services.api.operations import (
    dead_letters,
    enrichment,
    event_stream,
    generations,
    memory_status,
    queues,
    reembed,
    runs,
    sync,
)
from services.api.operations.health import HealthAnswer
from services.api.recall import startup
from services.api.recall.parameters import RECALL_PARAMETERS
from shared.config import Settings

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/health",
        handlers.health,
        "State of the stores and the pipeline",
        scope="open",
        group="operations",
        returns=HealthAnswer,
    ),
    *docs_page.ROUTES,
    Route(
        "POST",
        "/memory",
        handlers.store_memory,
        "Store a memory",
        scope="write",
        body=MemoryIn,
        answers={201: "Stored; enrichment and embedding follow"},
        returns=StoredAnswer,
        repeatable=True,
    ),
    *batch.ROUTES,
    *by_tag.ROUTES,  # before /memory/{memory_id}: the first match wins
    Route(
        "GET",
        "/memory/{memory_id}",
        handlers.fetch_memory,
        "Read a memory",
        returns=FoundAnswer,
    ),
    Route(
        "PATCH",
        "/memory/{memory_id}",
        handlers.change_memory,
        "Change the given fields of a memory",
        scope="write",
        body=MemoryPatch,
        answers={200: "Changed", 409: "Others keep changing it; try again"},
        returns=ChangedAnswer,
    ),
    Route(
        "DELETE",
        "/memory/{memory_id}",
        handlers.delete_memory,
        "Delete a memory",
        scope="write",
        returns=ChangedAnswer,
    ),
    Route(
        "GET",
        "/recall",
        handlers.recall,
        "Find memories by meaning, words, tags and time",
        query=RECALL_PARAMETERS,
        returns=shape("Recalled"),
    ),
    *associate.ROUTES,
    *related.ROUTES,
    *startup.ROUTES,
    *analyze.ROUTES,
    *views.ROUTES,
    *entities.ROUTES,
    *event_stream.ROUTES,
    *backup.ROUTES,
    *memory_status.ROUTES,
    *enrichment.ROUTES,
    *sync.ROUTES,
    *reembed.ROUTES,
    *runs.ROUTES,
    *generations.ROUTES,
    *dead_letters.ROUTES,
    *queues.ROUTES,
    *later.ROUTES,
)


if __name__ == "__main__":
    sys.stdout.write(openapi.rendered(ROUTES, Settings()))
