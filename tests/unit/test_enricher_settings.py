"""Every ENRICHMENT_* variable of AutoMem exists, has its default, and means something."""

from __future__ import annotations

from typing import Any

import pytest

from services.enricher.stages.chat_summary import Summary, ask, is_long, summarized
from shared.config import ApiSettings, EnrichmentSettings, Settings, StreamSettings, variables
from shared.domain.memory import Memory
from shared.domain.memory_type import classify, has_fallback_type
from shared.streams.job import Stage
from shared.streams.policy import StreamPolicy, policy_for
from tests.support.providers.recording_chat import RecordingChat

# automem-background-processing.txt, "Enrichment Configuration"
SEED = {
    "ENRICHMENT_MAX_ATTEMPTS": 3,
    "ENRICHMENT_SIMILARITY_LIMIT": 5,
    "ENRICHMENT_SIMILARITY_THRESHOLD": 0.8,
    "ENRICHMENT_IDLE_SLEEP_SECONDS": 2.0,
    "ENRICHMENT_FAILURE_BACKOFF_SECONDS": 5.0,
    "ENRICHMENT_ENABLE_SUMMARIES": True,
    "ENRICHMENT_SPACY_MODEL": "en_core_web_sm",
}


def _policy(stage: Stage = Stage.ENRICH, *, block_s: float = 1.0, **given: Any) -> StreamPolicy:
    return policy_for(
        stage,
        Settings(
            enrichment=EnrichmentSettings(_env_file=None, **given),
            streams=StreamSettings(_env_file=None, EUNOE_BLOCK_SECONDS=block_s),
        ),
    )


def test_the_seeds_variables_have_the_seeds_defaults() -> None:
    known = variables()
    assert {name: known[name][2] for name in SEED} == SEED


def test_idle_sleep_is_the_longest_wait_of_an_idle_read() -> None:
    assert _policy(ENRICHMENT_IDLE_SLEEP_SECONDS=0.25).block_s == 0.25
    assert _policy(Stage.RELATE, ENRICHMENT_IDLE_SLEEP_SECONDS=0.25).block_s == 0.25
    assert _policy(Stage.EMBED, ENRICHMENT_IDLE_SLEEP_SECONDS=0.25).block_s == 1.0
    # The connection's own timeout is made for the ordinary block time.
    assert _policy(ENRICHMENT_IDLE_SLEEP_SECONDS=4).block_s == 1.0


def test_attempts_and_backoff_are_the_seeds() -> None:
    policy = _policy(ENRICHMENT_MAX_ATTEMPTS=4, ENRICHMENT_FAILURE_BACKOFF_SECONDS=2)
    assert policy.max_attempts == 4
    assert [policy.backoff_s(attempts) for attempts in (1, 2, 3)] == [2, 10, 50]


@pytest.mark.parametrize(
    ("kind", "confidence", "expected"),
    [
        (*classify("nothing to find here"), True),
        (*classify("We decided to go"), False),
        ("Memory", 0.9, False),
        ("banana", 0.3, False),
    ],
)
def test_a_type_is_the_fallback_only_where_the_rules_found_none(
    kind: str, confidence: float, expected: bool
) -> None:
    assert has_fallback_type(kind, confidence) is expected


def _memory(chars: int, **metadata: object) -> Memory:
    return Memory("id", 5, 5, "word " * (chars // 5), metadata=metadata)


def test_only_what_is_past_the_soft_limit_is_shortened() -> None:
    settings = ApiSettings(_env_file=None)
    assert not is_long(_memory(500), settings)
    assert is_long(_memory(505), settings)
    assert not is_long(_memory(505, was_summarized=False), settings)
    assert not is_long(_memory(505), ApiSettings(_env_file=None, MEMORY_AUTO_SUMMARIZE=False))


async def test_the_target_is_requested_and_bounds_the_answer() -> None:
    chat = RecordingChat({"summary": "short"})
    settings = ApiSettings(_env_file=None, MEMORY_SUMMARY_TARGET_LENGTH=120)
    assert await ask(chat, _memory(1000), settings) == Summary(summary="short")
    [(system, _, max_tokens)] = chat.calls
    assert "120 characters" in system
    assert max_tokens == 220


def test_an_original_that_metadata_cannot_hold_stays_the_content() -> None:
    settings = ApiSettings(_env_file=None, MEMORY_CONTENT_HARD_LIMIT=200_000)
    assert summarized(_memory(100_000), Summary(summary="short"), settings) is None
    kept = summarized(_memory(10_000), Summary(summary="short"), settings)
    assert kept is not None
    assert (kept.content, kept.version > 5, kept.payload_version) == ("short", True, kept.version)
