"""The Helm chart: what it makes is what Kubernetes takes, and safe."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.chart import written
from tests.deploy.helm import (
    CHART,
    FULLNAME,
    GOLDEN,
    PYTHON,
    ROOT,
    Helm,
    Refused,
    containers,
    example,
    golden_text,
    names,
    one,
    pods,
)

VERSIONS = ("1.30", "1.37")
"""The oldest Kubernetes that Chart.yaml names, and the newest whose schemas are at hand."""
OF_PROMETHEUS = {"ServiceMonitor", "PrometheusRule"}
"""What an operator of Prometheus has brought into the cluster."""
MINIMAL = example("minimal")


# --- what it makes ---


@pytest.mark.parametrize("name", names())
def test_the_examples_become_what_is_written_down(helm: Helm, name: str) -> None:
    """`make chart-golden` writes it anew."""
    assert (GOLDEN / f"{name}.yaml").read_text("utf-8") == golden_text(helm.texts(example(name)))


@pytest.mark.parametrize("name", names())
def test_helm_lint_finds_nothing(helm: Helm, name: str) -> None:
    assert helm.lint(example(name)) == []


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(helm: Helm, name: str, version: str) -> None:
    manifests = helm.rendered(example(name))
    of_kubernetes = [m for m in manifests if m["kind"] not in OF_PROMETHEUS]
    assert len(of_kubernetes) >= 4
    found = {
        f"{m['kind']} {m['metadata']['name']}": helm.problems(m, version) for m in of_kubernetes
    }
    assert {name: problems for name, problems in found.items() if problems} == {}


def test_a_wrong_manifest_would_be_found(helm: Helm) -> None:
    service = one(helm.rendered(MINIMAL), "Service", FULLNAME)
    service["spec"]["ports"][0]["prot"] = 80
    assert "prot" in helm.problems(service, VERSIONS[0])[0]


@pytest.mark.parametrize("name", names())
def test_names_are_never_twice_and_fit(helm: Helm, name: str) -> None:
    long = helm.rendered(
        example(name), release="a-release-with-a-name-of-fifty-three-characters-in-a"
    )
    identities = [(m["kind"], m["metadata"]["name"]) for m in long]
    assert len(identities) == len(set(identities))
    assert all(len(each) <= 63 for _, each in identities)


@pytest.mark.parametrize("name", names())
def test_every_pod_meets_the_restricted_standard(helm: Helm, name: str) -> None:
    """Pod Security Standards, `restricted`; and a root that nobody writes to."""
    found = pods(helm.rendered(example(name)))
    assert found
    for pod in found:
        around = pod["securityContext"]
        assert around["runAsNonRoot"] is True
        assert around["runAsUser"] == around["runAsGroup"] == around["fsGroup"] == 10001
        assert around["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"projected", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert all("hostPort" not in port for port in container.get("ports", []))
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", names())
def test_no_pod_is_given_what_it_does_not_need(helm: Helm, name: str) -> None:
    """No token of a service account, and no variables of Services: one that is named `gateway`
    would else give `GATEWAY_PORT`, and a setting that does not exist keeps the gateway from starting."""
    for pod in pods(helm.rendered(example(name))):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("name", names())
def test_nothing_is_mounted_in_a_way_that_keeps_it_from_changing(helm: Helm, name: str) -> None:
    """What is mounted by `subPath` stays as it was when the pod was made."""
    for pod in pods(helm.rendered(example(name))):
        for container in containers(pod):
            assert all("subPath" not in mount for mount in container["volumeMounts"])
            of_pod = {volume["name"] for volume in pod["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= of_pod


@pytest.mark.parametrize("name", names())
def test_the_chart_makes_and_holds_no_secret(helm: Helm, name: str) -> None:
    manifests = helm.rendered(example(name))
    assert [m for m in manifests if m["kind"] == "Secret"] == []
    for pod in pods(manifests):
        for container in containers(pod):
            literal = {each["name"] for each in container["env"] if "value" in each}
            secrets = {"KEY_SECRET", "DATABASE_URL", "REDIS_URL", "SMTP_URL", "PASSWORD_PEPPER"}
            assert not {f"GATEWAY_{each}" for each in secrets} & literal


def test_the_chart_asks_for_nothing_that_is_random() -> None:
    """A password that is drawn at rendering is another one at the next upgrade."""
    texts = "".join(path.read_text("utf-8") for path in (CHART / "templates").iterdir())
    assert re.findall(r"\b(rand\w+|gen\w+|uuidv4|lookup|derivePassword|now)\b", texts) == []


# --- what is generated ---


def test_what_the_chart_has_from_elsewhere_is_current() -> None:
    """`make docs` writes it anew."""
    assert [path for path, text in written().items() if path.read_text("utf-8") != text] == []


def test_the_archive_holds_the_chart_and_renders_the_same(helm: Helm, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "deploy" / "chart" / "helm.py"), "package", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    archive = Path(done.stdout.strip())
    assert archive.parent == tmp_path
    assert helm.rendered(MINIMAL, chart=str(archive)) == helm.rendered(MINIMAL)
    with pytest.raises(Refused, match="replicas"):
        helm.rendered({**MINIMAL, "replicas": 2}, chart=str(archive))
