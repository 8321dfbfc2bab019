"""`gateway export dashboards`: what it writes speaks of metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from gateway.cli import main
from tests.contract.running import ROUTES, Running, started
from tests.e2e.processes import until
from tests.ports import free_port

WITH_TLS = {"authgate_certificate_stale", "authgate_certificate_expiration_timestamp_seconds"}
"""Told by a listener with a certificate: `tests/e2e/test_certificates.py` reads them."""
ISSUERS = """\
issuers:
  company: {{issuer: "http://127.0.0.1:DEAD", audience: api}}
"""
ROOT = Path(__file__).parents[2]
_METRIC = re.compile(r"(?:authgate|process)_[a-z_]+")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The metrics of a gateway that has answered, and has asked an issuer for its keys."""
    folder = tmp_path_factory.mktemp("export") / "g"
    routes = ROUTES + ISSUERS.replace("DEAD", str(free_port()))
    with started(folder, routes=routes, GATEWAY_DECISION_LOG="1") as running:
        assert _answered(running) == 200
        until(lambda: "\nauthgate_issuer_fetches_total{" in metrics(running), 20)
        return metrics(running)


def metrics(running: Running) -> str:
    return running.admin("/metrics").body.decode()


def _answered(running: Running) -> int:
    return running.call("GET", "/public/x").status


def test_every_metric_of_the_dashboard_and_the_alerts_is_told(tmp_path: Path, told: str) -> None:
    assert main(["export", "dashboards", str(tmp_path / "d")]) == 0
    board = json.loads((tmp_path / "d" / "grafana.json").read_text())
    alerts = yaml.safe_load((tmp_path / "d" / "alerts.yaml").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in _METRIC.findall(target["expr"])
    }
    for group in alerts["groups"]:
        for rule in group["rules"]:
            asked.update(_METRIC.findall(rule["expr"]))
    assert len(asked) >= 7
    for name in asked - WITH_TLS:
        assert re.search(rf"^{name}[{{ ]", told, re.M), name


def test_every_metric_that_is_told_is_in_the_documentation(told: str) -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    names = set(re.findall(r"^# TYPE (authgate_\w+) ", told, re.M))
    assert len(names) > 20
    assert {name for name in names if name not in pages} == set()


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["export", "dashboards", str(tmp_path / "file" / "d")]) == 2
