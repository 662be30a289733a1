"""The running API answers whatever the OpenAPI document allows as the document says.

Schemathesis makes requests from the document, right ones and wrong ones; an answer may be no
500, and neither its status, headers, content type nor body may differ from the document.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stack.api_process import ApiProcess, running_api
from tests.support.waiting.pace import limit_s

TOKEN, ADMIN_TOKEN = "only-for-tests", "admin-only-for-tests"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
# Its answer has no end; tests/integration/events/test_stream.py reads it.
ENDLESS = "/stream"
CONFIG = """\
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501]
"""
EXAMPLES = 6
LEAST_CASES = 1000
TIMEOUT_S = 240


@pytest.fixture
async def api(
    tmp_path: Path, redis_url: str, falkordb_url: str, qdrant_url: str
) -> AsyncIterator[ApiProcess]:
    given = ApiProcess(
        tmp_path,
        redis_url,
        falkordb_url,
        AUTOMEM_API_TOKEN=TOKEN,
        ADMIN_API_TOKEN=ADMIN_TOKEN,
        QDRANT_URL=qdrant_url,
        QDRANT_COLLECTION="fuzz",
        # Nobody takes the runs that are asked for, so nobody can wait for their end.
        EUNOE_ADMIN_WAIT_SECONDS="0",
        # A provider that refuses at once: one that is not there would be asked for seconds.
        OLLAMA_BASE_URL=f"{qdrant_url}/refuses",
    )
    async with running_api(given) as started:
        await started.ask(
            "POST",
            "/memory",
            json={"content": "Ada prefers window seats", "tags": ["travel"]},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        yield started


async def test_no_answer_differs_from_the_document(api: ApiProcess, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(config), "run", f"{api.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--header", f"X-Admin-Token: {ADMIN_TOKEN}"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--exclude-path", ENDLESS),
        *("--max-examples", str(EXAMPLES), "--seed", "1", "--mode", "all"),
        *("--continue-on-failure", "--no-color", "--warnings", "off"),
        *("--suppress-health-check", "all"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(limit_s(TIMEOUT_S)):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode()
    assert process.returncode == 0, text[-20_000:]
    [cases] = re.findall(r"(\d+) generated", text)
    assert int(cases) >= LEAST_CASES, text
