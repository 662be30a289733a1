"""Every error the product raises on purpose, and what its catcher does about it.

Stores and models translate their libraries' exceptions into these at their boundary;
nothing above a boundary sees redis, qdrant or openai exceptions.
"""

from __future__ import annotations


class EunoeError(Exception):
    """Root of the tree; catch a branch of it, never this."""


class ConfigError(EunoeError):
    """The environment cannot be served; shown to the operator, process exits with 78."""


class TransientError(EunoeError):
    """May succeed when tried again, after `retry_after_s` where the server named a time."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(TransientError):
    """`dependency` (graph, vectors, redis, embedding, chat) does not answer at all.

    Charges no attempt of a job; HTTP 503.
    """

    def __init__(
        self, dependency: str, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{dependency}: {message}", retry_after_s=retry_after_s)
        self.dependency = dependency


class PoisonInput(TransientError):
    """The provider fails at these inputs and at no other; the caller finds the one by halving."""


class PermanentError(EunoeError):
    """Will fail again however often it is tried: a dead letter; HTTP 400."""


class InvalidInput(PermanentError):
    """The message tells the client which value is wrong and why; HTTP 400."""


class NotFound(PermanentError):
    """The thing that the client named does not exist; HTTP 404."""


class Conflict(PermanentError):
    """The request contradicts the data that is stored under the same key; HTTP 409."""


class Overloaded(EunoeError):
    """The backlog is past high water; nothing was written; HTTP 503 with `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Fenced(EunoeError):
    """A newer leader's token stands in the graph; the body must end without another write."""
