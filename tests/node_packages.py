"""What tests run with node: a folder's packages, as its lock file has them."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path


def lacking(source: Path, installed: Path) -> str:
    """What to install; empty when the packages are there, or could be fetched just now.

    They stand in a copy of the folder, so that the tree stays as it is.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "apt-get install nodejs npm"
    installed.mkdir(parents=True, exist_ok=True)
    # Processes of pytest-xdist come here at once.
    with (installed / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (source / "package-lock.json").read_bytes()
        noted = installed / "installed.json"
        for path in source.iterdir():
            if path.is_file():
                shutil.copy(path, installed)
        if not noted.exists() or noted.read_bytes() != wanted:
            words = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(words, cwd=installed, capture_output=True, check=False)
            if done.returncode:
                return f"npm ci in {source} found no registry"
            noted.write_bytes(wanted)
    return ""
