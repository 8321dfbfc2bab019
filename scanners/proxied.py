"""REDbot on what real backends answer, asked at the backend itself and through the gateway.

It sends conditional, partial and coded requests of its own.  Whatever it says of one answer and not
of the other is the gateway's doing: each such difference is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.contract.running import started
from tests.upstreams.started import Upstreams, missing

PATHS = {
    "nginx": ("download", "packed", "away", "cookies", "none", "boom"),
    "fastapi": ("download", "packed", "chunks", "away", "cookies", "none", "large"),
    "express": ("download", "chunks", "cookies", "boom"),
}
FEW = {"nginx": ("download", "packed"), "fastapi": ("chunks",)}


class Lacking(Exception):
    """The text says what to install."""


# The seconds since `Date`: whoever is asked later is told more of them.
_OF_THE_CLOCK = "CURRENT_AGE"


def differences(folder: Path, notes: Callable[[str], set[str]], *, few: bool) -> list[str]:
    """`+` is said of the answer through the gateway alone, `-` of the backend's own alone; each
    with the paths it was said of.  `notes` gives the names of what is said of an address."""
    upstreams = Upstreams.planned(folder / "files")
    with closing(_Stopping(upstreams)):
        for name in PATHS:
            if lacking := missing(name):
                raise Lacking(f"{name}: {lacking}")
            upstreams.start(name)
        # What a route adds by itself would be the same difference everywhere.
        open_to_all = "auth: public\n    security_headers: off"
        routes = upstreams.routes.replace("policy: signed-in", open_to_all)
        said: dict[str, list[str]] = {}
        with started(folder / "gateway", routes=routes) as gateway:
            for name, paths in (FEW if few else PATHS).items():
                for path in (f"/{name}/{path}" for path in paths):
                    own = notes(f"http://127.0.0.1:{upstreams.ports[name]}{path}")
                    through = notes(f"http://127.0.0.1:{gateway.port}{path}")
                    for note in (own ^ through) - {_OF_THE_CLOCK}:
                        sign = "+" if note in through else "-"
                        said.setdefault(f"{sign} {note}", []).append(path)
        return [f"{note}: {', '.join(paths)}" for note, paths in sorted(said.items())]


class _Stopping:
    def __init__(self, upstreams: Upstreams) -> None:
        self.close = upstreams.stop
