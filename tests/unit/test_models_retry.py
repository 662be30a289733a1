"""The retry policy of the call that proves a model at the start."""

import time

import pytest

from shared.errors import PermanentError, TransientError, Unavailable
from shared.models.open import retrying


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
    assert await retrying()(flaky) == "answer"
    assert flaky.calls == 3
    assert time.monotonic() - started >= 0.05


async def test_a_permanent_error_is_not_tried_again() -> None:
    flaky = Flaky(PermanentError("refused"))
    with pytest.raises(PermanentError):
        await retrying()(flaky)
    assert flaky.calls == 1


async def test_it_gives_up_before_a_wait_that_is_too_long() -> None:
    flaky = Flaky(TransientError("busy", retry_after_s=3600))
    with pytest.raises(TransientError, match="busy"):
        await retrying()(flaky)
    assert flaky.calls == 1


async def test_attempts_are_bounded_when_waits_are_short() -> None:
    flaky = Flaky(*(TransientError("busy", retry_after_s=0) for _ in range(100)))
    with pytest.raises(TransientError):
        await retrying()(flaky)
    assert flaky.calls == 6
