"""Flask under gunicorn; `PREFIX` is the path it serves below.

`ProxyFix` makes it see the client's address and scheme; `x_for` is how many proxies there are,
authgate included.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, redirect, request, send_file, url_for
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as AnyResponse

app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=2, x_proto=1, x_host=1)  # type: ignore[method-assign]
pages = Blueprint("pages", __name__, url_prefix=os.environ["PREFIX"])
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pages.route("/echo/<path:rest>", methods=METHODS)
def echo(rest: str) -> Any:
    return jsonify(
        method=request.method,
        path=request.path,
        query=list(request.args.items(multi=True)),
        fields=[[name.lower(), value] for name, value in request.headers],
        user=request.headers.getlist("X-Auth-User-Id"),
        body=request.get_data(as_text=True),
        client=request.remote_addr,
        scheme=request.scheme,
        host=request.host,
    )


@pages.get("/books/<int:number>/pages")
def book(number: int) -> str:
    return str(number)


@pages.post("/form")
def form() -> Any:
    file = request.files["file"]
    digest, size = hashlib.sha256(), 0
    while block := file.stream.read(65_536):
        digest.update(block)
        size += len(block)
    told = {"note": request.form["note"], "name": file.filename, "size": size}
    return jsonify(told | {"sha256": digest.hexdigest()})


@pages.get("/download")
def download() -> AnyResponse:
    return send_file(os.environ["FILE"], conditional=True, etag=True)


@pages.get("/none")
def none() -> tuple[str, int]:
    return "", 204


@pages.get("/away")
def away() -> AnyResponse:
    return redirect(url_for("pages.echo", rest="there", _external=True))


@pages.get("/cookies")
def cookies() -> AnyResponse:
    answer = jsonify({})
    answer.set_cookie("a", "1", httponly=True)
    answer.set_cookie("b", "2", max_age=60)
    answer.set_cookie("__Host-session", "stolen", secure=True)
    return answer


@pages.get("/chunks")
def chunks() -> Response:
    def pieces() -> Iterator[bytes]:
        for number in range(100):
            yield b"%d\n" % number

    return Response(pieces(), mimetype="text/plain")


@pages.get("/packed")
def packed() -> Response:
    return Response(gzip.compress(b"packed" * 1000), headers={"Content-Encoding": "gzip"})


@pages.get("/large")
def large() -> Response:
    return Response("{}", headers={"X-Large": "v" * 8000})


@pages.get("/boom")
def boom() -> str:
    raise ZeroDivisionError


app.register_blueprint(pages)
