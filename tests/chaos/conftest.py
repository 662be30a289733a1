"""Stacks that tests break: a shared one where it heals, else one of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.conftest import TENANTS
from tests.support.stack.stack import Client, Stack, running, write_tokens

TOKEN = "token-of-every-tenant-0b7e"
StartStack = Callable[..., Awaitable[Stack]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartStack]:
    """`await start({"EUNOE_…": …}, "--replicas", "enricher=2")`; ended with the test."""
    async with AsyncExitStack() as stacks:

        async def start_one(environment: dict[str, str] | None = None, *arguments: str) -> Stack:
            folder = tmp_path / f"stack{len(list(tmp_path.iterdir()))}"
            return await stacks.enter_async_context(running(folder, environment, *arguments))

        yield start_one


@pytest.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """For tests after which everything runs again; each works in a tenant of its own."""
    folder = tmp_path_factory.mktemp("stack")
    tokens = write_tokens(folder / "tokens.json", {TOKEN: TENANTS})
    async with running(folder / "stack", {"EUNOE_TOKENS_FILE": str(tokens)}) as started:
        yield started
        assert await started.stop() == 0


@pytest.fixture
async def client(stack: Stack, tenant: str) -> AsyncIterator[Client]:
    async with stack.client(TOKEN, tenant) as opened:
        yield opened
