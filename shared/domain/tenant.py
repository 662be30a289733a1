"""Tenant names: the one rule for what a tenant may be called."""

from __future__ import annotations

import re

from shared.errors import InvalidInput

DEFAULT_TENANT = "default"
_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check_tenant(tenant: str) -> str:
    """Raises: InvalidInput unless `tenant` is 1 to 64 of letters, digits, `_`, `.`, `-`."""
    if not _TENANT.fullmatch(tenant):
        raise InvalidInput("tenant must be 1 to 64 letters, digits, '_', '.' or '-'")
    return tenant
