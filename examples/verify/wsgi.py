"""WSGI middleware (Flask, Django under gunicorn or uWSGI).

    app.wsgi_app = Authgate(app.wsgi_app, verifier)       # Flask
    application = Authgate(get_wsgi_application(), verifier)

A call without a good assertion is answered 401.  The caller is `environ["authgate.caller"]`;
with `anonymous=True` it is None for a call that brings no assertion.  `HTTP_X_AUTH_*` is taken
away: in WSGI `X_Auth_User_Id` and `X-Auth-User-Id` are one name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from .verifier import Refused, Verifier


class Authgate:
    def __init__(self, app: WSGIApplication, verifier: Verifier, *, anonymous: bool = False):
        self._app = app
        self._verifier = verifier
        self._anonymous = anonymous

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        given = environ.get("HTTP_X_AUTH_ASSERTION")
        caller = None
        if given is not None or not self._anonymous:
            try:
                path, decoded = _path(environ)
                method = environ["REQUEST_METHOD"]
                caller = self._verifier.verify(given or "", method, path, decoded=decoded)
            except Refused:
                return _refuse(start)
        kept: dict[str, Any] = {
            name: value for name, value in environ.items() if not name.startswith("HTTP_X_AUTH_")
        }
        kept["authgate.caller"] = caller
        return self._app(kept, start)


def _path(environ: WSGIEnvironment) -> tuple[str, bool]:
    """The path as it came where the server tells it (gunicorn, uWSGI, werkzeug), else the
    decoded one; and whether it is that."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if isinstance(raw, str) and raw.startswith("/"):
        return raw.partition("?")[0], False
    return environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""), True


def _refuse(start: StartResponse) -> Iterable[bytes]:
    body = json.dumps({"title": "Not through the gateway", "status": 401}).encode()
    fields = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    start("401 Unauthorized", fields)
    return [body]
