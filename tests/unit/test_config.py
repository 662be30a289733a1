"""Settings: the seeds' names and defaults, one frozen tree, a wrong value refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from redis.asyncio.connection import parse_url

from shared import config
from shared.config import LeaseSettings, load, render_table, variables
from shared.errors import ConfigError

# The seeds' documents, name by name.
SEEDS = {
    "ENRICHMENT_MAX_ATTEMPTS": 3,
    "ENRICHMENT_SIMILARITY_LIMIT": 5,
    "ENRICHMENT_SIMILARITY_THRESHOLD": 0.8,
    "ENRICHMENT_IDLE_SLEEP_SECONDS": 2.0,
    "ENRICHMENT_FAILURE_BACKOFF_SECONDS": 5.0,
    "ENRICHMENT_ENABLE_SUMMARIES": True,
    "ENRICHMENT_SPACY_MODEL": "en_core_web_sm",
    "EMBEDDING_BATCH_SIZE": 20,
    "EMBEDDING_BATCH_TIMEOUT_SECONDS": 2.0,
    "CONSOLIDATION_TICK_SECONDS": 60.0,
    "CONSOLIDATION_DECAY_INTERVAL_SECONDS": 3600.0,
    "CONSOLIDATION_CREATIVE_INTERVAL_SECONDS": 3600.0,
    "CONSOLIDATION_CLUSTER_INTERVAL_SECONDS": 21600.0,
    "CONSOLIDATION_FORGET_INTERVAL_SECONDS": 86400.0,
    "CONSOLIDATION_DECAY_IMPORTANCE_THRESHOLD": 0.3,
    "CONSOLIDATION_HISTORY_LIMIT": 20,
    "SYNC_AUTO_REPAIR": True,
    "REDIS_HOST": "localhost",
    "REDIS_PORT": 6379,
    "REDIS_DB": 0,
    "PORT": 8001,
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("name", "default"), SEEDS.items())
def test_the_seeds_names_have_the_seeds_defaults(name: str, default: object) -> None:
    branch, field, _ = variables()[name]
    assert getattr(getattr(load(env_file=None), branch), field) == default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("EMBEDDING_BATCH_SIZE", "0"),
        ("EMBEDDING_PROVIDER", "magic"),
        ("ENRICHMENT_SIMILARITY_THRESHOLD", "1.5"),
        ("EUNOE_VISIBILITY_SECONDS", "-1"),
        ("FALKORDB_GRAPH", "a:b"),
        ("SYNC_AUTO_REPAIR", "perhaps"),
        ("SEARCH_RECENCY_CURVE", "steep"),
        ("RECALL_RELEVANCE_GATE", "nan"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        load(env_file=None)


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("SEARCH_RECENCY_CURVE", "exp", "exponential"),
        ("SEARCH_RECENCY_CURVE", "linear", "linear"),
        ("RECALL_RELEVANCE_GATE", "1.5", 1.0),
        ("RECALL_RELEVANCE_GATE", "-1", 0.0),
        ("RECALL_RELEVANCE_GATE", "0.3", 0.3),
        ("SEARCH_RECENCY_WINDOW_DAYS", "0", 180.0),
        ("SEARCH_RECENCY_WINDOW_DAYS", "-7", 180.0),
        ("SEARCH_RECENCY_WINDOW_DAYS", "0.5", 0.5),
        ("SEARCH_WEIGHT_TEMPORAL", "0.25", 0.25),
    ],
)
def test_values_of_recall_that_automem_starts_with(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, taken: object
) -> None:
    monkeypatch.setenv(name, value)
    branch, field, _ = variables()[name]
    assert getattr(getattr(load(env_file=None), branch), field) == taken


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EUNOE_LEASE_TTL_SECONDS", "9"),
        ("EUNOE_LEASE_RETRY_SECONDS", "9"),
        ("EUNOE_GRAPH_TIMEOUT_SECONDS", "10"),
        ("MEMORY_CONTENT_SOFT_LIMIT", "3000"),
    ],
)
def test_relations_between_settings_hold(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        load(env_file=None)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert load(env_file=None).api.port == 8001


def test_urls_win_over_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "elsewhere")
    monkeypatch.setenv("REDIS_URL", "redis://there:1/2")
    assert load(env_file=None).redis.url == "redis://there:1/2"


@pytest.mark.parametrize("secret", ["p@ss", "a/b", "a#b?c", "100%", "pä:ss word"])
def test_a_password_of_any_characters_is_sent_to_the_named_host(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in ("REDIS", "FALKORDB"):
        monkeypatch.setenv(f"{store}_PASSWORD", secret)
        monkeypatch.setenv(f"{store}_HOST", "there")
    settings = load(env_file=None)
    for url in (settings.redis.url, settings.graph.url):
        target = parse_url(url)
        assert (target["host"], target["port"], target["password"]) == ("there", 6379, secret)


def test_a_file_is_read_and_outranked_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_text("PORT=9000\nLOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("PORT", "9001")
    settings = load(env_file=str(file))
    assert (settings.api.port, settings.process.log_level) == (9001, "DEBUG")


def test_the_tree_is_frozen() -> None:
    with pytest.raises(ValidationError):
        LeaseSettings().ttl_s = 1.0  # type: ignore[misc]


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMEM_API_TOKEN", "canary-token")
    assert "canary-token" not in repr(load(env_file=None))


def test_no_name_is_used_twice() -> None:
    names = [
        str(name)
        for section in config.sections().values()
        for field in section.model_fields.values()
        for name in field.validation_alias.choices  # type: ignore[union-attr]
    ]
    assert len(names) == len(set(names))


def test_the_documented_table_is_current() -> None:
    """`python -m shared.config > docs/configuration.md` mends it."""
    written = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert written.read_text(encoding="utf-8") == render_table()
