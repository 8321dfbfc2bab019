"""The chart as a real Helm renders it (deploy/chart/helm.py, in an environment of its own)."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart" / "authgate"
EXAMPLES = ROOT / "deploy" / "chart" / "examples"
GOLDEN = Path(__file__).parent / "chart_golden"
PYTHON = ROOT / ".tools" / "helm" / "bin" / "python"
FULLNAME, NAMESPACE = "shop-authgate", "edge"

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm takes these values for wrong, and says why."""


@dataclass
class Helm:
    """One process for all questions: to load the library takes longer than to render."""

    process: subprocess.Popen[str]
    _known: dict[str, dict[str, str]] = field(default_factory=dict)

    def texts(self, values: Manifest, **options: str) -> dict[str, str]:
        """Name of a file of the chart -> what it becomes.  Raises Refused."""
        question = {"render": values, **options}
        asked = json.dumps(question, sort_keys=True)
        if asked not in self._known:
            self._known[asked] = self._ask(question)["manifests"]
        return self._known[asked]

    def rendered(self, values: Manifest, **options: str) -> list[Manifest]:
        """Every manifest, in the order of its file.  Raises Refused."""
        return [
            manifest
            for name, text in sorted(self.texts(values, **options).items())
            if name.endswith(".yaml")
            for manifest in yaml.safe_load_all(text)
            if manifest
        ]

    def notes(self, values: Manifest) -> str:
        return self.texts(values)["authgate/templates/NOTES.txt"]

    def refusal(self, values: Manifest) -> str:
        """Why these values are not taken; a test fails where they are."""
        try:
            self.rendered(values)
        except Refused as refused:
            return str(refused)
        raise AssertionError("Helm takes them")

    def lint(self, values: Manifest) -> list[str]:
        return list(self._ask({"lint": values})["problems"])

    def problems(self, manifest: Manifest, version: str) -> list[str]:
        """What Kubernetes of that version finds wrong."""
        return list(self._ask({"manifest": manifest, "version": version})["problems"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer


@contextmanager
def started_helm() -> Iterator[Helm]:
    if not PYTHON.exists():
        pytest.skip("needs a Helm: make chart")
    process = subprocess.Popen(
        [str(PYTHON), str(ROOT / "deploy" / "chart" / "helm.py"), "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield Helm(process)
        finally:
            process.kill()


def example(name: str) -> Manifest:
    values: Manifest = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text("utf-8"))
    return values


def changed(values: Manifest, path: str, value: Any) -> Manifest:
    """These values with another one at `a.b.c`."""
    new = copy.deepcopy(values)
    *folders, last = path.split(".")
    inner = new
    for key in folders:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return new


def names() -> list[str]:
    return sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only one of a kind (and of a name)."""
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in ("", manifest["metadata"]["name"])
    ]
    assert len(found) == 1, [(m["kind"], m["metadata"]["name"]) for m in manifests]
    return found[0]


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """The pod of each manifest that starts some."""
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] in ("Deployment", "Job")]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def golden_text(texts: dict[str, str]) -> str:
    head = "# What Helm makes of the example of this name; `make chart-golden` writes it anew.\n"
    parts = [
        f"---\n# {name}\n" + "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())
        for name, text in sorted(texts.items())
        if name.endswith(".yaml") and text.strip()
    ]
    return "".join([head, *parts])


if __name__ == "__main__":
    with started_helm() as helm:
        for name in names():
            (GOLDEN / f"{name}.yaml").write_text(golden_text(helm.texts(example(name))), "utf-8")
