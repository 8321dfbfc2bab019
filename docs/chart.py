"""What the Helm chart has from elsewhere, and its table of values: `make docs` writes them anew.

The alerting rules and the dashboard are copies, as a chart holds nothing that lies outside of it.
The schema refuses a setting that does not exist, so it names all that do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import SecretStr

from gateway.app.env_file import PREFIX
from gateway.app.settings import Settings

CHART = Path(__file__).parents[1] / "deploy" / "chart" / "authgate"
PAGE = Path(__file__).parent / "operations" / "kubernetes.md"
COPIES = ("alerts.yaml", "grafana.json")
SET_BY_THE_CHART = {
    "public_url", "listen", "admin_listen", "admin_hosts", "workers", "data_dir", "drain_s",
    "tls_cert", "tls_key", "secrets_dir", "ext_authz_listen",
    "admin_url",
}  # fmt: skip
_BEGIN, _END = "<!-- values: `make docs` writes this table -->\n", "<!-- end of the values -->\n"


def settings_schema() -> dict[str, Any]:
    """Of `settings`: each that is no secret, and that the chart does not set itself."""
    known: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if name in SET_BY_THE_CHART or is_secret(name):
            continue
        kind: dict[str, Any] = {"type": ["string", "number"]}
        if get_origin(field.annotation) is Literal:
            kind = {"enum": list(get_args(field.annotation))}
        known[PREFIX + name.upper()] = kind
    return {"type": "object", "additionalProperties": False, "properties": known}


def is_secret(name: str) -> bool:
    """Whether a setting is one, or a URL with a password: those have `repr=False`."""
    field = Settings.model_fields[name]
    return SecretStr in _parts(field.annotation) or field.repr is False


def _parts(annotation: Any) -> set[Any]:
    inner = get_args(annotation)
    return {annotation}.union(*map(_parts, inner)) if inner else {annotation}


def schema() -> str:
    """The schema of the values with the settings of today."""
    written = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    written["properties"]["settings"] = settings_schema()
    return json.dumps(written, indent=2) + "\n"


def chart_file() -> str:
    """Chart.yaml with the version of the gateway."""
    text = (CHART / "Chart.yaml").read_text("utf-8")
    now = version("authgate")
    text = re.sub(r"(?m)^version: .*$", f"version: {now}", text)
    return re.sub(r"(?m)^appVersion: .*$", f'appVersion: "{now}"', text)


@dataclass(frozen=True, slots=True)
class ValueRow:
    path: str
    default: str
    meaning: str


def value_rows() -> Iterator[ValueRow]:
    """The keys of values.yaml, each with the remark above it and its default; of those that only
    hold others, the ones that have a remark."""
    text = (CHART / "values.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    above: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        if remark := re.fullmatch(r" *# ?(.*)", line):
            above.append(remark[1])
        elif key := re.match(r"( *)([A-Za-z]+):(.*)", line):
            path[len(key[1]) // 2 :] = [key[2]]
            if key[3]:
                yield ValueRow(".".join(path), _default(values, path), " ".join(above))
            elif above:
                yield ValueRow(".".join(path), "", " ".join(above))
            above = []
        else:
            above = []


def _default(values: Any, path: list[str]) -> str:
    for key in path:
        values = values[key]
    return f"`{json.dumps(values, ensure_ascii=False)}`"


def value_table() -> str:
    rows = [f"| `{row.path}` | {row.default} | {row.meaning} |\n" for row in value_rows()]
    return "".join([_BEGIN, "\n| value | default | |\n|---|---|---|\n", *rows, "\n", _END])


def page() -> str:
    """docs/operations/kubernetes.md with the table of today."""
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    return before + value_table() + rest.partition(_END)[2]


def written() -> dict[Path, str]:
    """Each file that is generated, and what it should hold."""
    copies = {
        CHART / "files" / name: files("gateway").joinpath("dashboards", name).read_text("utf-8")
        for name in COPIES
    }
    return {
        **copies,
        CHART / "values.schema.json": schema(),
        CHART / "Chart.yaml": chart_file(),
        PAGE: page(),
    }


def build() -> None:
    for path, text in written().items():
        path.write_text(text, "utf-8")
