"""`bootstrap.sh`: which Python `.venv` is built of.  Pythons and uv are scripts that say so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PYTHON = """#!/bin/sh
case "$2" in
*base_prefix*) echo "{base} 3.13.0" ;;
*executable*) echo "{path}" ;;
esac
"""
UV = """#!/bin/sh
[ "$1" = sync ] || exit 0
while [ "$1" != --python ]; do shift; done
echo "$2" >>"{log}"
rm -rf .venv && mkdir -p .venv/bin && cp "$2" .venv/bin/python
"""


class Tree:
    """A copy of what the script needs, and a PATH of nothing but scripts and the system's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tree"
        self.path = folder / "path"
        self.home = folder / "home"
        self.log = folder / "log"
        for made in (self.folder, self.path, self.home):
            made.mkdir()
        for name in ("bootstrap.sh", "uv.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder)
        self.script("uv", UV.format(log=self.log))
        # Whatever the machine has besides must not be chosen.
        for name in ("python3", "python3.13", "python3.12", "python3.11", "python"):
            self.script(name, "#!/bin/sh\nexit 1\n")

    def script(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def python(self, name: str, base: str) -> str:
        path = self.path / name
        self.script(name, PYTHON.format(base=base, path=path))
        return str(path)

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "./bootstrap.sh", "sync"],
            cwd=self.folder,
            env={"PATH": f"{self.path}:/usr/bin:/bin", "HOME": str(self.home), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def built_of(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_python_that_is_named_is_taken_although_venv_exists(tree: Tree) -> None:
    first, other = tree.python("python3", "/opt/first"), tree.python("other", "/opt/other")
    assert tree.build().returncode == 0
    assert tree.build().returncode == 0
    assert tree.built_of() == [first]
    assert tree.build(PYTHON=other).returncode == 0
    assert tree.built_of() == [first, other]
    # And it stays, whether it is named again or not.
    assert tree.build(PYTHON=other).returncode == 0
    assert tree.build().returncode == 0
    assert tree.built_of() == [first, other]


def test_a_python_that_is_named_and_does_not_fit_is_an_error(tree: Tree) -> None:
    tree.python("python3", "/opt/first")
    done = tree.build(PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "/nowhere/python3" in done.stderr
    assert tree.built_of() == []


def test_root_takes_a_python_that_others_may_run_before_one_in_its_home(tree: Tree) -> None:
    tree.script("id", "#!/bin/sh\necho 0\n")
    tree.python("python3", f"{tree.home}/.pyenv/versions/3.13.0")
    system = tree.python("python3.12", "/opt/system")
    assert tree.build().returncode == 0
    assert tree.built_of() == [system]


def test_somebody_else_takes_the_python_of_their_own_home(tree: Tree) -> None:
    tree.script("id", "#!/bin/sh\necho 1000\n")
    own = tree.python("python3", f"{tree.home}/.pyenv/versions/3.13.0")
    tree.python("python3.12", "/opt/system")
    assert tree.build().returncode == 0
    assert tree.built_of() == [own]
