"""Settings: the environment, read once, as one frozen tree.

Names and defaults are AutoMem's where it has them; our own begin with `EUNOE_`. Only a
process's `__main__` calls `load()` and passes on what it returns. A wrong value prevents the
start, and the error names its variable.
`python -m shared.config` prints the table in docs/configuration.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigError

ROLES = ("api", "enricher", "embedder", "consolidator", "syncer")
_REDIS_URL = r"^(rediss?|unix)://."
# US dollars per million tokens: of input, or of input and output.
_Price = NonNegativeFloat | tuple[NonNegativeFloat, NonNegativeFloat]
ADMIN_PORTS = dict(zip(ROLES, range(9101, 9106), strict=True))


def _env(default: Any, name: str, *also: str, **limits: Any) -> Any:
    """A setting read from `name` (or an older name in `also`); docs come from `description`."""
    if isinstance(default, float):
        limits.setdefault("allow_inf_nan", False)
    return Field(default, validation_alias=AliasChoices(name, *also), **limits)


def _redis_url(server: RedisSettings | GraphSettings, path: str = "") -> str:
    """Return the URL given, or one of host and port, any character of the password quoted."""
    password = quote(server.password.get_secret_value(), safe="") if server.password else ""
    credentials = f":{password}@" if password else ""
    return server.url_given or f"redis://{credentials}{server.host}:{server.port}{path}"


class Section(BaseSettings):
    """One branch of the tree; an empty variable counts as unset."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, env_file=".env", case_sensitive=True
    )


