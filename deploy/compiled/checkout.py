"""Compiles the request path of this checkout into `.tools/compiled/`; `make setup` runs it.

    .venv/bin/python deploy/compiled/checkout.py start     what AUTHGATE_COMPILE says
    .venv/bin/python deploy/compiled/checkout.py compile   now, and wait for it

AUTHGATE_COMPILE is `auto` (the default: begun beside the first start, where there is a C compiler,
and taken from the next start on), `always` (waited for; where it cannot be, that is an error) or
`never`.  gateway/compiled.py decides at each start whether what lies there is of these sources.

What is made is made aside, from a copy of the sources, and gets its name when it is whole.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
FAILED = ".failed-"
"""Before the stamp of what this machine cannot compile: `auto` does not try it at each start."""
KEPT = 3
"""Of older ones: a gateway that runs may still have a module to load."""


def main() -> int:
    compiled, compiling = _module("gateway/compiled.py"), _module("deploy/compiled/compile.py")
    asked = sys.argv[1:] or ["start"]
    mode = os.environ.get(compiled.SWITCH) or "auto"
    if mode not in compiled.CHOICES:
        return _fail(f"{compiled.SWITCH}={mode}: it is one of {', '.join(compiled.CHOICES)}")
    folder = ROOT / compiled.FOLDER
    if asked == ["start"] and mode == "never":
        return 0
    stamp = compiled.stamp(str(ROOT))
    if (folder / stamp).exists():
        return 0
    waits = asked == ["compile"] or mode == "always"
    lacking = compiling.missing()
    if not waits:
        if lacking is None and _may_begin(folder, stamp):
            # Whatever keeps it from being begun is no reason not to start.
            with suppress(OSError):
                _begin_beside()
        return 0
    if lacking is not None:
        return _fail(f"authgate cannot be compiled: {lacking}")
    try:
        with _alone(folder, waits=asked == ["start"]) as alone:
            if alone:
                _make(folder, compiled, compiling)
    except (OSError, subprocess.CalledProcessError) as error:
        return _fail(f"authgate cannot be compiled: {error}")
    return 0


def _may_begin(folder: Path, stamp: str) -> bool:
    """Nobody who edits wants it made anew after each change; and it costs nobody a message."""
    built = ROOT / ".venv" / ".built"
    edits = built.exists() and built.read_text("utf-8").endswith(" dev")
    return os.access(TOOLS, os.W_OK) and not (edits or (folder / f"{FAILED}{stamp}").exists())


def _begin_beside() -> None:
    """Of the same process group, so that Ctrl-C ends it with what it was begun beside."""
    with (TOOLS / "compile.log").open("w") as log:
        subprocess.Popen(
            ["nice", "-n", "19", sys.executable, str(Path(__file__).resolve()), "compile"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    sys.stderr.write(
        "compiling the request path meanwhile, for the next start (docs/compiled.md)\n"
    )


@contextmanager
def _alone(folder: Path, *, waits: bool) -> Iterator[bool]:
    """Whether nobody else is at it.  The kernel lets go of the lock of whoever was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _make(folder: Path, compiled: ModuleType, compiling: ModuleType) -> None:
    for left in folder.glob(".making-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as made:
        sources, out = Path(made, "sources"), Path(made, "out")
        out.mkdir()
        for name in ("gateway", "deploy/compiled"):
            shutil.copytree(
                ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("pyproject.toml", "uv.lock"):
            shutil.copyfile(ROOT / name, sources / name)
        # Of the copy: whoever edits meanwhile gets nothing that was made of something else.
        stamp = compiled.stamp(str(sources))
        if (folder / stamp).exists():
            return
        script = sources / "deploy" / "compiled" / "compile.py"
        done = subprocess.run(
            [_compiler_python(), str(script), str(sources), str(out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": made},
        )
        if done.returncode == compiling.REFUSED:
            (folder / f"{FAILED}{stamp}").touch()
        done.check_returncode()
        names = [path.split(".", 1)[0].replace("/", ".") for path in done.stdout.split()]
        (out / compiled.LIST).write_text("\n".join(names) + "\n", "ascii")
        out.chmod(0o755)
        _to_disk(out)
        out.rename(folder / stamp)
    _forget_old(folder, stamp)


def _compiler_python() -> str:
    """A Python with mypyc, on what `.venv` stands on, by the hashes of uv.lock."""
    command = [ROOT / "bootstrap.sh", "compiler", os.path.realpath(sys.executable)]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(TOOLS / "compiler" / "bin" / "python")


def _to_disk(out: Path) -> None:
    """Before it gets its name: after a loss of power the name must not stand over empty files."""
    for path in [*out.rglob("*"), out]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _forget_old(folder: Path, stamp: str) -> None:
    found = [path for path in folder.iterdir() if path.name[0] != "." and path.name != stamp]
    for path in sorted(found, key=lambda one: one.stat().st_mtime)[:-KEPT]:
        # Nobody chooses it while it goes.
        away = folder / f".making-{path.name}"
        path.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def _module(path: str) -> ModuleType:
    """A file by itself: to import the package would ask for what is made here."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
