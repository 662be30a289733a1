"""One stack for all tests of a worker, and a tenant of its own for each of them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.leaks import leaks
from tests.stack import Client, Stack, StoreView, running, write_tokens
from tests.waiting import wait_until

# In every text that a test stores through `api`: no log line may ever show it (I8).
CANARY = "kanarienvogel"
TOKEN = "token-of-every-tenant-4ce1"
ALPHA, BETA = "token-of-alpha-91d0", "token-of-beta-7a3f"
_TENANTS = 400


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The running product; at its end nothing of anybody's work or words is left over."""
    folder = tmp_path_factory.mktemp("stack")
    tokens = write_tokens(
        folder / "tokens.json",
        {
            TOKEN: ["default", *(f"t{number}" for number in range(_TENANTS))],
            ALPHA: ["alpha"],
            BETA: ["beta", "gamma"],
        },
    )
    async with running(folder / "stack", {"EUNOE_TOKENS_FILE": str(tokens)}) as started:
        yield started
        await _nothing_left(started)
        for name, text in started.logs().items():
            assert CANARY not in text, f"{name} quotes a memory"
            assert not [token for token in (TOKEN, ALPHA, BETA) if token in text], name
        assert await started.stop() == 0


async def _nothing_left(stack: Stack) -> None:
    """I9: nothing pending, ledgers empty but for the dead, no key without time-to-live."""
    last: list[str] = []

    async def clean() -> bool:
        async with stack.stores().redis() as redis:
            last[:] = await leaks(redis, "eunoe")
        return not last

    try:
        await wait_until(clean, "the streams are empty", 15.0)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}\n{stack.told()}") from None


@pytest.fixture(scope="session")
def tenants() -> Iterator[str]:
    return (f"t{number}" for number in itertools.count())


@pytest.fixture
def tenant(tenants: Iterator[str]) -> str:
    """A tenant that nobody has used before."""
    return next(tenants)


@pytest.fixture
async def api(stack: Stack, tenant: str) -> AsyncIterator[Client]:
    async with stack.client(TOKEN, tenant) as client:
        yield client


@pytest.fixture
def stores(stack: Stack, tenant: str) -> StoreView:
    return stack.stores(tenant)
