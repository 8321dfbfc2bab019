"""The previous release, in an environment of its own, beside the one that is tested.

It is built as a wheel from the commit that `deploy/release/previous` names, and gets the very
versions of its own `uv.lock`.  What was built is kept in `.tools/` under the commit.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kept import kept

ROOT = Path(__file__).parents[1]
NAMED = ROOT / "deploy" / "release" / "previous"
_TIMEOUT_S = 280


def previous_commit() -> str:
    lines = [line for line in NAMED.read_text().splitlines() if not line.startswith("#")]
    (commit,) = lines
    assert re.fullmatch(r"[0-9a-f]{40}", commit), NAMED
    return commit


def previous_release() -> Path:
    """Its command `gateway`, installed where it is not yet."""
    commit = previous_commit()
    home = kept("previous")
    home.mkdir(parents=True, exist_ok=True)
    folder = home / commit[:12]
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(commit, folder)
            (folder / "whole").touch()
    return folder / "env" / "bin" / "gateway"


def _install(commit: str, folder: Path) -> None:
    source = folder / "source"
    source.mkdir(parents=True)
    archive = folder / "source.tar"
    _run("git", "archive", "--output", str(archive), commit)
    _run("tar", "-xf", str(archive), "-C", str(source))
    uv = str(ROOT / "bootstrap.sh"), "uv"
    locked = str(folder / "requirements.txt")
    _run(*uv, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(source))
    _run(
        *uv, "export", "--project", str(source), "--quiet", "--frozen", "--no-dev",
        "--no-emit-project", "--output-file", locked,
    )  # fmt: skip
    _run(*uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env"))
    python = str(folder / "env" / "bin" / "python")
    (wheel,) = folder.glob("*.whl")
    _run(*uv, "pip", "install", "--quiet", "--python", python, "--requirement", locked)
    _run(*uv, "pip", "install", "--quiet", "--python", python, "--no-deps", str(wheel))
    archive.unlink()
    shutil.rmtree(source)


def _run(*words: str) -> None:
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
