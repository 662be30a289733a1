"""The OpenAPI document: valid, committed as it is made, and true to the route table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.api.http.openapi import document, rendered
from services.api.http.route import Route
from services.api.routes import ROUTES
from shared.config import Settings

SETTINGS = Settings()
COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(ROUTES, SETTINGS)


def _operation(made: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = made["paths"][path][method]
    return found


def test_it_is_valid(made: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(json.loads(json.dumps(made))).validate()


def test_the_committed_one_is_what_the_table_makes() -> None:
    assert COMMITTED.read_text() == rendered(ROUTES, SETTINGS), "make documents"


def test_every_documented_route_is_in_it_and_nothing_else(made: dict[str, Any]) -> None:
    wanted = {(each.method.lower(), each.path) for each in ROUTES if each.documented}
    assert wanted == {(verb, path) for path, verbs in made["paths"].items() for verb in verbs}
    assert len(wanted) > 30


def test_names_of_operations_are_unique(made: dict[str, Any]) -> None:
    names = [each["operationId"] for verbs in made["paths"].values() for each in verbs.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("method", "path", "tokens"),
    [
        ("get", "/recall", [{"apiKey"}, {"apiKeyQuery"}, {"bearer"}]),
        ("get", "/health", []),
        ("get", "/backup", [{"adminApiKey"}, {"adminToken"}, {"adminTokenQuery"}]),
    ],
)
def test_it_says_which_tokens(
    made: dict[str, Any], method: str, path: str, tokens: list[set[str]]
) -> None:
    found = [set(each) for each in _operation(made, method, path)["security"]]
    assert sorted(map(sorted, found)) == sorted(map(sorted, tokens))


def test_admin_routes_need_both_tokens(made: dict[str, Any]) -> None:
    found = _operation(made, "post", "/admin/sync")["security"]
    assert len(found) == 9
    assert all(len(each) == 2 for each in found)


def test_repeatable_writes_take_a_key_and_tell_of_a_replay(made: dict[str, Any]) -> None:
    taking = {
        path
        for path, verbs in made["paths"].items()
        for each in verbs.values()
        if any(param["name"] == "Idempotency-Key" for param in each.get("parameters", ()))
    }
    assert taking == {"/memory", "/memory/batch", "/associate"}
    answers = _operation(made, "post", "/memory")["responses"]
    assert "Idempotent-Replay" in answers["201"]["headers"]
    assert "409" in answers


def test_a_store_down_says_when_to_come_back(made: dict[str, Any]) -> None:
    assert "Retry-After" in made["components"]["responses"]["503"]["headers"]


def test_memory_ids_are_uuids_where_others_are_refused(made: dict[str, Any]) -> None:
    [strict] = [
        each
        for each in _operation(made, "patch", "/memory/{memory_id}")["parameters"]
        if each["in"] == "path"
    ]
    assert strict["schema"]["format"] == "uuid"


def test_repeated_parameters_are_lists(made: dict[str, Any]) -> None:
    params = {each["name"]: each for each in _operation(made, "get", "/recall")["parameters"]}
    assert params["tags"]["schema"]["type"] == "array"
    assert params["tags"]["explode"] is True
    assert params["X-Tenant-Id"]["in"] == "header"


def test_what_a_body_needs_is_documented(made: dict[str, Any]) -> None:
    schemas = made["components"]["schemas"]
    assert schemas["MemoryIn"]["required"] == ["content"]
    assert schemas["MergeIn"]["required"] == ["merge_into"]
    assert schemas["AssociationIn"]["required"] == ["memory1_id", "memory2_id"]
    assert "required" not in schemas["MemoryPatch"]


@pytest.mark.parametrize(
    ("path", "needed"),
    [("/memory", True), ("/admin/sync", False), ("/enrichment/reprocess", False)],
)
def test_a_body_of_defaults_may_be_left_out(made: dict[str, Any], path: str, needed: bool) -> None:
    assert _operation(made, "post", path)["requestBody"]["required"] is needed


def test_a_run_is_answered_at_its_end_or_before(made: dict[str, Any]) -> None:
    for path in ("/admin/sync", "/admin/reembed", "/admin/generations/{name}/activate"):
        assert {"200", "202", "400", "401", "403", "503"} <= set(
            _operation(made, "post", path)["responses"]
        )


def test_no_route_repeats_another() -> None:
    keys = [(route.method, route.path) for route in ROUTES]
    assert len(keys) == len(set(keys))


def test_a_path_s_pattern_is_no_part_of_its_name() -> None:
    async def nothing(_request: object) -> Any: ...

    route = Route("GET", "/thing/{name:[a-z]+}", nothing, "A thing")
    [path] = document([route], SETTINGS)["paths"]
    assert path == "/thing/{name}"
