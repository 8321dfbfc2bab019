"""The values of the Helm chart: what an operator mistypes, or combines badly, is refused by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.helm import (
    CHART,
    Helm,
    Manifest,
    changed,
    example,
)

MINIMAL = example("minimal")


def test_every_value_has_a_place_in_the_schema_and_every_place_a_value() -> None:
    """But for what a chart above hands down, and for what is a map of the operator's own."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    def compare(schema: Manifest, values: Manifest, path: str) -> Iterator[str]:
        if schema.get("properties") is None or path == ".settings":
            return
        yield from (
            f"{path}.{key}: no place" for key in values.keys() - schema["properties"].keys()
        )
        optional = {
            "initialDelaySeconds",
            "global",
            "nodeAffinity",
            "podAffinity",
            "podAntiAffinity",
            "cpu",
            "ephemeral-storage",
        }
        yield from (
            f"{path}.{key}: no value"
            for key in schema["properties"].keys() - values.keys() - optional
        )
        for key in schema["properties"].keys() & values.keys():
            if isinstance(values[key], dict):
                yield from compare(schema["properties"][key], values[key], f"{path}.{key}")

    assert list(compare(schema, values, "")) == []


def test_no_part_of_the_schema_lets_a_typing_error_pass() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    open_maps = {
        "global",
        "podSelector",
        "namespaceSelector",
        "ipBlock",
        "nodeAffinity",
        "podAffinity",
        "podAntiAffinity",
    }

    def loose(part: Any, name: str) -> Iterator[str]:
        if isinstance(part, list):
            for inner in part:
                yield from loose(inner, name)
        elif isinstance(part, dict):
            if (
                part.get("type") == "object"
                and "additionalProperties" not in part
                and name not in open_maps
                and name != "tolerations"
            ):
                yield name
            for key, inner in part.items():
                yield from loose(inner, name if key == "items" else key)

    assert list(loose(schema, "")) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("replicas", 3, "replicas"),
        ("replicaCount", "3", "replicaCount"),
        ("replicaCount", 0, "replicaCount"),
        ("workers", "auto", "workers"),
        ("image.repository", "", "repository"),
        ("image.tagg", "1", "tagg"),
        ("publicUrl", "http://gateway.example.com", "publicUrl"),
        ("publicUrl", "https://gateway.example.com/", "publicUrl"),
        ("publicUrl", "https://Gateway.example.com", "publicUrl"),  # no host of an Ingress
        ("settings.GATEWAY_ACESS_TTL_S", 900, "GATEWAY_ACESS_TTL_S"),
        ("settings.GATEWAY_SIGNING_ALG", "HS256", "GATEWAY_SIGNING_ALG"),
        ("settings.GATEWAY_ACCESS_LOG", False, "GATEWAY_ACCESS_LOG"),  # `off` of YAML 1.1
        ("settings.GATEWAY_LISTEN", "0.0.0.0:80", "GATEWAY_LISTEN"),
        ("settings.GATEWAY_DRAIN_S", 30, "GATEWAY_DRAIN_S"),
        ("settings.GATEWAY_KEY_SECRET", "c2VjcmV0", "GATEWAY_KEY_SECRET"),
        ("settings.GATEWAY_DATABASE_URL", "postgresql://a:b@db/x", "GATEWAY_DATABASE_URL"),
        ("settings.GATEWAY_SMTP_URL", "smtps://a:b@mail", "GATEWAY_SMTP_URL"),
        ("settings.GATEWAY_SECRET_TOKEN", "x", "GATEWAY_SECRET_TOKEN"),
        ("env.GATEWAY_LISTEN", "0.0.0.0:80", "GATEWAY_LISTEN"),
        ("env.OTEL_EXPORTER_OTLP_HEADERS", "authorization=x", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("env.DATABASE_PASSWORD", "x", "DATABASE_PASSWORD"),
        ("secrets.keySecret", "MDEyMzQ1Njc4OWFiY2RlZg==", "keySecret"),
        ("secrets.keySecret.name", "", "keySecret"),
        ("secrets.keySecret.name", "Not A Name", "keySecret"),
        ("secrets.keySecret.value", "x", "value"),
        ("secrets.databaseUrl", "postgresql://a:b@db/x", "databaseUrl"),
        ("secrets.env", [{"variable": "X", "value": "x"}], "env"),
        ("secrets.env", [{"variable": "GATEWAY_DATABASE_URL", "name": "a", "key": "b"}], "variable"),
        ("config.files", {"../routes.yaml": "x"}, "../routes.yaml"),
        ("config.files", {"policy/orders.yaml": "x"}, "policy/orders.yaml"),
        ("config.files", {"policies/../routes.yaml": "x"}, "policies/../routes.yaml"),
        ("mounts", [{"mountPath": "/etc/authgate", "secretName": "x"}], "mountPath"),
        ("mounts", [{"mountPath": "/etc/authgate-tls", "secretName": "x"}], "mountPath"),
        ("mounts", [{"mountPath": "/etc/authgate-x"}], "mounts"),
        ("service.type", "ExternalName", "type"),
        ("podLabels", {"app.kubernetes.io/name": "x"}, "app.kubernetes.io/name"),
        ("podAnnotations", {"a": True}, "podAnnotations"),
        ("securityContext.runAsUser", 0, "runAsUser"),
        ("securityContext.privileged", True, "privileged"),
        ("resources.request", {"cpu": 1}, "request"),
        ("updateStrategy", {"maxUnavailable": 0, "maxSurge": 0}, "updateStrategy"),
        ("networkPolicy", {"enabled": True, "restrictEgress": True}, "egress"),
        ("probes.readinessPath", "/metrics", "readinessPath"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_by_its_name(helm: Helm, path: str, value: Any, said: str) -> None:
    assert said in helm.refusal(changed(MINIMAL, path, value))


@pytest.mark.parametrize(
    "more",
    [
        {"replicaCount": 2},
        {"replicaCount": 1, "autoscaling": {"enabled": True}},
        {"replicaCount": 1, "persistence": {"enabled": False}},
        {"replicaCount": 1, "secrets": {"databaseUrl": {"name": "authgate"}}},
        {"replicaCount": 1, "secrets": {"redisUrl": {"name": "authgate"}}},
    ],
)
def test_more_than_one_pod_needs_stores_that_they_share(helm: Helm, more: Manifest) -> None:
    """And one without them needs a volume: accounts and keys in an emptyDir go with the pod."""
    values = example("single")
    assert helm.rendered(values)
    secrets = {**values["secrets"], **more.get("secrets", {})}
    refused = helm.refusal({**values, **more, "secrets": secrets})
    assert re.search("replicaCount|autoscaling|persistence|databaseUrl|redisUrl", refused)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("config.configMaps", [], "no routes.yaml"),
        ("config.files", {"policies/a.yaml": "x"}, ""),
        ("config.files", {"routes.yaml": "x"}, "routes.yaml is given 2 times"),
        ("ingress.enabled", True, "GATEWAY_TRUSTED_PROXIES"),
        ("secrets.smtpUrl", {"name": "mail"}, "GATEWAY_MAIL_FROM"),
        ("podDisruptionBudget.minAvailable", 2, "never let one go"),
        ("podDisruptionBudget.minAvailable", 3, "never let one go"),
        ("podDisruptionBudget", {"minAvailable": 1, "maxUnavailable": 1}, "not both"),
        ("autoscaling", {"enabled": True, "minReplicas": 4, "maxReplicas": 3}, "maxReplicas (3)"),
        ("autoscaling", {"enabled": True, "targetCPUUtilization": None}, "targetRequestsPerSecond"),
        ("resources", {"requests": {"cpu": None}}, ""),
    ],
)
def test_what_fits_together_badly_is_refused_with_what_would_be_right(
    helm: Helm, path: str, value: Any, said: str
) -> None:
    values = changed(MINIMAL, path, value)
    if said:
        assert said in helm.refusal(values)
    else:
        assert helm.rendered(values)


def test_an_autoscaler_without_a_request_of_cpu_is_refused(helm: Helm) -> None:
    values = changed(example("autoscaled"), "resources.requests.cpu", None)
    assert "resources.requests.cpu" in helm.refusal(values)


def test_a_chart_above_may_hand_down_what_is_global(helm: Helm) -> None:
    assert helm.rendered({**MINIMAL, "global": {"imageRegistry": "registry.example.com"}})
