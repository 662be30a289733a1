"""Refusals in Qdrant's status codes and words, and the engine's exceptions turned into them."""

from collections.abc import Iterator
from contextlib import contextmanager


class ServerError(Exception):
    """A refusal: an HTTP status, and a text that goes to the client as it stands.

    400 and 422: the client must change the request. 404 and 409: a collection is missing,
    or a name is taken. 500: the engine failed, see the log. 501: Qdrant serves this,
    the embedded server does not.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def collection_missing(name: str) -> ServerError:
    return ServerError(404, f"Not found: Collection `{name}` doesn't exist!")


def collection_exists(name: str) -> ServerError:
    return ServerError(409, f"Wrong input: Collection `{name}` already exists!")


def malformed(detail: str) -> ServerError:
    return ServerError(400, f"Format error in JSON body: {detail}")


def wrong_input(detail: str) -> ServerError:
    return ServerError(400, f"Wrong input: {detail}")


@contextmanager
def engine_calls() -> Iterator[None]:
    """Turn what the engine raises into refusals.

    Its constructors raise TypeError, ValueError or OverflowError for an argument that they do
    not take. A failed operation raises a bare Exception. A panic in its Rust code raises a
    BaseException of a type that cannot be imported.
    """
    try:
        yield
    except ServerError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise malformed(_first_line(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ServerError(500, f"Service internal error: {_first_line(error)}") from error
        if type(error) is not Exception:
            raise
        text = _first_line(error)
        if text.startswith("Service runtime error"):
            raise ServerError(500, f"Service internal error: {text}") from error
        raise wrong_input(text) from error


def _first_line(error: BaseException) -> str:
    # The engine lists every variant it tried on further lines.
    return str(error).split("\n", 1)[0]