class ProcessSettings(Section):
    host: str = _env("127.0.0.1", "EUNOE_HOST")
    data_dir: Path = _env(Path(".eunoe"), "EUNOE_DATA_DIR")
    admin_port: int | None = _env(None, "EUNOE_ADMIN_PORT", ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _env("INFO", "LOG_LEVEL")
    drain_delay_s: float = _env(5.0, "EUNOE_DRAIN_DELAY_SECONDS", ge=0)
    drain_timeout_s: PositiveFloat = _env(25.0, "EUNOE_DRAIN_TIMEOUT_SECONDS")


class ApiSettings(Section):
    port: int = _env(8001, "PORT", ge=0, le=65535)
    api_token: SecretStr | None = _env(None, "AUTOMEM_API_TOKEN")
    admin_token: SecretStr | None = _env(None, "ADMIN_API_TOKEN")
    tokens_file: Path | None = _env(None, "EUNOE_TOKENS_FILE")
    allow_insecure: bool = _env(False, "EUNOE_ALLOW_INSECURE")
    cors_origins: str = _env("*", "VIEWER_ALLOWED_ORIGINS")
    body_bytes: PositiveInt = _env(1024 * 1024, "EUNOE_BODY_BYTES")
    batch_body_bytes: PositiveInt = _env(8 * 1024 * 1024, "EUNOE_BATCH_BODY_BYTES")
    content_soft_chars: PositiveInt = _env(500, "MEMORY_CONTENT_SOFT_LIMIT")
    content_hard_chars: PositiveInt = _env(2000, "MEMORY_CONTENT_HARD_LIMIT")
    auto_summarize: bool = _env(True, "MEMORY_AUTO_SUMMARIZE")
    summary_target_chars: PositiveInt = _env(300, "MEMORY_SUMMARY_TARGET_LENGTH")
    idempotency_ttl_s: PositiveInt = _env(86_400, "EUNOE_IDEMPOTENCY_TTL_SECONDS")
    admin_wait_s: float = _env(300.0, "EUNOE_ADMIN_WAIT_SECONDS", ge=0)

    @model_validator(mode="after")
    def _soft_below_hard(self) -> Self:
        if self.content_soft_chars > self.content_hard_chars:
            raise ValueError("MEMORY_CONTENT_SOFT_LIMIT must not exceed MEMORY_CONTENT_HARD_LIMIT")
        return self


class RedisSettings(Section):
    url_given: str | None = _env(None, "REDIS_URL", pattern=_REDIS_URL)
    host: str = _env("localhost", "REDIS_HOST")
    port: int = _env(6379, "REDIS_PORT", ge=1, le=65535)
    db: int = _env(0, "REDIS_DB", ge=0)
    password: SecretStr | None = _env(None, "REDIS_PASSWORD")
    timeout_s: PositiveFloat = _env(3.0, "EUNOE_REDIS_TIMEOUT_SECONDS")
    prefix: str = _env("eunoe", "EUNOE_REDIS_PREFIX", pattern=r"^[a-z0-9_-]{1,32}$")

    @property
    def url(self) -> str:
        return _redis_url(self, f"/{self.db}")


class GraphSettings(Section):
    url_given: str | None = _env(None, "FALKORDB_URL", pattern=_REDIS_URL)
    host: str = _env("localhost", "FALKORDB_HOST")
    port: int = _env(6379, "FALKORDB_PORT", ge=1, le=65535)
    password: SecretStr | None = _env(None, "FALKORDB_PASSWORD")
    graph: str = _env("memories", "FALKORDB_GRAPH", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    # Above the server's own TIMEOUT_MAX: a query that its client gave up still runs.
    timeout_s: PositiveFloat = _env(12.0, "EUNOE_GRAPH_TIMEOUT_SECONDS")
    server_timeout_s: PositiveFloat = _env(10.0, "EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS")
    group_commit_rows: PositiveInt = _env(64, "EUNOE_GROUP_COMMIT_ROWS")
    connections: PositiveInt = _env(16, "EUNOE_GRAPH_CONNECTIONS")

    @property
    def url(self) -> str:
        return _redis_url(self)

    @model_validator(mode="after")
    def _client_outlasts_server(self) -> Self:
        if self.timeout_s <= self.server_timeout_s:
            raise ValueError(
                "EUNOE_GRAPH_TIMEOUT_SECONDS must exceed EUNOE_GRAPH_SERVER_TIMEOUT_SECONDS:"
                " a query its client gave up still blocks the graph"
            )
        return self


class VectorSettings(Section):
    url_given: str | None = _env(None, "QDRANT_URL", pattern=r"^https?://[^/]+")
    host: str = _env("localhost", "QDRANT_HOST")
    port: int = _env(6333, "QDRANT_PORT", ge=1, le=65535)
    api_key: SecretStr | None = _env(None, "QDRANT_API_KEY")
    collection: str = _env("memories", "QDRANT_COLLECTION", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    timeout_s: PositiveFloat = _env(5.0, "QDRANT_TIMEOUT_SECONDS")
    ensure_indexes: bool = _env(True, "QDRANT_ENSURE_PAYLOAD_INDEXES")
    size: PositiveInt | None = _env(None, "VECTOR_SIZE", "QDRANT_VECTOR_SIZE")
    size_autodetect: bool = _env(True, "VECTOR_SIZE_AUTODETECT")

    @property
    def url(self) -> str:
        return self.url_given or f"http://{self.host}:{self.port}"


class EmbeddingSettings(Section):
    provider: Literal["auto", "local", "openai", "ollama", "voyage", "placeholder"] = _env(
        "auto", "EMBEDDING_PROVIDER"
    )
    model: str = _env("text-embedding-3-small", "EMBEDDING_MODEL")
    batch_size: PositiveInt = _env(20, "EMBEDDING_BATCH_SIZE", le=512)
    batch_timeout_s: float = _env(2.0, "EMBEDDING_BATCH_TIMEOUT_SECONDS", ge=0)
    timeout_s: PositiveFloat = _env(30.0, "EUNOE_EMBEDDING_TIMEOUT_SECONDS")
    threads: PositiveInt = _env(2, "EUNOE_EMBEDDING_THREADS", le=64)
    concurrency: PositiveInt = _env(4, "EUNOE_EMBEDDING_CONCURRENCY")
    query_cache: PositiveInt = _env(2048, "EUNOE_QUERY_CACHE")
    cache: int = _env(4096, "EUNOE_EMBEDDING_CACHE", ge=0)
    prices: Json[dict[str, _Price]] | None = _env(None, "EUNOE_MODEL_PRICES")
    openai_api_key: SecretStr | None = _env(None, "OPENAI_API_KEY")
    openai_base_url: str | None = _env(None, "OPENAI_BASE_URL")
    voyage_api_key: SecretStr | None = _env(None, "VOYAGE_API_KEY")
    voyage_model: str = _env("voyage-4", "VOYAGE_MODEL")
    ollama_base_url: str | None = _env(None, "OLLAMA_BASE_URL")
    ollama_model: str | None = _env(None, "OLLAMA_MODEL")
    ollama_timeout_s: PositiveFloat = _env(30.0, "OLLAMA_TIMEOUT")


class ChatSettings(Section):
    model: str = _env("gpt-4o-mini", "CLASSIFICATION_MODEL")
    timeout_s: PositiveFloat = _env(30.0, "EUNOE_CHAT_TIMEOUT_SECONDS")
    concurrency: PositiveInt = _env(4, "EUNOE_CHAT_CONCURRENCY")


class EnrichmentSettings(Section):
    max_attempts: PositiveInt = _env(3, "ENRICHMENT_MAX_ATTEMPTS")
    similarity_limit: PositiveInt = _env(5, "ENRICHMENT_SIMILARITY_LIMIT", le=50)
    similarity_threshold: float = _env(0.8, "ENRICHMENT_SIMILARITY_THRESHOLD", ge=0, le=1)
    idle_sleep_s: PositiveFloat = _env(2.0, "ENRICHMENT_IDLE_SLEEP_SECONDS", le=4)
    failure_backoff_s: PositiveFloat = _env(5.0, "ENRICHMENT_FAILURE_BACKOFF_SECONDS")
    enable_summaries: bool = _env(True, "ENRICHMENT_ENABLE_SUMMARIES")
    spacy_model: str = _env("en_core_web_sm", "ENRICHMENT_SPACY_MODEL")
    batch_size: PositiveInt = _env(64, "EUNOE_ENRICHMENT_BATCH_SIZE", le=512)


class ConsolidationSettings(Section):
    tick_s: PositiveFloat = _env(60.0, "CONSOLIDATION_TICK_SECONDS")
    decay_interval_s: float = _env(3600.0, "CONSOLIDATION_DECAY_INTERVAL_SECONDS")
    creative_interval_s: float = _env(3600.0, "CONSOLIDATION_CREATIVE_INTERVAL_SECONDS")
    cluster_interval_s: float = _env(21_600.0, "CONSOLIDATION_CLUSTER_INTERVAL_SECONDS")
    forget_interval_s: float = _env(86_400.0, "CONSOLIDATION_FORGET_INTERVAL_SECONDS")
    decay_importance_threshold: float | None = _env(
        0.3, "CONSOLIDATION_DECAY_IMPORTANCE_THRESHOLD", ge=0, le=1
    )
    history_limit: PositiveInt = _env(20, "CONSOLIDATION_HISTORY_LIMIT", le=100)
    base_decay_rate: float = _env(0.01, "CONSOLIDATION_BASE_DECAY_RATE", ge=0)
    importance_floor_factor: float = _env(0.3, "CONSOLIDATION_IMPORTANCE_FLOOR_FACTOR", ge=0, le=1)
    archive_threshold: float = _env(0.1, "CONSOLIDATION_ARCHIVE_THRESHOLD", ge=0, le=1)
    delete_threshold: float = _env(0.0, "CONSOLIDATION_DELETE_THRESHOLD", ge=0, le=1)
    sweep_chunk_ms: PositiveFloat = _env(5.0, "EUNOE_SWEEP_CHUNK_MS", le=50)
    sweep_duty_ratio: PositiveFloat = _env(0.1, "EUNOE_SWEEP_DUTY_RATIO", le=1)


class SyncSettings(Section):
    check_interval_s: float = _env(3600.0, "SYNC_CHECK_INTERVAL_SECONDS")
    auto_repair: bool = _env(True, "SYNC_AUTO_REPAIR")
    delete_orphans: bool = _env(True, "EUNOE_SYNC_DELETE_ORPHANS")
    orphan_grace_s: float = _env(3600.0, "EUNOE_ORPHAN_GRACE_SECONDS", ge=0)
    repair_wait_s: PositiveFloat = _env(180.0, "EUNOE_REPAIR_WAIT_SECONDS")
    runs_kept: PositiveInt = _env(50, "EUNOE_RUNS_KEPT", le=1000)
    relay_every_s: PositiveFloat = _env(1.0, "EUNOE_RELAY_SECONDS")
    relay_all_every_s: PositiveFloat = _env(300.0, "EUNOE_RELAY_ALL_SECONDS")
    relay_rows: PositiveInt = _env(500, "EUNOE_RELAY_ROWS", le=5000)
    janitor_every_s: PositiveFloat = _env(60.0, "EUNOE_JANITOR_SECONDS")


# As AutoMem, which starts with any of these.
_Gate = Annotated[float, AfterValidator(lambda value: min(1.0, max(0.0, value)))]
_Days = Annotated[float, AfterValidator(lambda value: value if value > 0 else 180.0)]
_Curve = Annotated[
    Literal["linear", "exponential"],
    BeforeValidator(lambda value: "exponential" if value == "exp" else value),
]


class RecallSettings(Section):
    max_limit: PositiveInt = _env(100, "RECALL_MAX_LIMIT")
    relation_limit: PositiveInt = _env(5, "RECALL_RELATION_LIMIT", le=200)
    expansion_limit: PositiveInt = _env(25, "RECALL_EXPANSION_LIMIT", le=500)
    min_score: float = _env(0.0, "RECALL_MIN_SCORE", ge=0, le=1)
    adaptive_floor: bool = _env(True, "RECALL_ADAPTIVE_FLOOR")
    metadata_search: bool = _env(True, "RECALL_METADATA_SEARCH_ENABLED")
    overfetch: PositiveInt = _env(4, "RECALL_VECTOR_OVERFETCH")
    fetch_cap: PositiveInt = _env(200, "RECALL_VECTOR_FETCH_CAP")
    excluded_types: str = _env("MetaPattern", "RECALL_EXCLUDED_TYPES")
    relevance_gate: _Gate = _env(0.0, "RECALL_RELEVANCE_GATE")
    recency_bias: Literal["auto", "on", "off"] = _env("off", "RECALL_RECENCY_BIAS")
    weight_vector: float = _env(0.35, "SEARCH_WEIGHT_VECTOR", ge=0)
    weight_keyword: float = _env(0.35, "SEARCH_WEIGHT_KEYWORD", ge=0)
    weight_metadata: float = _env(0.35, "SEARCH_WEIGHT_METADATA", ge=0)
    weight_relation: float = _env(0.25, "SEARCH_WEIGHT_RELATION", ge=0)
    weight_tag: float = _env(0.2, "SEARCH_WEIGHT_TAG", ge=0)
    weight_exact: float = _env(0.2, "SEARCH_WEIGHT_EXACT", ge=0)
    weight_importance: float = _env(0.1, "SEARCH_WEIGHT_IMPORTANCE", ge=0)
    weight_recency: float = _env(0.1, "SEARCH_WEIGHT_RECENCY", ge=0)
    weight_confidence: float = _env(0.05, "SEARCH_WEIGHT_CONFIDENCE", ge=0)
    weight_relevance: float = _env(0.0, "SEARCH_WEIGHT_RELEVANCE", ge=0)
    weight_temporal: float = _env(0.1, "SEARCH_WEIGHT_TEMPORAL", ge=0)
    recency_window_days: _Days = _env(180.0, "SEARCH_RECENCY_WINDOW_DAYS")
    recency_curve: _Curve = _env("linear", "SEARCH_RECENCY_CURVE")
    tag_score_token_cap: int = _env(0, "SEARCH_TAG_SCORE_TOKEN_CAP", ge=0)

    @property
    def hidden_types(self) -> frozenset[str]:
        """Types that no recall shows and no audit counts."""
        return frozenset(name.strip() for name in self.excluded_types.split(",") if name.strip())


class StreamSettings(Section):
    high_water: PositiveInt = _env(50_000, "EUNOE_HIGH_WATER")
    tenant_share: PositiveFloat = _env(0.5, "EUNOE_TENANT_SHARE", le=1)
    visibility_s: PositiveFloat = _env(60.0, "EUNOE_VISIBILITY_SECONDS")
    block_s: PositiveFloat = _env(1.0, "EUNOE_BLOCK_SECONDS")
    promote_every_s: PositiveFloat = _env(0.5, "EUNOE_PROMOTE_SECONDS")
    max_deliveries: PositiveInt = _env(10, "EUNOE_MAX_DELIVERIES")
    embed_attempts: PositiveInt = _env(5, "EUNOE_EMBED_MAX_ATTEMPTS")
    embed_backoff_s: PositiveFloat = _env(2.0, "EUNOE_EMBED_BACKOFF_SECONDS")
    embed_backoff_max_s: PositiveFloat = _env(60.0, "EUNOE_EMBED_BACKOFF_MAX_SECONDS")
    outbox_delay_s: PositiveFloat = _env(60.0, "EUNOE_OUTBOX_DELAY_SECONDS")


class EventSettings(Section):
    """The feed behind GET /stream: what it keeps, and who may watch it."""

    kept: PositiveInt = _env(1000, "EUNOE_EVENTS_KEPT", le=100_000)
    ttl_s: PositiveInt = _env(86_400, "EUNOE_EVENTS_TTL_SECONDS")
    keepalive_s: PositiveFloat = _env(30.0, "EUNOE_EVENTS_KEEPALIVE_SECONDS")
    subscribers: PositiveInt = _env(256, "EUNOE_EVENTS_SUBSCRIBERS")
    queue: PositiveInt = _env(256, "EUNOE_EVENTS_QUEUE")


class LeaseSettings(Section):
    ttl_s: PositiveFloat = _env(15.0, "EUNOE_LEASE_TTL_SECONDS")
    renew_deadline_s: PositiveFloat = _env(10.0, "EUNOE_LEASE_RENEW_DEADLINE_SECONDS")
    retry_every_s: PositiveFloat = _env(2.0, "EUNOE_LEASE_RETRY_SECONDS")

    @model_validator(mode="after")
    def _ordered(self) -> Self:  # the rule and factor of client-go's NewLeaderElector
        if not self.ttl_s > self.renew_deadline_s > 1.2 * self.retry_every_s:
            raise ValueError(
                "need EUNOE_LEASE_TTL_SECONDS > EUNOE_LEASE_RENEW_DEADLINE_SECONDS"
                " > 1.2 * EUNOE_LEASE_RETRY_SECONDS"
            )
        return self


class Settings(BaseModel):
    """The whole tree; build it with `load()`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: ProcessSettings = Field(default_factory=ProcessSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    graph: GraphSettings = Field(default_factory=GraphSettings)
    vectors: VectorSettings = Field(default_factory=VectorSettings)
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    chat: ChatSettings = Field(default_factory=ChatSettings)
    enrichment: EnrichmentSettings = Field(default_factory=EnrichmentSettings)
    consolidation: ConsolidationSettings = Field(default_factory=ConsolidationSettings)
    sync: SyncSettings = Field(default_factory=SyncSettings)
    recall: RecallSettings = Field(default_factory=RecallSettings)
    streams: StreamSettings = Field(default_factory=StreamSettings)
    events: EventSettings = Field(default_factory=EventSettings)
    lease: LeaseSettings = Field(default_factory=LeaseSettings)

    def admin_port(self, role: str) -> int:
        """Return the role's admin port; 0 lets the system choose one."""
        given = self.process.admin_port
        return ADMIN_PORTS[role] if given is None else given


def sections() -> dict[str, type[Section]]:
    """Return every branch, name → class, in the tree's order."""
    return {
        name: cast("type[Section]", field.annotation)
        for name, field in Settings.model_fields.items()
    }


def variables() -> dict[str, tuple[str, str, Any]]:
    """Return every environment name → (branch, field, default), aliases included."""
    return {
        str(name): (branch, field_name, field.default)
        for branch, section in sections().items()
        for field_name, field in section.model_fields.items()
        for name in cast("AliasChoices", field.validation_alias).choices
    }


def _complaint(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def load(*, env_file: str | None = ".env") -> Settings:
    """Read the environment (and `env_file`, which it outranks) into one frozen tree.

    Raises: ConfigError naming every variable at fault in the first bad branch.
    """
    try:
        branches = {name: section(_env_file=env_file) for name, section in sections().items()}
    except ValidationError as error:
        raise ConfigError("; ".join(map(_complaint, error.errors()))) from error
    return Settings.model_validate(branches)


def render_table() -> str:
    """Return docs/configuration.md: every variable with its default."""
    lines = [
        "# Configuration",
        "",
        "Generated by `python -m shared.config > docs/configuration.md`; a test fails on drift.",
        "",
        "| variable | default | setting |",
        "|---|---|---|",
    ]
    for name, (branch, field, default) in variables().items():
        value = str(default).lower() if isinstance(default, bool) else default
        cell = "–" if value is None else f"`{value}`"
        lines.append(f"| `{name}` | {cell} | {branch}.{field} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_table())
