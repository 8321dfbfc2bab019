"""Django in one file, under gunicorn; `PREFIX` is the path it serves below.

`SECURE_PROXY_SSL_HEADER` makes it see https where the client used it.  The client's address is
left to a middleware of the project's: here the one that Django's documentation leaves open.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition

PREFIX = os.environ["PREFIX"].strip("/")
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY="only a test",
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    USE_X_FORWARDED_HOST=False,  # Host arrives as the client sent it
    DATA_UPLOAD_MAX_MEMORY_SIZE=1 << 20,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)


def echo(request: HttpRequest, rest: str) -> JsonResponse:
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "query": [[k, v] for k in request.GET for v in request.GET.getlist(k)],
            "fields": [[name.lower(), value] for name, value in request.headers.items()],
            "user": [request.META["HTTP_X_AUTH_USER_ID"]],
            "body": request.body.decode(),
            "client": forwarded[0].strip(),
            "scheme": request.scheme,
            "host": request.get_host(),
        }
    )


def form(request: HttpRequest) -> JsonResponse:
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for block in file.chunks():
        digest.update(block)
    told: dict[str, Any] = {"note": request.POST["note"], "name": file.name, "size": file.size}
    return JsonResponse(told | {"sha256": digest.hexdigest()})


@condition(etag_func=lambda request: '"one"')  # type: ignore[untyped-decorator]
def download(request: HttpRequest) -> FileResponse:
    return FileResponse(open(os.environ["FILE"], "rb"))


def none(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def away(request: HttpRequest) -> HttpResponse:
    target = request.build_absolute_uri(f"/{PREFIX}/echo/there")
    return HttpResponse(status=302, headers={"Location": target})


def cookies(request: HttpRequest) -> HttpResponse:
    answer = JsonResponse({})
    answer.set_cookie("a", "1", httponly=True)
    answer.set_cookie("b", "2", max_age=60)
    answer.set_cookie("__Host-session", "stolen", secure=True)
    return answer


def chunks(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[bytes]:
        for number in range(100):
            yield b"%d\n" % number

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def packed(request: HttpRequest) -> HttpResponse:
    return HttpResponse(gzip.compress(b"packed" * 1000), headers={"Content-Encoding": "gzip"})


def large(request: HttpRequest) -> HttpResponse:
    return JsonResponse({}, headers={"X-Large": "v" * 8000})


def boom(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


urlpatterns = [
    re_path(f"^{PREFIX}/echo/(?P<rest>.*)$", csrf_exempt(echo)),
    path(f"{PREFIX}/form", csrf_exempt(form)),
    *(path(f"{PREFIX}/{view.__name__}", view) for view in (none, away, cookies, chunks)),
    *(path(f"{PREFIX}/{view.__name__}", view) for view in (download, packed, large, boom)),
]
django.setup()
application = get_wsgi_application()
