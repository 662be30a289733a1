"""The retry policy of model calls outside of jobs."""

import time

import pytest

from shared.errors import PermanentError, TransientError, Unavailable
from shared.models.retry import with_retries


class Flaky:
    """Raises what it was given, one by one, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_it_waits_as_long_as_the_provider_wishes() -> None:
    flaky = Flaky(
        TransientError("busy", retry_after_s=0.05), Unavailable("chat", "down", retry_after_s=0)
    )
    started = time.monotonic()
    assert await with_retries(flaky) == "answer"
    assert flaky.calls == 3
    assert time.monotonic() - started >= 0.05


async def test_a_plain_function_that_returns_an_awaitable_will_do() -> None:
    flaky = Flaky(TransientError("busy", retry_after_s=0))
    assert await with_retries(lambda: flaky()) == "answer"  # noqa: PLW0108 (what is tested)


async def test_a_permanent_error_is_not_tried_again() -> None:
    flaky = Flaky(PermanentError("refused"))
    with pytest.raises(PermanentError):
        await with_retries(flaky)
    assert flaky.calls == 1


async def test_it_gives_up_before_a_wait_that_is_too_long() -> None:
    flaky = Flaky(TransientError("busy", retry_after_s=3600))
    with pytest.raises(TransientError, match="busy"):
        await with_retries(flaky, total_s=60)
    assert flaky.calls == 1


async def test_attempts_are_bounded_when_waits_are_short() -> None:
    flaky = Flaky(*(TransientError("busy", retry_after_s=0) for _ in range(100)))
    with pytest.raises(TransientError):
        await with_retries(flaky)
    assert flaky.calls == 6
