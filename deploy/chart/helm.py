"""A real Helm, and the schemas of Kubernetes, without a cluster and without a network.

Run by the Python of .tools/helm (`make chart` makes it), which has the Helm SDK and
kubernetes-validate:

    helm.py package FOLDER    checks the chart with each example, and writes its archive there
    helm.py serve             reads questions as lines of JSON, and answers each by a line
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE / "authgate"
RELEASE, NAMESPACE = "shop", "edge"
"""Of what is rendered here."""


def render(values: dict[str, Any], *, release: str, chart: str) -> dict[str, str]:
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        return dict(loaded.render(values, name=release, namespace=NAMESPACE))


def lint(values: dict[str, Any]) -> list[str]:
    """What `helm lint --strict` has to say, but for the icon that it would like."""
    report = helm_python.lint(CHART, values, strict=True, namespace=NAMESPACE)
    return [
        f"{message['path']}: {message['error']}"
        for message in report["messages"]
        if message["severity"] > 1
    ]


def problems(manifest: dict[str, Any], version: str) -> list[str]:
    """What Kubernetes of that version would refuse, names of fields that are none among it."""
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [f"no schema for {error.api_version} {error.kind}"]
    return []


def package(destination: Path) -> str:
    for example in sorted((HERE / "examples").glob("*.yaml")):
        values = yaml.safe_load(example.read_text("utf-8"))
        found = lint(values)
        if found:
            raise SystemExit(f"{example.name}: " + "; ".join(found))
        render(values, release=RELEASE, chart=str(CHART))
    destination.mkdir(parents=True, exist_ok=True)
    return str(helm_python.package(CHART, destination=destination))


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """One of render, lint and problems; `error` where Helm refuses."""
    try:
        if "render" in question:
            return {
                "manifests": render(
                    question["render"],
                    release=question.get("release", RELEASE),
                    chart=question.get("chart", str(CHART)),
                )
            }
        if "lint" in question:
            return {"problems": lint(question["lint"])}
        return {"problems": problems(question["manifest"], question["version"])}
    except helm_python.HelmError as error:
        return {"error": str(error)}


def serve() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["package", folder]:
            sys.stdout.write(package(Path(folder)) + "\n")
        case _:
            raise SystemExit(__doc__)
