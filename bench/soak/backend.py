"""`python -m bench.soak.backend PORT NAME JOURNAL`: an upstream that says what it received.

A note that is posted stands in the journal before it is answered, so that one that was acknowledged
can be looked for after any number of kills, and one that arrived twice is found twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from aiohttp import WSMsgType, web

TICK_S = 0.4


class Backend:
    def __init__(self, name: str, journal: str) -> None:
        self._name = name
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/healthz":
            return web.Response(text="ok")
        if path == "/events":
            return await self._events(request)
        if path == "/socket":
            return await self._socket(request)
        body = await request.read()
        if request.method == "POST" and path.startswith("/notes/"):
            os.write(self._journal, f"{path.rpartition('/')[2]}\n".encode())
        fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.raw_headers]
        document = {
            "echo": self._name,
            "method": request.method,
            "path": request.raw_path,
            "headers": fields,
            "body_bytes": len(body),
        }
        return web.json_response(document)

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Each says when it was said, on the clock that all processes of a machine share."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        while True:
            await answer.write(f"data: {time.monotonic()}\n\n".encode())
            await asyncio.sleep(TICK_S)

    async def _socket(self, request: web.BaseRequest) -> web.StreamResponse:
        """Says again what it hears, and when that was."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(json.dumps([message.data, time.monotonic()]))
        return socket


async def _main(port: int, name: str, journal: str) -> None:
    runner = web.ServerRunner(web.Server(Backend(name, journal).serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
