"""Limits of the stages, and what an outcome means under them."""

from __future__ import annotations

import pytest

from shared.config import EnrichmentSettings, Settings, StreamSettings
from shared.streams.batch import with_pause
from shared.streams.job import Delivery, Job, Stage
from shared.streams.policy import StreamPolicy, policy_for
from shared.streams.transitions import DeadLetter, Defer, Done, Outcome, Retry, Settlement


def policy(stage: Stage) -> StreamPolicy:
    return policy_for(
        stage, Settings(streams=StreamSettings(_env_file=None), enrichment=EnrichmentSettings())
    )


@pytest.mark.parametrize("stage", [Stage.ENRICH, Stage.RELATE])
def test_enrichment_waits_5_and_25_seconds_of_3_attempts(stage: Stage) -> None:
    assert policy(stage).max_attempts == 3
    assert [policy(stage).backoff_s(attempts) for attempts in (1, 2)] == [5.0, 25.0]


@pytest.mark.parametrize("stage", [Stage.EMBED, Stage.EXTRACT, Stage.CONSOLIDATE, Stage.SYNC])
def test_the_others_double_from_2_to_60_seconds(stage: Stage) -> None:
    assert policy(stage).max_attempts == 5
    waits = [policy(stage).backoff_s(attempts) for attempts in (1, 2, 3, 4, 5, 6, 500)]
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def decided(outcome: Outcome, attempt: int, stage: Stage = Stage.ENRICH) -> Outcome:
    return with_pause(outcome, Job("t", "m", 1, attempt=attempt), policy(stage), defer_s=0.0)


def test_waits_are_jittered_but_never_short() -> None:
    retries = [decided(Retry("x"), 1) for _ in range(50)]
    waits = {retry.retry_after_s for retry in retries if isinstance(retry, Retry)}
    assert all(wait and 12.5 <= wait <= 25.0 for wait in waits)
    assert len(waits) > 1


def test_a_longer_wish_of_the_provider_wins() -> None:
    assert decided(Retry("x", 90.0), 0, Stage.EMBED) == Retry("x", 90.0)


def test_the_last_attempt_ends_in_a_dead_letter() -> None:
    outcome = decided(Retry("x"), 2)
    assert outcome == DeadLetter("exhausted", "x")
    delivery = Delivery(Job("t", "m", 1, attempt=2), "1-0", 1)
    assert Settlement(delivery, outcome).job.attempt == 3


def test_deferring_charges_nothing_even_on_the_last_attempt() -> None:
    job = Job("t", "m", 1, attempt=2)
    outcome = with_pause(Defer("down", 3.0), job, policy(Stage.ENRICH), defer_s=1.0)
    assert outcome == Defer("down", 3.0)
    assert Settlement(Delivery(job, "1-0", 1), outcome).job.attempt == 2


def test_what_is_deferred_waits_as_long_as_the_consumer_pauses() -> None:
    outcome = with_pause(Defer("down", 3.0), Job("t", "m", 1), policy(Stage.ENRICH), defer_s=8.0)
    assert outcome == Defer("down", 8.0)


def test_done_and_dead_letters_are_final() -> None:
    assert decided(Done(), 0) == Done()
    assert decided(DeadLetter("refused", "no"), 0) == DeadLetter("refused", "no")
