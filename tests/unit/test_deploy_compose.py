"""docker-compose.yml, held against the settings; there is no Docker engine to ask."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

import shared
from shared import config
from tests.support.waiting.pace import limit_s

FILE = Path(__file__).resolve().parents[2] / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# Where each image keeps its data, and the variables that it reads itself.
STORES = {
    "redis": ("/data", set[str]()),
    "falkordb": ("/var/lib/falkordb/data", {"REDIS_ARGS", "FALKORDB_ARGS"}),
    "qdrant": ("/qdrant/storage", {"QDRANT__TELEMETRY_DISABLED"}),
}
# Imports, spaCy and the bundled model on a throttled CPU; a start waits for no store.
_SLOWEST_START_S = 30


def _default(name: str) -> Any:
    return config.variables()[name][2]


def test_it_is_valid_by_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    ran = subprocess.run(
        [*command, FILE], capture_output=True, text=True, check=False, timeout=limit_s()
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_runs_the_five_roles_and_the_three_stores() -> None:
    assert SERVICES.keys() == {*config.ROLES, *STORES}
    assert [SERVICES[role]["command"] for role in config.ROLES] == [[r] for r in config.ROLES]


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_gets_only_variables_that_are_read(role: str) -> None:
    assert SERVICES[role]["environment"].keys() <= config.variables().keys()


def test_whatever_is_asked_of_the_user_is_a_setting_too() -> None:
    names = set(re.findall(r"(?<!\$)\$\{?(\w+)", FILE.read_text()))
    assert names == {"AUTOMEM_API_TOKEN", "ADMIN_API_TOKEN", "PORT"}
    assert names <= config.variables().keys()


@pytest.mark.parametrize("name", ["AUTOMEM_API_TOKEN", "ADMIN_API_TOKEN"])
def test_it_refuses_to_start_without_tokens(name: str) -> None:
    assert SERVICES["api"]["environment"][name].startswith(f"${{{name}:?")


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_answers_on_its_usual_admin_port_on_every_interface(role: str) -> None:
    environment = SERVICES[role]["environment"]
    assert int(environment["EUNOE_ADMIN_PORT"]) == config.ADMIN_PORTS[role]
    assert environment["EUNOE_HOST"] == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_finds_the_stores_on_their_ports(role: str) -> None:
    environment = SERVICES[role]["environment"]
    assert environment["REDIS_URL"] == f"redis://redis:{_default('REDIS_PORT')}/0"
    assert environment["FALKORDB_URL"] == f"redis://falkordb:{_default('FALKORDB_PORT')}"
    assert environment["QDRANT_URL"] == f"http://qdrant:{_default('QDRANT_PORT')}"


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    port = _default("PORT")
    assert published == {"api": [f"127.0.0.1:${{PORT:-{port}}}:{port}"]}
    assert int(SERVICES["api"]["environment"]["PORT"]) == port


@pytest.mark.parametrize("role", config.ROLES)
def test_a_roles_health_is_its_own_probe(role: str) -> None:
    probe = SERVICES[role]["healthcheck"]
    assert probe["test"] == ["CMD", "python", "-m", f"services.{role}", "--health"]
    assert int(probe["start_period"].removesuffix("s")) >= _SLOWEST_START_S


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_has_the_time_to_drain(role: str) -> None:
    drain_s = _default("EUNOE_DRAIN_DELAY_SECONDS") + _default("EUNOE_DRAIN_TIMEOUT_SECONDS")
    assert int(SERVICES[role]["stop_grace_period"].removesuffix("s")) >= drain_s + 10


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_can_write_only_where_it_must(role: str) -> None:
    service = SERVICES[role]
    assert service["read_only"] is True
    assert set(service["tmpfs"]) == {"/tmp", service["environment"]["EUNOE_DATA_DIR"]}  # noqa: S108
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_waits_for_stores_whose_health_is_checked(role: str) -> None:
    waits = SERVICES[role]["depends_on"]
    assert {name: each["condition"] for name, each in waits.items()} == dict.fromkeys(
        STORES, "service_healthy"
    )
    assert all(SERVICES[store]["healthcheck"]["test"][0] == "CMD" for store in waits)


def test_everything_comes_back_after_a_crash() -> None:
    assert {each["restart"] for each in SERVICES.values()} == {"unless-stopped"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?", tag)


def test_the_roles_share_the_image_of_this_version() -> None:
    assert {SERVICES[role]["image"] for role in config.ROLES} == {f"eunoe:{shared.__version__}"}


def test_qdrant_is_new_enough_for_conditional_upserts() -> None:
    version = SERVICES["qdrant"]["image"].partition(":v")[2]
    assert tuple(map(int, version.split("."))) >= (1, 17)


@pytest.mark.parametrize("store", STORES)
def test_a_stores_data_lies_in_a_declared_volume(store: str) -> None:
    data, _ = STORES[store]
    mounts = dict(reversed(each.split(":")) for each in SERVICES[store]["volumes"])
    assert data in mounts
    assert set(mounts.values()) <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize("store", STORES)
def test_a_store_gets_only_variables_that_its_image_reads(store: str) -> None:
    assert SERVICES[store].get("environment", {}).keys() == STORES[store][1]


@pytest.mark.parametrize("store", STORES)
def test_a_store_is_reached_by_the_roles_alone(store: str) -> None:
    assert SERVICES[store]["networks"] == ["stores"]
    assert COMPOSE["networks"]["stores"] == {"internal": True}


@pytest.fixture(params=[200, 503])
def qdrant(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """(port, status) of a server that answers /readyz alone, with that status."""
    status: int = request.param

    class Readyz(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), Readyz) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port, status
        server.shutdown()
        thread.join()


def test_qdrants_probe_reads_its_readiness_without_curl(qdrant: tuple[int, int]) -> None:
    """The command itself is run: its image has no other tool than bash to ask with."""
    port, status = qdrant
    _, *command = SERVICES["qdrant"]["healthcheck"]["test"]
    command[-1] = command[-1].replace("$$", "$").replace("/6333", f"/{port}")
    ran = subprocess.run(command, capture_output=True, check=False, timeout=limit_s())
    assert (ran.returncode == 0) == (status == 200)
