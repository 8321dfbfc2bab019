"""Compiles the modules that pyproject.toml lists, with mypyc and a C compiler.

    python compile.py SOURCE INTO

Writes nothing into SOURCE: a compiled module beside its source would be loaded in its stead, long
after that was edited.  Leaves with a sentence where it cannot.  Needs what pyproject.toml names as
`dependencies` of the hook, in the Python that is to run what comes out.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

GROUP = "authgate"
SETUP = """
from mypyc.build import mypycify
from setuptools import setup

setup(
    name={group!r},
    packages=[],
    ext_modules=mypycify(
        {words!r},
        opt_level={level!r},
        debug_level="0",
        group_name={group!r},
        target_dir="generated",
    ),
)
"""
REFUSED = 4
"""Exit code where the sources, or this machine, do not let it."""
CHECKED = (
    # The types of what others made are not looked at: whether and in which version they are
    # installed where this runs must not change what comes out.
    "--no-site-packages",
    "--ignore-missing-imports",
    "--follow-imports=silent",
    "--config-file=",
    "--cache-dir=cache",
)


class Failed(Exception):
    """It cannot be compiled here; the reason, for whoever asked."""


def settings(source: Path) -> dict[str, object]:
    """The one place that says which modules, and how."""
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    hook: dict[str, object] = wheel["hooks"]["custom"]
    return hook


def missing() -> str | None:
    """What of a C compiler this machine lacks."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if not headers.exists():
        return f"there are no headers of this Python ({headers})"
    return None


def compile_modules(source: Path, into: Path) -> list[Path]:
    """The modules, below `into` as a package has them, and the one that holds their code."""
    if (lacking := missing()) is not None:
        raise Failed(lacking)
    hook = settings(source)
    with TemporaryDirectory(prefix="authgate-compile-") as made:
        folder = Path(made).resolve()
        shutil.copytree(
            source / "gateway", folder / "gateway", ignore=shutil.ignore_patterns("__pycache__")
        )
        words = [*CHECKED, *hook["modules"]]  # type: ignore[misc]
        (folder / "setup.py").write_text(
            SETUP.format(words=words, level=hook["optimization"], group=GROUP), "utf-8"
        )
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--build-lib=out", "--build-temp=temp"],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            raise Failed(f"mypyc or the C compiler failed:\n{done.stdout[-4_000:]}")
        found = sorted(path.relative_to(folder / "out") for path in (folder / "out").rglob("*.so"))
        for path in found:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "out" / path, into / path)
            (into / path).chmod(0o755)
    return found


def _environment(folder: Path) -> dict[str, str]:
    """That of whoever asked, and what makes the same of the same: no path, no symbols, no order."""
    words = os.environ
    return {
        **{name: value for name, value in words.items() if name != "AUTHGATE_COMPILE"},
        "CFLAGS": f"{words.get('CFLAGS', '')} -ffile-prefix-map={folder}=.".strip(),
        "LDFLAGS": f"{words.get('LDFLAGS', '')} -s".strip(),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def main() -> int:
    source, into = map(Path, sys.argv[1:])
    try:
        for path in compile_modules(source, into):
            sys.stdout.write(f"{path}\n")
    except Failed as failed:
        sys.stderr.write(f"{failed}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
