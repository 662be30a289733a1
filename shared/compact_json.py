"""Write JSON without spaces: what the stores, the streams and HTTP answers carry."""

from __future__ import annotations

import json
from collections.abc import Callable


def compact_json(
    value: object, *, allow_nan: bool = True, default: Callable[[object], object] | None = None
) -> str:
    """Return `value` as JSON, characters beyond ASCII unescaped.

    `default` converts what JSON has no type for.

    Raises: ValueError for NaN and infinity unless `allow_nan`; TypeError for a type that
    neither JSON nor `default` knows.
    """
    return json.dumps(
        value, ensure_ascii=False, allow_nan=allow_nan, separators=(",", ":"), default=default
    )
