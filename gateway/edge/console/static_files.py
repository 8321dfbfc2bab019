"""Style and scripts of the console, each under a name that holds its hash.

htmx and its extension for server-sent events are what npm has as htmx.org 2.0.11 and htmx-ext-sse
2.2.4, byte for byte (`tests/edge/console/test_static_files.py` knows their hashes); their licences
(0BSD) lie beside them.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.edge.pages.assets import MEDIA_TYPES, hashed_name
from gateway.edge.replies.problems import OWN_HEADERS

FOLDER = Path(__file__).parent / "assets"
PREFIX = "/admin/assets/"
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}


class StaticFiles:
    def __init__(self) -> None:
        contents = {
            path.name: path.read_bytes()
            for path in sorted(FOLDER.iterdir())
            if path.suffix[1:] in MEDIA_TYPES
        }
        names = {name: hashed_name(name, content) for name, content in contents.items()}
        self.paths = {name: PREFIX + names[name] for name in names}
        """Where each is served."""
        self._contents = {names[name]: content for name, content in contents.items()}

    def answer(self, request: web.BaseRequest, path: str) -> web.Response | None:
        """None for a name that there is not."""
        name = path.removeprefix(PREFIX)
        content = self._contents.get(name)
        if content is None:
            return None
        etag = f'"{name.split(".")[-2]}"'
        headers = {**OWN_HEADERS, **_KEPT, "ETag": etag}
        held = request.headers.get("If-None-Match", "")
        if etag in [one.strip().removeprefix("W/") for one in held.split(",")]:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = MEDIA_TYPES[name.rpartition(".")[2]]
        return web.Response(body=content, headers=headers)
