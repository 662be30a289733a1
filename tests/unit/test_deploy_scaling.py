"""The ScaledObjects: KEDA's own schema is in no package, so their structure is held here.

The rules are KEDA's redis-streams scaler's: a trigger without `consumerGroup` counts XLEN,
with one it counts XPENDING, whatever else it names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import config
from shared.config import RedisSettings, StreamSettings
from shared.redis.client import RedisClients
from shared.streams.job import Stage

BASE = Path(__file__).resolve().parents[2] / "deploy" / "k8s" / "base"
STAGES = {"enricher": {Stage.ENRICH, Stage.RELATE}, "embedder": {Stage.EMBED}}
SPEC_KEYS = {
    "scaleTargetRef",
    "minReplicaCount",
    "maxReplicaCount",
    "pollingInterval",
    "fallback",
    "advanced",
    "triggers",
}


def _scaled(role: str) -> dict[str, Any]:
    (manifest,) = yaml.safe_load_all((BASE / f"{role}-scaling.yaml").read_text())
    assert isinstance(manifest, dict)
    return manifest


def _deployment(role: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((BASE / f"{role}.yaml").read_text())
    return next(each for each in documents if each["kind"] == "Deployment")


def _settings_env() -> dict[str, str]:
    lines = (BASE / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_exactly_the_stage_workers_are_scaled() -> None:
    assert {path.name for path in BASE.glob("*-scaling.yaml")} == {
        f"{role}-scaling.yaml" for role in STAGES
    }


@pytest.mark.parametrize("role", STAGES)
def test_it_scales_the_roles_own_deployment(role: str) -> None:
    scaled, deployment = _scaled(role), _deployment(role)
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["kind"] == "ScaledObject"
    assert scaled["spec"].keys() == SPEC_KEYS
    assert scaled["spec"]["scaleTargetRef"] == {"name": deployment["metadata"]["name"]}
    # An apply would otherwise set the number back that the autoscaler has chosen.
    assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize("role", STAGES)
def test_its_bounds_never_stop_a_stage(role: str) -> None:
    spec = _scaled(role)["spec"]
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]


@pytest.mark.parametrize("role", STAGES)
def test_it_counts_the_whole_backlog_of_each_stage(role: str) -> None:
    streams = set()
    for trigger in _scaled(role)["spec"]["triggers"]:
        assert trigger["type"] == "redis-streams"
        metadata = trigger["metadata"]
        assert all(isinstance(value, str) for value in metadata.values()), "KEDA takes text only"
        assert not metadata.keys() & {"consumerGroup", "pendingEntriesCount", "lagCount"}
        assert 0 < int(metadata["streamLength"]) < config.variables()["EUNOE_HIGH_WATER"][2]
        streams.add(metadata["stream"])
    prefix = config.variables()["EUNOE_REDIS_PREFIX"][2]
    # Opening connects to nothing: only its way of naming a stream is asked for.
    clients = RedisClients.open(RedisSettings(EUNOE_REDIS_PREFIX=prefix), StreamSettings())
    assert streams == {clients.key(stage, "jobs") for stage in STAGES[role]}


@pytest.mark.parametrize("role", STAGES)
def test_it_asks_the_redis_that_the_role_uses(role: str) -> None:
    """KEDA reads the names behind …FromEnv in the container's environment."""
    (container,) = _deployment(role)["spec"]["template"]["spec"]["containers"]
    sources = [name for source in container["envFrom"] for name in source]
    assert sources == ["configMapRef", "secretRef"]
    given = _settings_env()
    secrets = yaml.safe_load_all((BASE / "secret.example.yaml").read_text())
    stores = next(e["stringData"] for e in secrets if e["metadata"]["name"] == "eunoe-stores")
    # A URL would win for the role and leave KEDA with the host.
    assert "REDIS_URL" not in {*given, *stores}
    for trigger in _scaled(role)["spec"]["triggers"]:
        metadata = trigger["metadata"]
        assert metadata["hostFromEnv"] in given
        assert metadata["portFromEnv"] in given
        assert metadata["passwordFromEnv"] in stores
        assert metadata["databaseIndex"] == given["REDIS_DB"]


@pytest.mark.parametrize("role", STAGES)
def test_it_grows_at_once_and_shrinks_slowly(role: str) -> None:
    advanced = _scaled(role)["spec"]["advanced"]
    behavior = advanced["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
    (shrinking,) = behavior["scaleDown"]["policies"]
    assert shrinking == {"type": "Pods", "value": 1, "periodSeconds": 60}
