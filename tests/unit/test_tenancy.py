"""Tokens: who is let in, for which tenant, and what a changed file changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.api.http.tenancy import Forbidden, Tokens, Unauthorized, digest_of
from shared.config import ApiSettings
from shared.errors import ConfigError

HOST = "127.0.0.1"


def tokens(host: str = HOST, **variables: Any) -> Tokens:
    return Tokens(ApiSettings(_env_file=None, **variables), host=host)


def entry(token: str, **fields: Any) -> dict[str, Any]:
    return {"digest": digest_of(token), "name": token, "tenants": ["a", "b"], **fields}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps([entry("first"), entry("reader", scopes=["read"], tenants=["b"])]))
    return path


def test_without_tokens_everybody_is_default_on_loopback() -> None:
    access = tokens().authenticate(None)
    assert access.tenant(None) == "default"
    with pytest.raises(Forbidden):
        access.tenant("other")


def test_without_tokens_nothing_is_served_elsewhere() -> None:
    with pytest.raises(ConfigError, match="AUTOMEM_API_TOKEN"):
        tokens("0.0.0.0")  # noqa: S104
    assert tokens("0.0.0.0", EUNOE_ALLOW_INSECURE="true").open  # noqa: S104


@pytest.mark.parametrize("wrong", [None, "", "wrong", "SECRET", "secret ", "\udcff"])
def test_a_wrong_token_is_nobody(wrong: str | None) -> None:
    with pytest.raises(Unauthorized):
        tokens(AUTOMEM_API_TOKEN="secret").authenticate(wrong)


def test_the_header_selects_among_granted_tenants_only(file: Path) -> None:
    access = tokens(EUNOE_TOKENS_FILE=file).authenticate("first")
    assert access.tenant(None) == "a"
    assert access.tenant("b") == "b"
    with pytest.raises(Forbidden):
        access.tenant("c")


def test_scopes_are_demanded(file: Path) -> None:
    access = tokens(EUNOE_TOKENS_FILE=file).authenticate("reader")
    access.demand("read")
    with pytest.raises(Forbidden):
        access.demand("write")


def test_a_changed_file_changes_who_may(file: Path) -> None:
    known = tokens(EUNOE_TOKENS_FILE=file)
    file.write_text(json.dumps([entry("second")]))
    known.reload()
    assert known.authenticate("second").name == "second"
    with pytest.raises(Unauthorized):
        known.authenticate("first")


@pytest.mark.parametrize("content", ["[{", "[" * 100_000])
def test_a_half_written_file_locks_nobody_out(file: Path, content: str) -> None:
    known = tokens(EUNOE_TOKENS_FILE=file)
    file.write_text(content)
    known.reload()
    assert known.authenticate("first").name == "first"


@pytest.mark.parametrize(
    "content", ["{", "[{}]", '[{"digest": "x", "name": "n", "tenants": ["a"]}]', "[1]"]
)
def test_a_wrong_file_refuses_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="EUNOE_TOKENS_FILE"):
        tokens(EUNOE_TOKENS_FILE=path)


def test_a_tenant_name_that_is_no_graph_name_refuses_the_start(file: Path) -> None:
    file.write_text(json.dumps([entry("t", tenants=["../x"])]))
    os.utime(file)
    with pytest.raises(ConfigError, match="EUNOE_TOKENS_FILE: tenant must be"):
        tokens(EUNOE_TOKENS_FILE=file)


def test_the_admin_half() -> None:
    with pytest.raises(Forbidden, match="not configured"):
        tokens().demand_admin("x")
    known = tokens(ADMIN_API_TOKEN="boss")
    known.demand_admin("boss")
    for wrong in (None, "x"):
        with pytest.raises(Unauthorized, match="Admin authorization required"):
            known.demand_admin(wrong)
