"""Where stands what tests fetch and install: below `.tools/`, or below the folder that
AUTHGATE_KEPT names, which outlives this checkout (`.ci/run`).

`python -m tests.kept` fetches beforehand what the slow tests would fetch one after the other.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def kept(name: str) -> Path:
    """The folder of that name, made by whoever fills it."""
    return Path(os.environ.get("AUTHGATE_KEPT") or ROOT / ".tools") / name


def main() -> int:
    """What fails here fails again, and says why, in the tests that need it."""
    from tests.applications import recipe
    from tests.deploy import containers

    if os.geteuid() == 0 and shutil.which("mmdebstrap"):
        containers.base_archive()
    for page in sorted(recipe.PAGES.glob("*.md")):
        recipe.install(page.stem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
