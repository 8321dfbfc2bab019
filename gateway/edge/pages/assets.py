"""The files that a page loads: style, scripts, logo; each under a name that holds its hash.

They are served from the gateway's own origin alone, and a browser may keep them for good: another
content has another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from gateway.edge.endpoints.endpoint import Endpoint, PageReply, ProblemReply, Reply
from gateway.model import Call, Reason

SHIPPED = Path(__file__).parent / "assets"
STYLE = "pages.css"
MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
_HASH_CHARS = 16


class Assets:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` by their names, such as `pages.css`."""
        self.names = {name: hashed_name(name, content) for name, content in files.items()}
        """The name under which each is served."""
        self._replies = {
            self.names[name]: PageReply(
                200, content, _KEPT, media_type=MEDIA_TYPES[name.rpartition(".")[2]]
            )
            for name, content in files.items()
        }

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {("ui", "assets", "*"): {"GET": self.asset}}

    async def asset(self, _request: web.BaseRequest, call: Call) -> Reply:
        return self._replies.get(call.segments[-1]) or ProblemReply(Reason.ROUTE_UNKNOWN)


def shipped_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(SHIPPED.iterdir())}


def hashed_name(name: str, content: bytes) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:_HASH_CHARS]}.{ending}"
