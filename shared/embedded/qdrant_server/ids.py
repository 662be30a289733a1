"""Point ids: unsigned 64-bit integers and UUIDs, nothing else."""

from uuid import UUID

from .errors import malformed, wrong_input
from .fields import JsonObject, items

PointId = int | UUID


def point_id(value: object) -> PointId:
    """Return the id as the engine takes it; UUIDs in any of their notations."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    raise malformed(
        f"value {value} is not a valid point ID, "
        "valid values are either an unsigned integer or a UUID"
    )


def point_ids(value: object, where: str) -> list[PointId]:
    return [point_id(item) for item in items(value, where)]


def path_id(segment: str) -> PointId:
    """Return the id in a request path."""
    try:
        return int(segment) if segment.isascii() and segment.isdigit() else UUID(segment)
    except ValueError:
        raise wrong_input(f"Can not recognize \"{segment}\" as point id") from None


def selected_ids(body: JsonObject) -> list[PointId] | None:
    """Return the ids under `points`, or None where a filter selects instead."""
    return point_ids(body["points"], "points") if "points" in body else None
