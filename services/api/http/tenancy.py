"""Tokens, and what each grants: tenants and scopes.

The token of a request decides its tenant; the header `X-Tenant-Id` only chooses among the
tenants that the token grants. Tokens are stored as SHA-256 digests, compared in constant time,
and never logged; a log line has the first eight hex digits of a digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)

from shared.config import ApiSettings
from shared.domain.tenant import DEFAULT_TENANT, check_tenant
from shared.errors import ConfigError, EunoeError, InvalidInput
from shared.waiting import wait

_LOOK_EVERY_S = 1.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unauthorized(EunoeError):
    """No valid token: HTTP 401."""


class Forbidden(EunoeError):
    """A valid token that does not grant this: HTTP 403."""


def digest_of(token: str) -> str:
    # A header may hold any bytes; bytes that are no text must not raise: the token is wrong.
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


class Access(BaseModel):
    """What one token grants, as the file lists it. The first of its tenants is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
    name: str = Field(min_length=1, max_length=64)
    tenants: tuple[Annotated[str, AfterValidator(check_tenant)], ...] = Field(min_length=1)
    scopes: frozenset[str] = frozenset({"read", "write"})
    # Accepted for files that have it; nothing limits a token's rate yet.
    rate: float | None = Field(default=None, gt=0)

    def tenant(self, wanted: str | None) -> str:
        """Return the request's tenant. Raises: Forbidden where the token does not grant it."""
        if wanted is None:
            return self.tenants[0]
        if wanted not in self.tenants:
            raise Forbidden("This token does not grant the tenant named in X-Tenant-Id")
        return wanted

    def demand(self, scope: str) -> None:
        """Raises: Forbidden where the token does not grant the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"This token does not grant the scope '{scope}'")


_LISTED = TypeAdapter(list[Access])
_EVERYBODY = Access.model_construct(
    digest="", name="open", tenants=(DEFAULT_TENANT,), scopes=frozenset({"read", "write"})
)


class Tokens:
    """All tokens that are valid now; their file is read again when it changes.

    With no token configured every request is served as the tenant `default`. That is allowed
    on a loopback address, or with EUNOE_ALLOW_INSECURE=true.
    """

    def __init__(self, settings: ApiSettings, *, host: str) -> None:
        self._file = settings.tokens_file
        self._stamp: tuple[int, int] | None = None
        self._fixed: list[Access] = []
        self._listed: list[Access] = []
        if settings.api_token is not None:
            digest = digest_of(settings.api_token.get_secret_value())
            self._fixed.append(Access(digest=digest, name="api", tenants=(DEFAULT_TENANT,)))
        self._admin = (
            digest_of(settings.admin_token.get_secret_value()) if settings.admin_token else None
        )
        self.reload()
        self.open = not self._fixed and self._file is None
        if self.open and host not in _LOOPBACK and not settings.allow_insecure:
            raise ConfigError(
                "AUTOMEM_API_TOKEN or EUNOE_TOKENS_FILE must be set to serve on"
                f" EUNOE_HOST={host}; EUNOE_ALLOW_INSECURE=true serves without"
            )

    async def watch(self, stopping: asyncio.Event) -> None:
        """Read the file again when it has changed, off the loop, until `stopping`."""
        while not await wait(stopping, _LOOK_EVERY_S):
            await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Read the file again if it has changed; a malformed one leaves the tokens as they are.

        Raises: ConfigError for a malformed file at the first reading.
        """
        if self._file is None:
            return
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._stamp:
                return
            self._listed = _LISTED.validate_python(json.loads(self._file.read_text()))
        except (OSError, ValueError, RecursionError, InvalidInput) as error:
            if self._stamp is not None:
                return  # a half-written file must not lock everybody out
            raise ConfigError(f"EUNOE_TOKENS_FILE: {error}") from error
        self._stamp = stamp

    def authenticate(self, token: str | None) -> Access:
        """Return what `token` grants. Raises: Unauthorized."""
        if self.open:
            return _EVERYBODY
        digest = digest_of(token or "")
        # All are compared, so that the time does not depend on which one matches.
        known = (*self._fixed, *self._listed)
        matches = [access for access in known if hmac.compare_digest(access.digest, digest)]
        if token is None or not matches:
            raise Unauthorized("Unauthorized")
        return matches[-1]

    def demand_admin(self, token: str | None) -> None:
        """Raises: Forbidden when no admin token is configured, Unauthorized for a wrong one."""
        if self._admin is None:
            raise Forbidden("Admin token not configured")
        if token is None or not hmac.compare_digest(self._admin, digest_of(token)):
            raise Unauthorized("Admin authorization required")
