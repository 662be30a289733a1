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


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"EMBEDDING_PROVIDER": "openai", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
            "does not serve.*cannot be reached.*OPENAI_BASE_URL",
        ),
        (
            {"EMBEDDING_PROVIDER": "ollama", "OLLAMA_BASE_URL": "http://127.0.0.1:1"},
            "does not serve.*cannot be reached.*OLLAMA_BASE_URL",
        ),
        ({"EMBEDDING_PROVIDER": "voyage"}, "VOYAGE_API_KEY is not set"),
        ({"EMBEDDING_PROVIDER": "magic"}, "EMBEDDING_PROVIDER: Input should be 'auto', 'local'"),
    ],
)
async def test_a_start_without_its_provider_is_refused_with_the_reason(
    variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {"PYTHONPATH": str(REPOSITORY), "EUNOE_ADMIN_PORT": "0", **variables}
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.embedder"],
        cwd=tmp_path,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=limit_s(),
        check=False,
    )
    assert ended.returncode == 78, ended.stderr
    assert re.search(told, ended.stderr + ended.stdout), ended.stderr
