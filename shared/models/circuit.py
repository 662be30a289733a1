"""Circuit: a circuit breaker around the calls of one provider's model.

It limits how many calls run at once and refuses calls while the provider is known to be down. It
retries nothing: a caller gets `Unavailable` at once, with the time of the next trial. A worker's
jobs are then deferred without a charged attempt; a recall answers without vectors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from shared.errors import PermanentError, PoisonInput, TransientError, Unavailable
from shared.telemetry.metrics import MODEL_CIRCUIT_OPEN
from shared.waiting import Pause

Kind = Literal["embedding", "chat"]
# One failure may be one lost packet; three in a row mean that the provider is down.
_FAILURES: Final = 3


class Circuit:
    """Closed, open, or half-open: one trial call runs while all others are refused.

    It opens after three failures in a row, for 1 s, doubling to 30 s while trials fail; or at
    once and for as long as the provider says (Retry-After). An input that the provider refuses
    counts as a success, because the provider did answer.
    """

    def __init__(
        self,
        kind: Kind,
        model: str,
        *,
        concurrency: int,
        pause_s: tuple[float, float] = (1.0, 30.0),
    ) -> None:
        self._kind = kind
        self._model = model
        self._in_flight = asyncio.Semaphore(concurrency)
        self._gauge = MODEL_CIRCUIT_OPEN.labels(model=model, kind=kind)
        self._pause = Pause(self._gauge, pause_s)
        self._failures = 0
        self._error = ""
        self._trying = False

    @property
    def state(self) -> str:
        if not self._pause.probing:
            return "closed"
        return "open" if self._pause.remaining_s() else "half-open"

    def report(self) -> dict[str, object]:
        """Return the state for /readyz; `error` is the last failure's, "" after an answer."""
        return {
            "model": self._model,
            "circuit": self.state,
            "failures": self._failures,
            "retry_in_s": round(self._pause.remaining_s(), 1),
            "error": self._error,
        }

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Run the block as one call, after waiting its turn. Raises: Unavailable while open."""
        self._refuse()
        async with self._in_flight:
            self._refuse()  # others may have failed while this one waited
            started_at = time.monotonic()
            trial = self._trying = self._pause.probing
            if trial:
                self._gauge.set(0.5)
            try:
                yield
            except (PermanentError, PoisonInput):
                self._answered(started_at)
                raise
            except TransientError as error:
                # A chat model may give an unusable answer now and then, and still be up; an
                # unusable answer of an embedding model means that its server fails.
                if self._kind == "chat" and not isinstance(error, Unavailable):
                    self._answered(started_at)
                else:
                    self._failed(started_at, error)
                raise
            else:
                self._answered(started_at)
            finally:
                if trial:
                    self._trying = False

    def _refuse(self) -> None:
        wait_s = self._pause.remaining_s()
        if wait_s or self._trying:
            raise Unavailable(
                self._kind,
                f"{self._model} is not called after {self._failures} failures ({self._error})",
                retry_after_s=wait_s,
            )

    def _answered(self, started_at: float) -> None:
        self._failures, self._error = 0, ""
        self._pause.end(started_at)

    def _failed(self, started_at: float, error: TransientError) -> None:
        self._failures += 1
        self._error = str(error)
        wish_s = error.retry_after_s or 0.0
        if wish_s or self._pause.probing or self._failures >= _FAILURES:
            self._pause.begin(started_at, wish_s=wish_s)
