"""What the image is built from, read alone; tests/deploy/test_image.py builds it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.containers import CONTEXT, DEPLOY, ROOT

IMAGE = DEPLOY / "image"
HADOLINT = shutil.which("hadolint", path=os.fspath(Path(sys.executable).parent))


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
    assert len(re.findall(r"^[a-z-]+==\S+ \\\n    --hash=sha256:", text, re.M)) == len(wanted)


def test_what_runs_in_the_image_needs_no_package() -> None:
    """They run with the base's own Python, before or beside the environment of the gateway."""
    for path in IMAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert (name or "").split(".")[0] in sys.stdlib_module_names, path
