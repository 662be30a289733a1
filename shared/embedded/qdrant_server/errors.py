"""What the server refuses, in Qdrant's status codes and wording.

    ServerError
    ├── BadRequest        400  the caller must change the request
    ├── NotFound          404
    ├── Conflict          409
    ├── Unprocessable     422  well-formed, but a value is out of its bounds
    ├── EngineFailure     500  the engine broke; see the log
    └── Unsupported       501  Qdrant does this, the embedded server does not

The engine raises bare `Exception` with a text; `engine_calls` turns it into this
tree at the only place where one sees which of the caller's words it is about.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ServerError(Exception):
    """A refusal whose text goes to the client as it stands."""

    status = 500


class BadRequest(ServerError):
    status = 400


class NotFound(ServerError):
    status = 404


class Conflict(ServerError):
    status = 409


class Unprocessable(ServerError):
    status = 422


class EngineFailure(ServerError):
    status = 500


class Unsupported(ServerError):
    status = 501


def collection_missing(name: str) -> NotFound:
    return NotFound(f"Not found: Collection `{name}` doesn't exist!")


def malformed(detail: str) -> BadRequest:
    return BadRequest(f"Format error in JSON body: {detail}")


def invalid(detail: str) -> Unprocessable:
    return Unprocessable(f"Validation error in JSON body: [{detail}]")


def wrong_input(detail: str) -> BadRequest:
    return BadRequest(f"Wrong input: {detail}")


def unsupported(what: str) -> Unsupported:
    return Unsupported(f"Not supported by the embedded server: {what}")


@contextmanager
def engine_objects() -> Iterator[None]:
    """Refuse with 400 what the engine's constructors refuse."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise malformed(_first_line(error)) from error


@contextmanager
def engine_calls() -> Iterator[None]:
    """Translate whatever a call into a shard raises.

    Raises:
        ServerError: always this, also for a panic in the engine's Rust code,
            which arrives as a BaseException of a type that cannot be imported.
    """
    try:
        yield
    except ServerError:
        raise
    except Exception as error:
        raise _translated(_first_line(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise EngineFailure(f"Service internal error: {_first_line(error)}") from error


def _translated(text: str) -> ServerError:
    if text.startswith("Service runtime error"):
        return EngineFailure(f"Service internal error: {text}")
    if text.startswith("No point with id"):
        return NotFound(f"Not found: {text} found")
    return wrong_input(text)


def _first_line(error: BaseException) -> str:
    # The engine lists every variant it tried on further lines.
    return str(error).split("\n", 1)[0]
