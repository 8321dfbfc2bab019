"""Builds the wheels of this tree: the pure one, and one that is compiled for this Python.

    .venv/bin/python deploy/compiled/wheels.py FOLDER

`make wheel` runs it.  Prints what lies in FOLDER then.  Without a C compiler the pure wheel is
made, and the exit code is 1.  SOURCE_DATE_EPOCH is that of the commit, unless it is set.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import compile as compiling

ROOT = Path(__file__).resolve().parents[2]
SWITCH = "HATCH_BUILD_HOOK_ENABLE_CUSTOM"


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    _build(folder)
    if (lacking := compiling.missing()) is not None:
        sys.stderr.write(f"the compiled wheel cannot be made: {lacking}\n")
        return 1
    _build(folder, **{SWITCH: "1"})
    return 0


def _build(folder: Path, **environment: str) -> None:
    words = {name: value for name, value in os.environ.items() if name != SWITCH} | environment
    words.setdefault("SOURCE_DATE_EPOCH", _committed_at())
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as made:
        subprocess.run(
            [
                *(ROOT / "bootstrap.sh", "uv", "build", "--quiet", "--wheel"),
                *("--python", os.path.realpath(sys.executable), "--out-dir", made, str(ROOT)),
            ],
            check=True,
            env=words,
            stdout=subprocess.DEVNULL,
        )
        [wheel] = Path(made).glob("*.whl")
        wheel.rename(folder / wheel.name)
        sys.stdout.write(f"{folder / wheel.name}\n")


def _committed_at() -> str:
    words = ["git", "log", "-1", "--format=%ct"]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "315532800"


if __name__ == "__main__":
    sys.exit(main())
