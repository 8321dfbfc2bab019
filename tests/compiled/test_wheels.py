"""`make wheel`: what it makes is installed where nothing is, and serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
ROUTES = """
version: 1
upstreams: {api: {targets: ["http://127.0.0.1:9"]}}
routes:
  - {id: all, match: {path: "/a"}, auth: public, upstream: api}
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By their build."""
    folder = tmp_path_factory.mktemp("wheels")
    done = subprocess.run(
        [sys.executable, "deploy/compiled/wheels.py", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pure, compiled = map(Path, done.stdout.split())
    assert sorted(folder.iterdir()) == sorted((pure, compiled))
    return {"pure": pure, "compiled": compiled}


def test_the_one_holds_sources_alone_and_the_other_both(wheels: dict[str, Path]) -> None:
    assert wheels["pure"].name.endswith("-py3-none-any.whl")
    assert f"-cp{sys.version_info[0]}{sys.version_info[1]}-" in wheels["compiled"].name
    names = {kind: set(zipfile.ZipFile(path).namelist()) for kind, path in wheels.items()}
    assert [name for name in names["pure"] if name.endswith(".so")] == []
    more = names["compiled"] - names["pure"]
    assert {name.partition(".")[0] for name in more if name.endswith(".so")} >= {
        "authgate__mypyc",
        "gateway/bounded_memo",
    }
    kept = {name for name in names["pure"] if ".dist-info/" not in name}
    assert kept <= names["compiled"]


@pytest.mark.parametrize("build", ["pure", "compiled"])
def test_it_serves_where_it_was_installed(
    wheels: dict[str, Path], tmp_path: Path, build: str
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    environment.pop("AUTHGATE_COMPILE", None)
    python = tmp_path / "env" / "bin" / "python"
    uv = str(ROOT / "bootstrap.sh")
    for words in (
        ["venv", "--quiet", "--python", os.path.realpath(sys.executable), str(tmp_path / "env")],
        ["pip", "install", "--quiet", "--python", str(python), str(wheels[build])],
    ):
        subprocess.run([uv, "uv", *words], check=True, env=environment)
    gateway = str(python.with_name("gateway"))
    told = subprocess.run(
        [gateway, "version", "--json"], env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(told.stdout)["build"] == build
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text(ROUTES)
    port, admin = free_port(), free_port()
    log = tmp_path / "log"
    with log.open("w") as stream:
        served = subprocess.Popen(
            [gateway, "serve", f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{admin}"],
            cwd=tmp_path,
            env=environment | {"GATEWAY_DRAIN_S": "0"},
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until(
            lambda: '"worker-ready"' in log.read_text() or served.poll() is not None,
            60,
            "it to serve",
        )
        assert served.poll() is None, log.read_text()
        asked = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/a"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout == "502"  # nobody is behind it
    finally:
        served.terminate()
        assert served.wait(60) == 0
