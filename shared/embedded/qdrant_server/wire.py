"""The base of all request models, and the JSON types that they share.

The models follow Qdrant's wire format. A member that a model does not name, a value of
another type and a number that JSON does not have are refused, so that no option is ignored.
"""

from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError, from_json

from .errors import ServerError, malformed

_F32_MAX = 3.4028235e38
_MAX_DEPTH = 64
_SHOWN_ERRORS = 5
_OUT_OF_BOUNDS = "out_of_bounds"


class Wire(BaseModel):
    """Part of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _positive(value: int) -> int:
    if value < 1:
        raise PydanticCustomError(_OUT_OF_BOUNDS, "must be 1 or larger")
    return value


def _shallow(value: Any) -> Any:
    """Refuse JSON that the engine could not read back.

    The engine writes any depth into its write-ahead log but reads 128 levels at most: the
    collection would not open again after a kill.
    """
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return value
    raise ValueError(f"nests deeper than {_MAX_DEPTH} levels")


Number = Annotated[float, Field(ge=-_F32_MAX, le=_F32_MAX)]
Positive = Annotated[int, AfterValidator(_positive)]
PointId = Annotated[int, Field(ge=0, lt=2**64)] | Annotated[UUID, Field(strict=False)]
SHALLOW = BeforeValidator(_shallow)
Payload = Annotated[dict[str, Any], SHALLOW]

_Model = TypeVar("_Model", bound=Wire)


def read(model: type[_Model], body: bytes) -> _Model:
    """Return the request in a JSON text; an empty text counts as an empty object.

    Raises: ServerError for other text, and for a request that the embedded server does not serve.
    """
    try:
        return model.model_validate(from_json(body, allow_inf_nan=False) if body else {})
    except ValidationError as error:
        raise _refusal(error) from error
    except ValueError as error:
        raise malformed(str(error)) from error


def _refusal(error: ValidationError) -> ServerError:
    """Return Qdrant's 422 for a number out of its bounds and its 400 for anything else."""
    found = error.errors(include_url=False, include_input=False)[:_SHOWN_ERRORS]
    # Parts of a location with a bracket are types that pydantic tried, and no members.
    paths = [".".join(str(part) for part in each["loc"] if "[" not in str(part)) for each in found]
    text = "; ".join(f"{path}: {each['msg']}" for path, each in zip(paths, found, strict=True))
    if any(each["type"] == _OUT_OF_BOUNDS for each in found):
        return ServerError(422, f"Validation error in JSON body: {text}")
    if any(each["type"] == "extra_forbidden" for each in found):
        return malformed(f"unknown field, or one that the embedded server does not serve: {text}")
    return malformed(text)
