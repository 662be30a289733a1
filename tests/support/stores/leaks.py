"""What a test may leave behind in Redis: dead jobs, and nothing else of its work.

Every key without a time-to-live must be on the list; a new kind of key needs an entry here
and a reason, so that a memory leak cannot land.
"""

from __future__ import annotations

import re
from typing import Any

# Suffixes behind `<prefix>:`.
ALLOWED_WITHOUT_TTL = (
    r"\{\w+\}:jobs",  # a stage's stream: stays, empty, with its group
    r"\{\w+\}:dead",  # until an operator replays or discards
    r"\{\w+\}:at",  # the ledger: dead jobs only, checked below
    r"tenants:due",  # one field per tenant with work; the relay empties it
)
_ALLOWED = re.compile("|".join(f"(?:{pattern})" for pattern in ALLOWED_WITHOUT_TTL))


async def leaks(redis: Any, prefix: str) -> list[str]:
    """One sentence per thing left behind under `prefix`."""
    found: list[str] = []
    async for key in redis.scan_iter(f"{prefix}:*", count=1000):
        name = key.removeprefix(f"{prefix}:")
        if await redis.ttl(key) == -1 and not _ALLOWED.fullmatch(name):
            found.append(f"{name} has no time-to-live")
        if name.endswith("}:jobs"):
            found += await _unfinished(redis, key, name)
        if name.endswith("}:at"):
            values = await redis.hvals(key)
            found += [f"{name} names {at}" for at in values if not at.startswith("dead:")]
    return found


async def _unfinished(redis: Any, key: str, name: str) -> list[str]:
    groups = await redis.xinfo_groups(key)
    found = [f"{name}: {group['pending']} pending" for group in groups if group["pending"]]
    if length := await redis.xlen(key):
        found.append(f"{name}: {length} entries")
    return found
