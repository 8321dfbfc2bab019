"""Serves the page to the gateway.  Loopback only; any static file server would do."""

from __future__ import annotations

import argparse
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
ASSETS = {"/assets/app.js": "app.js", "/assets/app.css": "app.css"}


class Page(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path: str) -> str:
        wanted = path.partition("?")[0]
        is_page = wanted == "/" or wanted.startswith("/orders/")
        name = "index.html" if is_page else ASSETS.get(wanted, "nothing-else")
        return str(HERE / name)

    def log_message(self, format: str, *args: object) -> None:
        """The gateway keeps the record."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9100)
    options = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", options.port), partial(Page, directory=HERE)) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
