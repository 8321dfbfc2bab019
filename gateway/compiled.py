"""The compiled modules of a checkout, which take the place of their sources or are not looked at.

Law: in a checkout a compiled module is loaded only where the whole of what it was made of is there
unchanged: every source, the settings of the build, this Python.  Whoever pulls or edits runs the
sources from the next start on.  A wheel brings its own, and nothing here is asked.

What makes them (`deploy/compiled/`) loads this file by itself: it imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from types import ModuleType
from typing import NoReturn

GROUP = "authgate__mypyc"
"""The module that holds the code of all of them."""
FOLDER = os.path.join(".tools", "compiled")
"""Of a checkout: a folder for each stamp, and in it the modules and the list of them."""
LIST = "modules"
SWITCH = "AUTHGATE_COMPILE"
"""`never` runs the sources, `always` nothing else than what was compiled of them."""
CHOICES = ("auto", "always", "never")
SUFFIX = EXTENSION_SUFFIXES[0]
_SETTINGS = ("pyproject.toml", "uv.lock")


def stamp(root: str) -> str:
    """What compiled modules of this tree, for this Python, are called: a hash of both."""
    told = sha256(f"{sys.version}\0{sys.implementation.cache_tag}\0{SUFFIX}\0".encode())
    folders = [os.path.join(root, "gateway"), os.path.join(root, "deploy", "compiled")]
    paths = [os.path.join(root, name) for name in _SETTINGS]
    for path in sorted(paths + [path for folder in folders for path in _sources(folder)]):
        with open(path, "rb", buffering=0) as stream:
            content = stream.read()
        told.update(f"{os.path.relpath(path, root)}\0{len(content)}\0".encode())
        told.update(content)
    return told.hexdigest()


def _sources(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _sources(entry.path)
            elif entry.name.endswith(".py"):
                yield entry.path


class CompiledModules:
    """Finds the modules of one stamp, and decides once: at the first that was compiled at all.

    Never a part of them: the code of one knows where the fields of the others' objects lie.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._folder: str | None = None
        self._decided = False
        self._named: dict[str, frozenset[str]] = {}
        """By its stamp, what each folder has."""
        for name in _listed(os.path.join(root, FOLDER)):
            with open(os.path.join(root, FOLDER, name, LIST), encoding="ascii") as stream:
                self._named[name] = frozenset(stream.read().split())

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None where the source is to be taken."""
        del path, target
        if not any(name in named for named in self._named.values()):
            return None
        folder = self.chosen()
        if folder is None or name not in self._named[os.path.basename(folder)]:
            return None
        location = os.path.join(folder, *name.split(".")) + SUFFIX
        loader = ExtensionFileLoader(name, location)
        return spec_from_file_location(name, location, loader=loader)

    def chosen(self) -> str | None:
        """The folder of these very sources; None where there is none."""
        if not self._decided:
            self._decided = True
            now = stamp(self._root) if self._named else ""
            if now in self._named:
                self._folder = os.path.join(self._root, FOLDER, now)
                try:
                    import_module(GROUP)
                except ImportError:
                    # Made on a machine with other libraries: all of the sources, then.
                    self._folder = None
        return self._folder


def _listed(folder: str) -> list[str]:
    """Those that are whole: one that is being made has a name that begins with a dot."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []


def prefer(root: str) -> None:
    """From now on the compiled modules of this checkout are taken, if they are of its sources."""
    wanted = os.environ.get(SWITCH) or "auto"
    if wanted == "never" or not os.path.exists(os.path.join(root, _SETTINGS[0])):
        return
    if wanted not in CHOICES:
        _refuse(f"{SWITCH}={wanted}: it is one of {', '.join(CHOICES)}")
    modules = CompiledModules(root)
    sys.meta_path.insert(0, modules)
    if wanted == "always" and modules.chosen() is None:
        _refuse(
            f"{SWITCH}=always, and {FOLDER} has nothing of these sources and this Python:"
            " `make setup` compiles them"
        )


def _refuse(why: str) -> NoReturn:
    """Ends the program: whatever has begun to import the package has nothing else to run."""
    sys.stderr.write(f"error: {why}\n")
    raise SystemExit(2)


def build() -> str:
    """Which code this gateway runs: `compiled` or `pure`."""
    spec = find_spec("gateway.bounded_memo")
    pure = spec is None or spec.origin is None or spec.origin.endswith(".py")
    return "pure" if pure else "compiled"
