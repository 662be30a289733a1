"""Every error the product raises on purpose, and what its catcher does about it.

    EunoeError
    ├── ConfigError            refuse to start: the message names the variable
    ├── TransientError         try the same thing again later (after `retry_after_s`)
    │   ├── Unavailable        a store or provider is down: burns no attempt; HTTP 503
    │   └── PoisonInput        one of the inputs makes the provider fail: halve, then charge
    ├── PermanentError         the same thing will fail again: a dead letter; HTTP 400
    │   ├── InvalidInput       the caller's input is wrong: HTTP 400
    │   ├── NotFound           what was named does not exist: HTTP 404
    │   └── Conflict           what was asked contradicts what is stored: HTTP 409
    ├── Overloaded             past high water: nothing was written; HTTP 503
    └── Fenced                 another leader wrote since: stop, write nothing more

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
    """`dependency` (graph, vectors, redis, embedding, chat) does not answer at all."""

    def __init__(
        self, dependency: str, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{dependency}: {message}", retry_after_s=retry_after_s)
        self.dependency = dependency


class PoisonInput(TransientError):
    """The provider fails at these inputs and at no other; the caller finds the one by halving."""


class PermanentError(EunoeError):
    """Will fail again however often it is tried."""


class InvalidInput(PermanentError):
    """The message tells the client which value is wrong and why."""


class NotFound(PermanentError):
    """What the client named is not there."""


class Conflict(PermanentError):
    """The request contradicts what is stored under the same key."""


class Overloaded(EunoeError):
    """The backlog is past high water; nothing was written. Try again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Fenced(EunoeError):
    """A newer leader's token stands in the graph; the body must end without another write."""
