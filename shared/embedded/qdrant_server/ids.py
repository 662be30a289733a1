"""Point ids: unsigned 64-bit integers and UUIDs, nothing else."""

from uuid import UUID

from .errors import BadRequest, malformed, wrong_input
from .fields import items

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
    is_number = segment.isascii() and segment.isdigit()
    try:
        return point_id(int(segment) if is_number else segment)
    except (BadRequest, ValueError):
        raise wrong_input(f'Can not recognize "{segment}" as point id') from None
