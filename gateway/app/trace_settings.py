"""What of OpenTelemetry's own variables the gateway reads itself; the exporter reads the rest."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.app.env_file import SettingProblem

_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

# As the specification of OpenTelemetry's SDK names them, with its defaults and our bounds.
QUEUE, BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
DELAY_MS = "OTEL_BSP_SCHEDULE_DELAY"
_NUMBERS = {QUEUE: (2_048, 16, 100_000), BATCH: (512, 1, 10_000), DELAY_MS: (5_000, 50, 600_000)}


def trace_problems(environ: Mapping[str, str] | None = None) -> list[SettingProblem]:
    """Why traces cannot be sent as they are asked for."""
    given = os.environ if environ is None else environ
    problems = []
    if not _is_installed():
        problems.append(
            SettingProblem(
                "GATEWAY_TRACES",
                "otlp needs OpenTelemetry, which is not installed: pip install 'authgate[otel]'",
            )
        )
    problems += [
        SettingProblem(name, "must be http/protobuf: the gateway sends no other")
        for name in _PROTOCOLS
        if given.get(name) not in (None, "", "http/protobuf")
    ]
    problems += [
        SettingProblem(name, "must be the http:// or https:// URL of a collector")
        for name in _given(given, "ENDPOINT")
        if not _is_url(given[name])
    ]
    for of in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        problems += [
            SettingProblem(name, "is not a file that can be read")
            for name in _given(given, of)
            if not os.access(given[name], os.R_OK)
        ]
    for name in _NUMBERS:
        try:
            number_of(name, given)
        except ValueError as error:
            problems.append(SettingProblem(name, str(error)))
    return problems


def _given(environ: Mapping[str, str], of: str) -> list[str]:
    names = (f"OTEL_EXPORTER_OTLP_{of}", f"OTEL_EXPORTER_OTLP_TRACES_{of}")
    return [name for name in names if environ.get(name)]


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def number_of(name: str, environ: Mapping[str, str] | None = None) -> int:
    """One of QUEUE, BATCH and DELAY_MS; ValueError for what is none."""
    default, least, most = _NUMBERS[name]
    text = (os.environ if environ is None else environ).get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(f"must be a whole number from {least} to {most}")
    return int(text)


def is_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """`OTEL_SDK_DISABLED`, by which an operator turns all of it off in one place."""
    given = os.environ if environ is None else environ
    return given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:
        return False
