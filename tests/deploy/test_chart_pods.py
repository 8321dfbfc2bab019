"""The gateway in the pods of the Helm chart: its environment and its end, the Job before an upgrade, and
how many pods there are."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest

from gateway.app.settings import load
from gateway.app.worker_process import IN_FLIGHT_S
from gateway.cli.doctor_checks import SESSIONS_OF_A_WORKER
from tests.deploy.helm import (
    FULLNAME,
    NAMESPACE,
    ROOT,
    Helm,
    Manifest,
    changed,
    containers,
    example,
    names,
    one,
    pods,
)
from tests.forked import run_command

MINIMAL = example("minimal")


# --- the gateway in it ---


def settings_of(container: Manifest) -> dict[str, str]:
    """The environment as the kubelet makes it; `$(POD_IP)` is filled, secrets are made up."""
    made_up = {
        "POD_IP": "10.244.1.7",
        "GATEWAY_KEY_SECRET": base64.b64encode(os.urandom(32)).decode(),
        "GATEWAY_DATABASE_URL": "postgresql://a:b@db:5432/authgate",
        "GATEWAY_REDIS_URL": "redis://redis:6379/0",
        "GATEWAY_SMTP_URL": "smtps://mail:465",
    }
    given: dict[str, str] = {}
    for each in container["env"]:
        text = each.get("value") or made_up.get(each["name"], "a secret of 16 bytes")
        given[each["name"]] = text.replace("$(POD_IP)", "10.244.1.7")
    return given


@pytest.mark.parametrize("name", names())
def test_the_gateway_takes_the_environment_of_every_container(
    helm: Helm, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for pod in pods(helm.rendered(example(name))):
        for container in containers(pod):
            given = settings_of(container)
            given |= {key: str(file) for key in given if key.startswith("GATEWAY_TLS_")}
            of_gateway = {key: text for key, text in given.items() if key.startswith("GATEWAY_")}
            chosen = load(of_gateway, env_file=None)
            assert chosen.data_dir == Path("/var/lib/authgate/data")
            assert "10.244.1.7" in chosen.admin_hosts
            assert f"{FULLNAME}-admin.{NAMESPACE}.svc" in chosen.admin_hosts


def test_a_number_arrives_as_it_was_written(helm: Helm) -> None:
    """Helm reads numbers as floats, and 7776000 would be 7.776e+06."""
    values = {
        "GATEWAY_KEY_ROTATION_S": 7776000,
        "GATEWAY_MAX_BUFFERED_BYTES": 1099511627776,
        "GATEWAY_DECISION_LOG": 0.25,
        "GATEWAY_AUDIT_RETENTION_DAYS": 0,
        "GATEWAY_MAIL_FROM": "$(POD_IP) <a@example.com>",
    }
    deployment = one(helm.rendered(changed(MINIMAL, "settings", values)), "Deployment")
    env = {each["name"]: each.get("value") for each in containers(pods([deployment])[0])[0]["env"]}
    assert {name: env[name] for name in values} == {
        "GATEWAY_KEY_ROTATION_S": "7776000",
        "GATEWAY_MAX_BUFFERED_BYTES": "1099511627776",
        "GATEWAY_DECISION_LOG": "0.25",
        "GATEWAY_AUDIT_RETENTION_DAYS": "0",
        "GATEWAY_MAIL_FROM": "$$(POD_IP) <a@example.com>",
    }


@pytest.mark.parametrize(
    ("before", "seconds", "whole"), [(5, 5, 50), (0, 0, 40), (10, 15, 65), (5, 2.5, 48)]
)
def test_a_pod_may_take_as_long_to_end_as_the_gateway_does(
    helm: Helm, before: int, seconds: float, whole: int
) -> None:
    values = changed(MINIMAL, "drain", {"preStopSeconds": before, "seconds": seconds})
    pod = pods([one(helm.rendered(values), "Deployment")])[0]
    assert pod["terminationGracePeriodSeconds"] == whole
    assert whole >= before + seconds + IN_FLIGHT_S + 5
    lifecycle = pod["containers"][0].get("lifecycle")
    assert lifecycle == ({"preStop": {"sleep": {"seconds": before}}} if before else None)


def test_a_pod_whose_worker_stands_still_is_left_to_the_gateway(helm: Helm) -> None:
    """It replaces the worker after 30 s; to kill the pod before that would end every call in it."""
    probe = pods([one(helm.rendered(MINIMAL), "Deployment")])[0]["containers"][0]["livenessProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > 30


def test_the_services_have_the_pods_of_the_deployment_and_no_others(helm: Helm) -> None:
    manifests = helm.rendered(MINIMAL)
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    migrating = one(manifests, "Job")["spec"]["template"]["metadata"]["labels"]
    for name in (FULLNAME, f"{FULLNAME}-admin"):
        selector = one(manifests, "Service", name)["spec"]["selector"]
        assert selector.items() <= labels.items()
        assert not selector.items() <= migrating.items()


def test_the_admin_listener_is_never_reached_from_outside(helm: Helm) -> None:
    for kind in ("NodePort", "LoadBalancer"):
        manifests = helm.rendered(changed(MINIMAL, "service", {"type": kind}))
        assert one(manifests, "Service", FULLNAME)["spec"]["type"] == kind
        assert one(manifests, "Service", f"{FULLNAME}-admin")["spec"]["type"] == "ClusterIP"
    ingress = one(helm.rendered(example("ingress")), "Ingress", FULLNAME)
    backends = [p["backend"] for rule in ingress["spec"]["rules"] for p in rule["http"]["paths"]]
    assert {backend["service"]["name"] for backend in backends} == {FULLNAME}


def test_the_gateway_takes_the_configurations_of_the_examples(tmp_path: Path) -> None:
    for name in names():
        if files := example(name)["config"].get("files"):
            folder = tmp_path / name
            for path, text in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, "utf-8")
            done = run_command(["validate", "--texts-only"], folder=folder, environment={})
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_who_asks_for_decisions_is_sent_to_nobody_who_cannot_decide(helm: Helm) -> None:
    """The admin Service has pods that are not ready too, for whoever asks why; nothing has ext_authz
    that did not ask for it."""
    manifests = helm.rendered(example("restricted"))
    spec = one(manifests, "Service", f"{FULLNAME}-decisions")["spec"]
    assert "publishNotReadyAddresses" not in spec
    container = pods([one(manifests, "Deployment")])[0]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [(p["port"], ports[p["targetPort"]]) for p in spec["ports"]] == [
        (9901, 9901),
        (9191, 9191),
    ]
    assert settings_of(container)["GATEWAY_EXT_AUTHZ_LISTEN"] == "0.0.0.0:9191"
    plain = pods([one(helm.rendered(MINIMAL), "Deployment")])[0]["containers"][0]
    assert "GATEWAY_EXT_AUTHZ_LISTEN" not in settings_of(plain)


def test_the_console_is_reached_by_its_own_host_and_nothing_beside_it(helm: Helm) -> None:
    manifests = helm.rendered(example("ingress"))
    spec = one(manifests, "Ingress", f"{FULLNAME}-console")["spec"]
    (rule,) = spec["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"]) == ("console.example.com", "/admin")
    container = pods([one(manifests, "Deployment")])[0]["containers"][0]
    assert settings_of(container)["GATEWAY_ADMIN_URL"] == "https://console.example.com"
    values = example("ingress")
    assert "console.url" in helm.refusal(changed(values, "console.url", ""))
    assert "another origin" in helm.refusal(changed(values, "console.url", values["publicUrl"]))
    assert "GATEWAY_TRUSTED_PROXIES" in helm.refusal(
        changed(MINIMAL, "console.url", "https://console.example.com")
    )


def test_the_chart_runs_the_image_as_it_is_built(helm: Helm) -> None:
    image = (ROOT / "deploy" / "image" / "Containerfile").read_text("utf-8")
    pod = pods([one(helm.rendered(MINIMAL), "Deployment")])[0]
    container = pod["containers"][0]
    ids = pod["securityContext"]
    assert f"USER {ids['runAsUser']}:{ids['runAsGroup']}\n" in image
    assert f"WORKDIR {container['workingDir']}\n" in image
    ports = " ".join(str(port["containerPort"]) for port in container["ports"])
    assert f"EXPOSE {ports}\n" in image
    entry = re.search(r'^ENTRYPOINT \["(.*)"\]$', image, re.M)
    assert entry is not None
    folder, _, command = entry[1].rpartition("/")
    assert container["command"][0] == command
    assert f"PATH={folder}:" in image


# --- before an upgrade ---


def test_the_configuration_is_checked_before_the_schema_is_brought_up(helm: Helm) -> None:
    """And both before anything that runs is touched: a wrong edit fails the upgrade alone."""
    manifests = helm.rendered(example("production"))
    job = one(manifests, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = pods([job])[0]
    assert [each["command"][:2] for each in pod["initContainers"]] == [["gateway", "validate"]]
    assert [each["command"] for each in pod["containers"]] == [["gateway", "db", "upgrade"]]
    # The ConfigMap of the release is still the one before.
    coming = one(manifests, "ConfigMap", f"{FULLNAME}-migrations")
    of_release = one(manifests, "ConfigMap", f"{FULLNAME}-config")
    assert coming["data"] == of_release["data"]
    source = pod["volumes"][0]["projected"]["sources"][0]["configMap"]
    assert source["name"] == coming["metadata"]["name"]
    weights = [m["metadata"]["annotations"]["helm.sh/hook-weight"] for m in (coming, job)]
    assert int(weights[0]) < int(weights[1])


def test_what_only_an_operator_can_mend_is_not_tried_again(helm: Helm) -> None:
    job = one(helm.rendered(MINIMAL), "Job")
    rules = job["spec"]["podFailurePolicy"]["rules"]
    failing = {
        rule["onExitCodes"]["containerName"]: rule["onExitCodes"]["values"]
        for rule in rules
        if rule["action"] == "FailJob"
    }
    assert failing == {"validate": [1, 2], "migrate": [1, 2]}
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_an_edit_of_routes_replaces_no_pod_and_one_of_pages_does(helm: Helm) -> None:
    """Routes and policies are followed; pages and mails are read at the start."""
    values = example("production")

    def template(values: Manifest) -> Manifest:
        made: Manifest = one(helm.rendered(values), "Deployment")["spec"]["template"]
        return made

    before = template(values)
    values["config"]["files"]["routes.yaml"] += "# edited\n"
    values["config"]["files"]["policies/orders.yaml"] += "# edited\n"
    assert template(values) == before
    values["config"]["files"]["pages/theme.yaml"] += "# edited\n"
    assert template(values) != before


# --- as many as are wanted, and no fewer ---


def test_an_update_takes_no_pod_away_before_there_is_another(helm: Helm) -> None:
    spec = one(helm.rendered(MINIMAL), "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["minReadySeconds"] > 0


def test_one_pod_with_stores_of_its_own_is_never_two(helm: Helm) -> None:
    manifests = helm.rendered(example("single"))
    assert one(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert not {"Job", "PodDisruptionBudget"} & {m["kind"] for m in manifests}
    claim = one(manifests, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_pods_that_cannot_decide_hold_no_node(helm: Helm) -> None:
    budget = one(helm.rendered(MINIMAL), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_pods_that_come_and_go_have_a_budget_too(helm: Helm) -> None:
    values = changed(MINIMAL, "autoscaling", {"enabled": True, "minReplicas": 1})
    assert one(helm.rendered(values), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    values = changed(values, "podDisruptionBudget", {"minAvailable": 1})
    assert "never let one go" in helm.refusal(values)
    assert "PodDisruptionBudget" not in {
        m["kind"] for m in helm.rendered(changed(MINIMAL, "replicaCount", 1))
    }


def test_who_scales_the_pods_is_one_alone(helm: Helm) -> None:
    """A number of replicas would set back what the autoscaler has chosen at each upgrade."""
    manifests = helm.rendered(example("autoscaled"))
    assert "replicas" not in one(manifests, "Deployment")["spec"]
    scaler = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == FULLNAME
    assert [metric["type"] for metric in scaler["metrics"]] == ["Resource", "Pods"]


def test_the_notes_say_what_an_operator_is_about_to_run_into(helm: Helm) -> None:
    sessions = (12 + 1) * 1 * SESSIONS_OF_A_WORKER
    assert f"up to {sessions} sessions" in helm.notes(example("autoscaled"))
    balanced = helm.notes(changed(MINIMAL, "service", {"type": "LoadBalancer"}))
    assert "externalTrafficPolicy Local" in balanced
    assert "externalTrafficPolicy" not in helm.notes(example("production"))
    assert "stores of its own" in helm.notes(example("single"))
    unwatched = changed(example("restricted"), "networkPolicy.adminFrom", [])
    assert "Prometheus cannot reach" in helm.notes(unwatched)
