"""FastAPI as its documentation has it, under uvicorn; `PREFIX` is the path it serves below.

uvicorn believes X-Forwarded-For and -Proto from the addresses of `--forwarded-allow-ips`.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Form, Request, UploadFile, WebSocket
from fastapi.responses import (
    FileResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

PREFIX = os.environ["PREFIX"]
app = FastAPI()
router = APIRouter(prefix=PREFIX)
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@router.api_route("/echo/{rest:path}", methods=METHODS)
async def echo(request: Request, rest: str) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.url.path,
        "query": request.query_params.multi_items(),
        "fields": request.headers.items(),
        "user": request.headers.getlist("x-auth-user-id"),
        "body": (await request.body()).decode(),
        "client": request.client and request.client.host,
        "scheme": request.url.scheme,
        "host": request.headers["host"],
    }


@router.get("/books/{number}/pages")
async def book(number: int) -> int:
    return number


@router.get("/documents/{document}/pages")
async def document(document: UUID) -> UUID:
    return document


@router.post("/form")
async def form(note: Annotated[str, Form()], file: UploadFile) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    while block := await file.read(65_536):
        digest.update(block)
        size += len(block)
    return {"note": note, "name": file.filename, "size": size, "sha256": digest.hexdigest()}


@router.post("/judge")
async def judge(order: dict[str, int]) -> dict[str, int]:
    """422 by FastAPI itself where the body is not of that form."""
    return order


@router.api_route("/download", methods=["GET", "HEAD"])
async def download(request: Request) -> Response:
    answer = FileResponse(os.environ["FILE"], media_type="application/octet-stream")
    await asyncio.to_thread(answer.set_stat_headers, os.stat(os.environ["FILE"]))
    if request.headers.get("if-none-match") == answer.headers["etag"]:
        return Response(status_code=304, headers={"ETag": answer.headers["etag"]})
    return answer


@router.get("/none", status_code=204)
async def none() -> None:
    return None


@router.get("/away")
async def away(request: Request) -> Response:
    return RedirectResponse(request.url_for("echo", rest="there"), 302)


@router.get("/cookies")
async def cookies() -> Response:
    answer = JSONResponse({})
    answer.set_cookie("a", "1", httponly=True)
    answer.set_cookie("b", "2", max_age=60)
    answer.set_cookie("__Host-session", "stolen", secure=True)
    return answer


@router.get("/chunks")
async def chunks() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d\n" % number

    return StreamingResponse(pieces(), media_type="text/plain")


@router.get("/packed")
async def packed() -> Response:
    return Response(gzip.compress(b"packed" * 1000), headers={"Content-Encoding": "gzip"})


@router.get("/large")
async def large() -> Response:
    return JSONResponse({}, headers={"X-Large": "v" * 8000})


@router.get("/boom")
async def boom() -> None:
    raise ZeroDivisionError


@router.get("/events")
async def events(request: Request) -> StreamingResponse:
    """Server-sent events: the next one when the client has confirmed the last by /heard."""
    heard: asyncio.Queue[None] = asyncio.Queue()
    app.state.heard = heard

    async def told() -> AsyncIterator[str]:
        for number in range(3):
            yield f"id: {number}\ndata: {request.headers.get('x-auth-user-id')}\n\n"
            await heard.get()
        yield "event: end\ndata: -\n\n"

    return StreamingResponse(
        told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@router.post("/heard", status_code=204)
async def note_heard() -> None:
    app.state.heard.put_nowait(None)


@router.get("/page")
async def page() -> Response:
    return Response("<!doctype html><title>page</title>", media_type="text/html")


@router.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept("echo" if "echo" in websocket.scope["subprotocols"] else None)
    await websocket.send_json({"user": websocket.headers.getlist("x-auth-user-id")})
    async for message in websocket.iter_text():
        await websocket.send_text(message)


app.include_router(router)
