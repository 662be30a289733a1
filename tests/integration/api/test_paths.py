"""What a path may hold: nothing in it is a server error."""

from __future__ import annotations

import pytest

from services.api.routes import ROUTES
from tests.support.stack.api_process import ApiProcess

PATHS = [(route.method, route.path) for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("given", ["%00", "a%00b", "%ED%A0%80", "%FF", "%0A", "x" * 5000])
@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_no_path_is_a_server_error(
    api: ApiProcess, method: str, path: str, given: str
) -> None:
    before, _, rest = path.partition("{")
    answer = await api.ask(method, before + given + rest.partition("}")[2], json={})
    assert answer.status < 500 or answer.status == 501, answer


@pytest.mark.parametrize("path", ["/memories/%00/related", "/graph/neighbors/%00"])
async def test_a_nul_in_a_path_is_refused(api: ApiProcess, path: str) -> None:
    answer = await api.ask("GET", path)
    assert answer.status == 400
    assert answer.body["message"] == "memory_id must not contain NUL characters"
