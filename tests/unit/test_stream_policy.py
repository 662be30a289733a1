"""Limits of the stages, and what an outcome means under them."""

from __future__ import annotations

import pytest

from shared.config import EnrichmentSettings, Settings, StreamSettings
from shared.streams.handler import DeadLetter, Defer, Done, Retry, settlement_for
from shared.streams.job import Delivery, Job, Stage
from shared.streams.policy import StreamPolicy, policy_for
from shared.streams.transitions import Transition


def policy(stage: Stage) -> StreamPolicy:
    return policy_for(
        stage, Settings(streams=StreamSettings(_env_file=None), enrichment=EnrichmentSettings())
    )


def delivery(attempt: int = 0) -> Delivery:
    return Delivery(Job("t", "m", 1, attempt=attempt), "1-0", 1)


@pytest.mark.parametrize("stage", [Stage.ENRICH, Stage.RELATE])
def test_enrichment_waits_5_and_25_seconds_of_3_attempts(stage: Stage) -> None:
    assert policy(stage).max_attempts == 3
    assert [policy(stage).backoff_s(attempts) for attempts in (1, 2)] == [5.0, 25.0]


@pytest.mark.parametrize("stage", [Stage.EMBED, Stage.EXTRACT, Stage.CONSOLIDATE, Stage.SYNC])
def test_the_others_double_from_2_to_60_seconds(stage: Stage) -> None:
    assert policy(stage).max_attempts == 5
    waits = [policy(stage).backoff_s(attempts) for attempts in (1, 2, 3, 4, 5, 6, 500)]
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_waits_are_jittered_but_never_short() -> None:
    waits = [
        settlement_for(delivery(1), Retry("x"), policy(Stage.ENRICH)).delay_s for _ in range(50)
    ]
    assert all(12.5 <= wait <= 25.0 for wait in waits)
    assert len(set(waits)) > 1


def test_a_longer_wish_of_the_provider_wins() -> None:
    settled = settlement_for(delivery(), Retry("x", 90.0), policy(Stage.EMBED))
    assert settled.delay_s == 90.0


def test_the_last_attempt_ends_in_a_burial() -> None:
    settled = settlement_for(delivery(2), Retry("x"), policy(Stage.ENRICH))
    assert (settled.transition, settled.reason, settled.job.attempt) == (
        Transition.DEAD_LETTER,
        "exhausted",
        3,
    )


def test_parking_charges_nothing_even_on_the_last_attempt() -> None:
    settled = settlement_for(delivery(2), Defer("down", 3.0), policy(Stage.ENRICH))
    assert (settled.transition, settled.job.attempt, settled.delay_s) == (Transition.DEFER, 2, 3.0)


def test_done_and_bury_are_final() -> None:
    assert settlement_for(delivery(), Done(), policy(Stage.ENRICH)).transition is Transition.ACK
    buried = settlement_for(delivery(), DeadLetter("refused", "no"), policy(Stage.ENRICH))
    assert (buried.transition, buried.reason, buried.error) == (
        Transition.DEAD_LETTER,
        "refused",
        "no",
    )
