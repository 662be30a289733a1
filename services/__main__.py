"""`python -m services`: the embedded stores and the five roles, one supervisor.

    --only api,enricher      these roles only
    --replicas enricher=2    more of one role (repeatable)
    --silence 30             seconds without an answer after which a process is restarted

Restarts what ends or answers nothing, a store like a role; Ctrl-C or SIGTERM stops everything
in order: the API, the workers, then the stores. $EUNOE_DATA_DIR/stack.json says where each is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from services.supervisor import Stack, StackBusy
from shared import config
from shared.config import ROLES
from shared.errors import ConfigError
from shared.process.lifecycle import EX_CONFIG


def _replicas(text: str) -> tuple[str, int]:
    role, _, count = text.partition("=")
    if role not in ROLES or not count.isdigit() or not 0 < int(count) <= 32:
        raise argparse.ArgumentTypeError(f"want ROLE=COUNT with a role of {', '.join(ROLES)}")
    if role == "api" and int(count) > 1:
        raise argparse.ArgumentTypeError("one port serves one api; run more behind a balancer")
    return role, int(count)


def _only(text: str) -> list[str]:
    roles = text.split(",")
    if unknown := [role for role in roles if role not in ROLES]:
        raise argparse.ArgumentTypeError(f"no such role: {', '.join(unknown)}")
    return roles


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("--only", type=_only, default=list(ROLES), metavar="ROLE,ROLE")
    parser.add_argument("--replicas", type=_replicas, action="append", default=[], metavar="ROLE=N")
    parser.add_argument("--silence", type=float, default=30.0, metavar="SECONDS")
    given = parser.parse_args()
    counts = dict.fromkeys(given.only, 1) | {
        role: count for role, count in given.replicas if role in given.only
    }
    try:
        return asyncio.run(Stack(config.load(), counts, silence_limit_s=given.silence).run())
    except (ConfigError, StackBusy) as error:
        print(f"eunoe: {error}", file=sys.stderr)
        return EX_CONFIG


if __name__ == "__main__":
    sys.exit(main())
