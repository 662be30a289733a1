"""wait: which came first, the event or the time; backoff_s: how pauses grow."""

from __future__ import annotations

import asyncio

import pytest

from shared.waiting import backoff_s, wait


async def test_an_event_that_is_set_ends_the_wait() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait(event, 60.0)


async def test_without_the_event_the_time_ends_it() -> None:
    assert not await wait(asyncio.Event(), 0.0)


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [backoff_s(failures, first_s=0.5, longest_s=3.0) for failures in (1, 2, 3, 4, 5)]
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_another_factor_grows_faster_and_without_limit() -> None:
    assert [backoff_s(failures, first_s=5.0, factor=5) for failures in (1, 2, 3)] == [5, 25, 125]


@pytest.mark.parametrize("failures", [1_000, 100_000])
def test_ever_so_many_failures_pause_for_the_longest(failures: int) -> None:
    assert backoff_s(failures, first_s=0.2, longest_s=30.0) == 30.0
