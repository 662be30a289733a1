"""Every metric of every role, declared once.

Names: prefix `eunoe_`, base units, counters end in `_total`; labels are closed sets
(never ids, users or error text). `eunoe_stream_*` gauges are set by the leading syncer
only, so that summing over processes means something.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)

JOBS_PUBLISHED = Counter(
    "eunoe_jobs_published",
    "Publishes by result: new, duplicate, dead or busy",
    ["stream", "result"],
)
JOBS_SETTLED = Counter(
    "eunoe_jobs_settled",
    "Settled entries: acked, retried, parked (deferred), buried (dead letters) or lost",
    ["stream", "outcome"],
)
JOBS_RECLAIMED = Counter(
    "eunoe_jobs_reclaimed", "Entries taken over from a consumer that went silent", ["stream"]
)
JOB_DURATION = Histogram(
    "eunoe_job_duration_seconds", "Time in the handler, per batch", ["stream"], buckets=_SLOW
)
JOB_WAIT = Histogram(
    "eunoe_job_wait_seconds", "From publish to the handler's start", ["stream"], buckets=_SLOW
)
STREAM_ENTRIES = Gauge(
    "eunoe_stream_entries", "Jobs per state: ready, pending, delayed, dead", ["stream", "state"]
)
STREAM_OLDEST_AGE = Gauge(
    "eunoe_stream_oldest_age_seconds", "Age of the oldest unsettled entry", ["stream"]
)
CONSUMER_SLOTS = Gauge("eunoe_consumer_slots", "Jobs a consumer may hold at once", ["stream"])
CONSUMER_SLOTS_BUSY = Gauge("eunoe_consumer_slots_busy", "Jobs a consumer holds", ["stream"])
CONSUMER_PAUSED = Gauge(
    "eunoe_consumer_paused", "1 while a dependency is down and nothing is read", ["stream"]
)

LEADER = Gauge("eunoe_leader", "1 while this process leads the schedule", ["schedule"])
LEADER_TERMS = Counter("eunoe_leader_terms", "Terms begun", ["schedule"])
SCHEDULE_LAST_SUCCESS = Gauge(
    "eunoe_schedule_last_success_timestamp_seconds", "End of the last good run", ["schedule"]
)
SCHEDULE_DURATION = Histogram(
    "eunoe_schedule_duration_seconds", "Length of a run", ["schedule"], buckets=_SLOW
)
SCHEDULE_FAILURES = Counter("eunoe_schedule_failures", "Runs that raised", ["schedule"])

HTTP_DURATION = Histogram(
    "eunoe_http_request_duration_seconds",
    "From the request's first byte to the answer's last; route is the template",
    ["method", "route", "status"],
    buckets=_FAST,
)
HTTP_REJECTED = Counter(
    "eunoe_http_rejected", "Refused requests by reason: busy, rate, size, auth", ["reason"]
)
WRITES_REPEATED = Counter(
    "eunoe_writes_repeated", "Writes recognised as sent before, by: key or fingerprint", ["by"]
)

STORE_DURATION = Histogram(
    "eunoe_store_request_duration_seconds", "Store calls", ["store", "operation"], buckets=_FAST
)
STORE_ERRORS = Counter(
    "eunoe_store_errors",
    "Failed store calls by kind: transient, permanent",
    ["store", "operation", "kind"],
)
REDIS_RECONNECTS = Counter("eunoe_redis_reconnects", "Connections lost and made again", ["client"])

MODEL_DURATION = Histogram(
    "eunoe_model_request_duration_seconds", "Model calls", ["model", "kind"], buckets=_SLOW
)
MODEL_TOKENS = Counter("eunoe_model_tokens", "Tokens billed, or estimated", ["model", "direction"])
MODEL_COST = Counter(
    "eunoe_model_cost_usd", "US dollars at list price, where the model has one", ["model"]
)
MODEL_ERRORS = Counter("eunoe_model_errors", "Failed model calls", ["model", "kind"])
MODEL_CIRCUIT_OPEN = Gauge(
    "eunoe_model_circuit_open",
    "1 while a provider is not called, 0.5 while one call tries it, else 0",
    ["model", "kind"],
)
MODEL_CACHE = Counter(
    "eunoe_model_cache", "Texts looked for in the cache: hit or miss", ["model", "kind", "result"]
)

ENTITIES_FOUND = Counter("eunoe_entities_found", "Entities kept by the filter", ["category"])
RELATIONS_WRITTEN = Counter("eunoe_relations_written", "Edges written by workers", ["type"])
POINTS_WRITTEN = Counter(
    "eunoe_points_written", "Points by kind: vector, payload, deleted", ["kind"]
)
RELAY_REPUBLISHED = Counter("eunoe_relay_republished", "Jobs the relay published again", ["stream"])
DRIFT = Gauge(
    "eunoe_drift_memories",
    "Points that the last audit or run left wrong: missing, orphaned, stale, payload",
    ["kind"],
)
DRIFT_REPAIRED = Counter(
    "eunoe_drift_repaired", "Repaired points by outcome: synced, failed, deleted", ["outcome"]
)
DECAY_UPDATED = Counter("eunoe_decay_updated", "Memories scored by decay")

EVENTS_DROPPED = Counter(
    "eunoe_events_dropped",
    "Events that no watcher gets: buffer full, redis did not take them, watcher too slow",
    ["reason"],
)
EVENT_SUBSCRIBERS = Gauge("eunoe_event_subscribers", "Open event streams")

PROCESS_RESTARTS = Counter("eunoe_process_restarts", "Restarts by the supervisor", ["process"])
BUILD_INFO = Gauge("eunoe_build_info", "Always 1", ["version", "role", "python"])
