"""deploy/k8s/base: real schemas, and every value that repeats a setting held against it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

import shared
from shared import config
from shared.process.admin_server import make_admin_app
from shared.process.health import Health
from tests.support.waiting.pace import limit_s

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy" / "k8s" / "base"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text())
# The oldest release the manifests are meant for, and the newest the schemas know.
RELEASES = ("1.27", kubernetes_validate.latest_version())
# Files that are no resources of the base, each for a reason that it states itself.
NOT_APPLIED = {"kustomization.yaml", "name-references.yaml", "secret.example.yaml"}
# Imports, spaCy and the bundled model on a throttled CPU; a start waits for no store.
_SLOWEST_START_S = 30


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((BASE / name).read_text()))


MANIFESTS = [each for name in KUSTOMIZATION["resources"] for each in _documents(name)]
SECRETS = {
    each["metadata"]["name"]: each["stringData"] for each in _documents("secret.example.yaml")
}


def _named(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == kind}


def _deployment(role: str) -> dict[str, Any]:
    spec: dict[str, Any] = _named("Deployment")[f"eunoe-{role}"]["spec"]
    return spec


def _pod(role: str) -> dict[str, Any]:
    pod: dict[str, Any] = _deployment(role)["template"]["spec"]
    return pod


def _container(role: str) -> dict[str, Any]:
    (container,) = _pod(role)["containers"]
    assert isinstance(container, dict)
    return container


def _settings_env() -> dict[str, str]:
    lines = (BASE / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _default(name: str) -> Any:
    return config.variables()[name][2]


@pytest.mark.parametrize("release", RELEASES)
def test_the_manifests_are_valid_by_kubernetes_own_schemas(release: str) -> None:
    core = [each for each in MANIFESTS if not each["apiVersion"].startswith("keda.sh/")]
    for manifest in [*core, *_documents("secret.example.yaml")]:
        kubernetes_validate.validate(manifest, release, strict=True)


def test_the_kustomization_lists_every_file_once() -> None:
    listed = KUSTOMIZATION["resources"]
    assert len(listed) == len(set(listed))
    assert {path.name for path in BASE.glob("*.yaml")} == {*listed, *NOT_APPLIED}
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    assert generator["envs"] == [path.name for path in BASE.glob("*.env")]
    assert KUSTOMIZATION["configurations"] == ["name-references.yaml"]


def test_no_name_appears_twice_and_none_fixes_a_namespace() -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in MANIFESTS]
    assert len(names) == len(set(names))
    assert not [each for each in MANIFESTS if "namespace" in each["metadata"]]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_an_overlay_may_prefix_and_place_it(tmp_path: Path) -> None:
    """kustomize renames consistently: the autoscaler follows its Deployment's new name."""
    shutil.copytree(BASE, tmp_path / "base")
    overlay = {"namePrefix": "dev-", "namespace": "dev", "resources": ["base"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = ["kubectl", "kustomize", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit_s())
    rendered = list(yaml.safe_load_all(ran.stdout))
    assert len(rendered) == len(MANIFESTS) + 1  # and the ConfigMap
    assert {each["metadata"]["namespace"] for each in rendered} == {"dev"}
    deployments = {e["metadata"]["name"] for e in rendered if e["kind"] == "Deployment"}
    assert deployments == {f"dev-eunoe-{role}" for role in config.ROLES}
    scaled = [e["spec"]["scaleTargetRef"]["name"] for e in rendered if e["kind"] == "ScaledObject"]
    assert scaled
    assert set(scaled) <= deployments


def test_there_is_one_deployment_per_role() -> None:
    assert _named("Deployment").keys() == {f"eunoe-{role}" for role in config.ROLES}
    assert [_container(role)["args"] for role in config.ROLES] == [[r] for r in config.ROLES]


def test_the_image_is_the_one_of_this_version() -> None:
    assert {_container(role)["image"] for role in config.ROLES} == {"eunoe"}
    assert KUSTOMIZATION["images"] == [{"name": "eunoe", "newTag": shared.__version__}]


@pytest.mark.parametrize("role", config.ROLES)
def test_everything_of_a_role_selects_its_pods_and_no_others(role: str) -> None:
    labels = {"app.kubernetes.io/name": "eunoe", "app.kubernetes.io/component": role}
    spec = _deployment(role)
    assert spec["selector"]["matchLabels"] == labels
    assert spec["template"]["metadata"]["labels"] == labels
    budget = _named("PodDisruptionBudget")[f"eunoe-{role}"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    (spread,) = _pod(role)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels


@pytest.mark.parametrize("role", config.ROLES)
def test_a_budget_never_blocks_a_nodes_drain(role: str) -> None:
    budget = _named("PodDisruptionBudget")[f"eunoe-{role}"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget


@pytest.mark.parametrize("role", ["api", "consolidator", "syncer"])
def test_what_is_not_scaled_by_backlog_has_a_second_replica(role: str) -> None:
    assert _deployment(role)["replicas"] == 2


def test_the_configmap_holds_only_settings_and_no_secret() -> None:
    given = _settings_env()
    assert given.keys() <= config.variables().keys()
    secrets = {name for keys in SECRETS.values() for name in keys}
    assert not given.keys() & secrets
    for port in ("REDIS_PORT", "FALKORDB_PORT", "QDRANT_PORT"):
        assert int(given[port]) == _default(port)
    assert given["EUNOE_HOST"] == "0.0.0.0"  # noqa: S104


def test_the_secrets_hold_only_settings_and_ship_empty() -> None:
    for keys in SECRETS.values():
        assert keys.keys() <= config.variables().keys()
        assert set(keys.values()) == {""}, "no example value to be forgotten in production"
    assert {"AUTOMEM_API_TOKEN", "ADMIN_API_TOKEN"} <= SECRETS["eunoe-tokens"].keys()


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_reads_the_config_and_only_the_api_the_tokens(role: str) -> None:
    sources = _container(role)["envFrom"]
    maps = [each["configMapRef"]["name"] for each in sources if "configMapRef" in each]
    secrets = {each["secretRef"]["name"] for each in sources if "secretRef" in each}
    assert maps == [KUSTOMIZATION["configMapGenerator"][0]["name"]]
    assert secrets == ({*SECRETS} if role == "api" else {"eunoe-stores"})
    assert "env" not in _container(role)


@pytest.mark.parametrize("role", config.ROLES)
def test_no_service_of_the_namespace_sets_a_setting(role: str) -> None:
    """A Service named `redis` would put REDIS_PORT=tcp://… into the environment."""
    assert _pod(role)["enableServiceLinks"] is False


@pytest.mark.parametrize("role", config.ROLES)
def test_the_ports_are_those_of_the_settings(role: str) -> None:
    expected = {"admin": config.ADMIN_PORTS[role]}
    if role == "api":
        expected["http"] = _default("PORT")
    assert {e["name"]: e["containerPort"] for e in _container(role)["ports"]} == expected


def test_the_service_leads_to_the_api_alone() -> None:
    service = _named("Service")["eunoe-api"]["spec"]
    assert service["selector"] == _deployment("api")["selector"]["matchLabels"]
    (port,) = service["ports"]
    assert port == {"name": "http", "port": _default("PORT"), "targetPort": "http"}


def test_the_metrics_service_finds_every_role_even_while_it_drains() -> None:
    service = _named("Service")["eunoe-metrics"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert [port["targetPort"] for port in service["ports"]] == ["admin"]
    for role in config.ROLES:
        labels = _deployment(role)["template"]["metadata"]["labels"]
        assert service["selector"].items() <= labels.items()


@pytest.mark.parametrize("role", config.ROLES)
def test_prometheus_is_given_the_admin_port(role: str) -> None:
    assert _deployment(role)["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(config.ADMIN_PORTS[role]),
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize("role", config.ROLES)
def test_the_probes_ask_the_admin_server_for_what_it_serves(role: str) -> None:
    container = _container(role)
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    # Never readiness for liveness: a store that is down must not restart the role.
    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    served = {
        route.resource.canonical
        for route in make_admin_app(Health(role)).router.routes()
        if route.resource is not None
    }
    assert {*paths.values(), "/metrics"} <= served
    assert {container[probe]["httpGet"]["port"] for probe in paths} == {"admin"}


@pytest.mark.parametrize("role", config.ROLES)
def test_a_slow_start_is_not_killed(role: str) -> None:
    probe = _container(role)["startupProbe"]
    patience_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert patience_s > _SLOWEST_START_S


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_that_answers_nothing_for_half_a_minute_is_restarted(role: str) -> None:
    probe = _container(role)["livenessProbe"]
    assert 20 <= probe["periodSeconds"] * probe["failureThreshold"] <= 30
    assert probe["timeoutSeconds"] < probe["periodSeconds"]


@pytest.mark.parametrize("role", config.ROLES)
def test_a_pod_has_the_time_to_drain(role: str) -> None:
    drain_s = _default("EUNOE_DRAIN_DELAY_SECONDS") + _default("EUNOE_DRAIN_TIMEOUT_SECONDS")
    assert _pod(role)["terminationGracePeriodSeconds"] >= drain_s + 10


@pytest.mark.parametrize("role", config.ROLES)
def test_a_pod_has_no_rights_beyond_its_work(role: str) -> None:
    pod = _pod(role)
    assert pod["serviceAccountName"] in _named("ServiceAccount")
    assert pod["automountServiceAccountToken"] is False
    (user,) = [
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("USER ")
    ]
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert _container(role)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("role", config.ROLES)
def test_a_role_can_write_where_it_must(role: str) -> None:
    mounts = {each["mountPath"]: each["name"] for each in _container(role)["volumeMounts"]}
    assert mounts.keys() == {"/tmp", _settings_env()["EUNOE_DATA_DIR"]}  # noqa: S108
    volumes = {each["name"]: each["emptyDir"]["sizeLimit"] for each in _pod(role)["volumes"]}
    assert set(mounts.values()) == volumes.keys()


@pytest.mark.parametrize("role", config.ROLES)
def test_what_a_role_may_use_is_bounded(role: str) -> None:
    resources = _container(role)["resources"]
    wanted = {"cpu", "memory", "ephemeral-storage"}
    assert resources["requests"].keys() == resources["limits"].keys() == wanted
