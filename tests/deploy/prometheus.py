"""Debian's Prometheus with the shipped rules, their durations shortened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port
from tests.servers import end_with_parent, wait_until

RULES = Path(str(files("gateway").joinpath("dashboards", "alerts.yaml")))
FOR = "2s"
"""What every `for:` becomes."""
RANGES = 60
"""By how much ranges are divided: five minutes are five seconds."""

SETTINGS = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 250ms}}
rule_files: [{folder}/alerts.yaml]
scrape_configs:
  - job_name: authgate
    file_sd_configs: [{{files: ["{folder}/targets.json"]}}]
"""


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def shortened(text: str) -> str:
    text = re.sub(r"(?m)^(\s+for:) .*$", rf"\1 {FOR}", text)
    return re.sub(r"\[(\d+)m\]", lambda found: f"[{int(found[1]) * 60 // RANGES}s]", text)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install prometheus")
    return found


@dataclass
class Prometheus:
    folder: Path
    port: int

    def watch(self, nodes: Mapping[str, int]) -> None:
        """From now on these admin listeners are asked, each under the name of its node."""
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}}
            for name, port in nodes.items()
        ]
        fresh = self.folder / "targets.new"
        fresh.write_text(json.dumps(targets))
        fresh.rename(self.folder / "targets.json")

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that ring, and of what: a node, or a route, or neither."""
        return {
            (labels["alertname"], labels.get("instance") or labels.get("route", ""))
            for labels in (
                alert["labels"]
                for alert in self._asked("/api/v1/alerts")["alerts"]
                if alert["state"] == "firing"
            )
        }

    def value(self, expression: str) -> float:
        """Of its only sample; 0.0 where there is none."""
        query = urllib.parse.urlencode({"query": expression})
        found = self._asked(f"/api/v1/query?{query}")["result"]
        return float(found[0]["value"][1]) if found else 0.0

    def _asked(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def answers(self) -> bool:
        try:
            self._asked("/api/v1/alerts")
        except OSError:
            return False
        return True


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    folder.mkdir()
    (folder / "alerts.yaml").write_text(shortened(RULES.read_text("utf-8")))
    (folder / "prometheus.yml").write_text(SETTINGS.format(folder=folder))
    (folder / "targets.json").write_text("[]")
    port = free_port()
    command = [
        tool("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=end_with_parent
        )
    try:
        started = Prometheus(folder, port)
        wait_until(started.answers, 30, "Prometheus")
        yield started
    finally:
        process.terminate()
        process.wait(20)
