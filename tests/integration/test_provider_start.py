"""A role whose provider does not serve refuses to start, and says why."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack.stack import REPOSITORY
from tests.support.waiting.pace import limit_s

# What a role is given, and what it says of it.
REFUSED = {
    "openai is not there": (
        {"EMBEDDING_PROVIDER": "openai", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
        "does not serve.*cannot be reached.*OPENAI_BASE_URL",
    ),
    "ollama is not there": (
        {"EMBEDDING_PROVIDER": "ollama", "OLLAMA_BASE_URL": "http://127.0.0.1:1"},
        "does not serve.*cannot be reached.*OLLAMA_BASE_URL",
    ),
    "no key": ({"EMBEDDING_PROVIDER": "voyage"}, "VOYAGE_API_KEY is not set"),
    "no such provider": (
        {"EMBEDDING_PROVIDER": "magic"},
        "EMBEDDING_PROVIDER: Input should be 'auto', 'local'",
    ),
}
Ended = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
async def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Every start, ended; all at once, since a provider that is not there is asked for seconds."""
    folder = tmp_path_factory.mktemp("start")
    starts = (asyncio.to_thread(_start, given, folder) for given, _ in REFUSED.values())
    return dict(zip(REFUSED, await asyncio.gather(*starts), strict=True))


def _start(variables: dict[str, str], folder: Path) -> Ended:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {"PYTHONPATH": str(REPOSITORY), "EUNOE_ADMIN_PORT": "0", **variables}
    return subprocess.run(
        [sys.executable, "-m", "services.embedder"],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=limit_s(),
        check=False,
    )


@pytest.mark.parametrize("case", REFUSED)
async def test_a_start_without_its_provider_is_refused_with_the_reason(
    ended: dict[str, Ended], case: str
) -> None:
    found, (_, pattern) = ended[case], REFUSED[case]
    assert found.returncode == 78, found.stderr
    assert re.search(pattern, found.stderr + found.stdout), found.stderr
