"""What the Helm chart has for whoever watches the gateway: rules, a dashboard, a monitor, an adapter."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import resources
from pathlib import Path

import yaml

from tests.deploy.helm import FULLNAME, ROOT, Helm, example, one
from tests.deploy.prometheus import tool


def test_the_rules_and_the_dashboard_are_those_that_ship(helm: Helm) -> None:
    manifests = helm.rendered(example("monitored"))
    shipped = resources.files("gateway").joinpath("dashboards")
    rules = one(manifests, "PrometheusRule")["spec"]
    assert rules == yaml.safe_load(shipped.joinpath("alerts.yaml").read_text("utf-8"))
    dashboard = one(manifests, "ConfigMap", f"{FULLNAME}-dashboard")["data"]["authgate.json"]
    assert json.loads(dashboard) == json.loads(shipped.joinpath("grafana.json").read_text("utf-8"))


def test_prometheus_takes_the_rules_of_the_chart(helm: Helm, tmp_path: Path) -> None:
    rules = one(helm.rendered(example("monitored")), "PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    checked = subprocess.run(
        [tool("promtool"), "check", "rules", str(tmp_path / "rules.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_takes_the_question_that_the_page_gives_its_adapter(
    helm: Helm, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "operations" / "kubernetes.md").read_text("utf-8")
    blocks = map(yaml.safe_load, re.findall(r"^```yaml\n(rules:.*?)^```$", page, re.M | re.S))
    (rule,) = next(blocks)["rules"]
    metric = one(helm.rendered(example("autoscaled")), "HorizontalPodAutoscaler")["spec"][
        "metrics"
    ][1]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    series = rule["seriesQuery"].partition("{")[0]
    assert series == "authgate_requests_total"
    asked = rule["metricsQuery"].replace("<<.Series>>", series)
    asked = asked.replace("<<.LabelMatchers>>", 'namespace="edge",pod=~"a|b"')
    asked = asked.replace("<<.GroupBy>>", "pod")
    group = {"name": "adapter", "rules": [{"record": "calls", "expr": asked}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    command = [tool("promtool"), "check", "rules", str(tmp_path / "rules.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_finds_the_admin_port_under_the_name_that_the_rules_have(helm: Helm) -> None:
    manifests = helm.rendered(example("monitored"))
    monitor = one(manifests, "ServiceMonitor")
    found = [
        service["metadata"]["name"]
        for service in manifests
        if service["kind"] == "Service"
        and monitor["spec"]["selector"]["matchLabels"].items()
        <= service["metadata"]["labels"].items()
    ]
    assert found == [f"{FULLNAME}-admin"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == "admin"
    assert {"targetLabel": "job", "replacement": "authgate", "action": "replace"} in endpoint[
        "relabelings"
    ]
