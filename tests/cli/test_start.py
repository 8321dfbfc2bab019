"""What a command does not import, so that it answers at once (`python -m bench.start`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

NEVER_FOR_A_CHECK = frozenset(
    (
        "OpenSSL",
        "aiohttp",
        "aiohttp_cors",
        "aiohttp_session",
        "aiosmtplib",
        "altcha",
        "asyncio",
        "authlib",
        "bcrypt",
        "cryptography",
        "dotenv",
        "email_validator",
        "google",
        "grpc",
        "gunicorn",
        "hiredis",
        "jinja2",
        "joserfc",
        "jwt",
        "opentelemetry",
        "prometheus_client",
        "psycopg",
        "pydantic_settings",
        "pyotp",
        "redis",
        "rich",
        "segno",
        "sqlite3",
        "structlog",
        "uvloop",
        "watchfiles",
        "webauthn",
        "zxcvbn",
    )
)
"""By what takes long to import: what `gateway validate` of plain files has no use for."""

NEVER_FOR_HELP = NEVER_FOR_A_CHECK | {"cel", "pydantic", "ssl", "yaml"}


def imported_by(folder: Path, *words: str) -> set[str]:
    """The packages that a command imports, by the interpreter's own list (`-X importtime`)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gateway", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "api.yaml").write_text(
        "version: 1\npolicy: api\nrules:\n"
        "  - {id: own, allow: [api:read], when: resource.owner == user.id}\n"
    )
    (tmp_path / "routes.yaml").write_text(
        "version: 1\nupstreams:\n  api: {targets: ['http://127.0.0.1:9000']}\nroutes:\n"
        "  - {id: api, match: {path: '/api/{owner}'}, policy: api, action: 'api:read',\n"
        "     resource: {type: thing, id: '{owner}', owner: '{owner}'}, upstream: api}\n"
    )
    return tmp_path


def test_the_help_page_imports_nothing_heavy(folder: Path) -> None:
    assert imported_by(folder, "--help") & NEVER_FOR_HELP == set()


NEVER_AT_A_START = frozenset(
    (
        "OpenSSL",
        "authlib",
        "email_validator",
        "opentelemetry",
        "psycopg",
        "pyasn1",
        "rich",
        "segno",
        "webauthn",
        "zxcvbn",
    )
)
"""What each worker would hold in memory, and many never need: a plain gateway on embedded stores."""


def test_a_gateway_imports_nothing_that_its_first_use_can_bring() -> None:
    script = "import sys; from gateway import cli; cli.build('serve'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "gunicorn" in imported, done.stderr
    assert imported & NEVER_AT_A_START == set()


def test_a_check_of_the_configuration_imports_nothing_that_serves(folder: Path) -> None:
    imported = imported_by(folder, "validate")
    assert "yaml" in imported
    assert imported & NEVER_FOR_A_CHECK == set()


WALKED = """
import gc, sys
from gateway.__main__ import main
walked = [0]
gc.callbacks.append(lambda phase, _: walked.append(len(gc.get_objects())))
sys.argv = ["gateway", "validate"]
code = main()
print(code, gc.isenabled(), max(walked), gc.get_freeze_count())
"""


def test_the_collector_never_walks_what_a_command_has_imported(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALKED],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    code, enabled, walked, frozen = done.stdout.splitlines()[-1].split()
    assert (code, enabled) == ("0", "True"), done.stderr
    assert int(walked) < int(frozen) / 4


def test_no_package_of_the_environment_has_a_say_in_the_settings(
    folder: Path, tmp_path: Path
) -> None:
    told = tmp_path / "packages" / "told-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: told\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[pydantic]\ntold = told:plugin\n")
    (told.parent / "told.py").write_text("print('asked')\nplugin = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "validate"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{told.parent}"},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "asked" not in done.stdout
