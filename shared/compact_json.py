"""Write JSON without spaces: what the stores, the streams and HTTP answers carry."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache


def compact_json(
    value: object, *, allow_nan: bool = True, default: Callable[[object], object] | None = None
) -> str:
    """Return `value` as JSON, characters beyond ASCII unescaped.

    `default` converts what JSON has no type for.

    Raises: ValueError for NaN and infinity unless `allow_nan`; TypeError for a type that
    neither JSON nor `default` knows.
    """
    return _encoder(allow_nan, default).encode(value)


@lru_cache(maxsize=16)
def _encoder(allow_nan: bool, default: Callable[[object], object] | None) -> json.JSONEncoder:
    """Return one encoder per kind: `json.dumps` would build one for every text."""
    return json.JSONEncoder(
        ensure_ascii=False, allow_nan=allow_nan, separators=(",", ":"), default=default
    )
