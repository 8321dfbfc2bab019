"""What the image is built from, read alone; tests/deploy/test_image.py builds it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.app.settings import names
from tests.deploy.containers import CONTEXT, DEPLOY, ROOT

IMAGE = DEPLOY / "image"
HADOLINT = shutil.which("hadolint", path=os.fspath(Path(sys.executable).parent))

QUADLET = Path("/usr/libexec/podman/quadlet")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


@pytest.mark.skipif(not HADOLINT, reason="hadolint has no wheel for this machine")
def test_hadolint_has_nothing_to_say() -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, IMAGE / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_build_reads_what_it_needs_and_nothing_else() -> None:
    """A context without a list of its own would send data folders and `.env` to the builder."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules == ["*", *(f"!{name}" for name in CONTEXT), "**/__pycache__"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (IMAGE / "Containerfile").read_text(), re.M)
    sources = {source for line in copied for source in line.split()}
    assert {source for source in sources if not source.startswith(CONTEXT)} == set()


def test_the_tools_of_the_build_come_by_hash() -> None:
    text = (IMAGE / "build-requirements.txt").read_text("utf-8")
    wanted = re.findall(r"^([a-z-]+)==", text, re.M)
    assert set(wanted) > set((IMAGE / "build-requirements.in").read_text().split())
    assert len(re.findall(r"^[a-z-]+==\S+ (?:; .+ )?\\\n    --hash=sha256:", text, re.M)) == len(
        wanted
    )


def test_what_runs_in_the_image_needs_no_package() -> None:
    """They run with the base's own Python, before or beside the environment of the gateway."""
    for path in IMAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert (name or "").split(".")[0] in sys.stdlib_module_names, path


@pytest.mark.skipif(not QUADLET.exists(), reason="apt-get install podman")
def test_podman_makes_a_service_of_the_quadlet(tmp_path: Path) -> None:
    shutil.copy(IMAGE / "authgate.container", tmp_path)
    done = subprocess.run(
        [QUADLET, "-dryrun"],
        env={"QUADLET_UNIT_DIRS": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [line] = re.findall(r"^ExecStart=(.*)$", done.stdout, re.M)
    words = line.split()
    assert {"--read-only", "--security-opt=no-new-privileges", "--stop-timeout=45"} <= set(words)
    pairs = set(pairwise(words))
    assert ("--cap-drop", "all") in pairs
    given = {value for _, value in pairs}
    assert given >= {"8080:8080", "127.0.0.1:9901:9901", "/srv/authgate:/etc/authgate:ro"}
    assert "authgate-key-secret,uid=10001,mode=0400" in given
    assert words[-1].endswith(f"authgate:{VERSION}")


def test_the_quadlet_gives_settings_that_there_are() -> None:
    lines = (IMAGE / "authgate.container").read_text("utf-8").splitlines()
    named = re.findall(r"^#?Environment=(GATEWAY_[A-Z_]+)=", "\n".join(lines), re.M)
    assert len(named) == 5
    assert {name.removesuffix("_FILE") for name in named} <= set(names())
