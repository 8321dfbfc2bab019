"""Clients that people use, asked alike: requests, httpx, curl and node's fetch.

Each sends what it sends by itself; what comes back is given as it came over the wire, but for
node's fetch, which hands out content without its coding (`decodes`).
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Protocol

import httpx
import requests

from tests.contract.answers import Answer
from tests.servers import end_with_parent
from tests.upstreams.started import NODE

Fields = Sequence[tuple[str, str]]
TIMEOUT_S = 30


class Client(Protocol):
    decodes: bool

    def call(
        self, method: str, url: str, fields: Fields = (), body: bytes | None = None
    ) -> Answer: ...


class Requests:
    decodes = False

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, method: str, url: str, fields: Fields = (), body: bytes | None = None) -> Answer:
        with self._session.request(
            method,
            url,
            headers=dict(fields),
            data=body,
            allow_redirects=False,
            stream=True,
            timeout=TIMEOUT_S,
        ) as answer:
            content = answer.raw.read(decode_content=False)
            return Answer(answer.status_code, list(answer.raw.headers.items()), content)


class Httpx:
    decodes = False

    def __init__(self) -> None:
        self._client = httpx.Client(trust_env=False, timeout=TIMEOUT_S)

    def call(self, method: str, url: str, fields: Fields = (), body: bytes | None = None) -> Answer:
        with self._client.stream(method, url, headers=list(fields), content=body) as answer:
            content = b"".join(answer.iter_raw())
            return Answer(answer.status_code, answer.headers.multi_items(), content)


class Curl:
    decodes = False

    def call(self, method: str, url: str, fields: Fields = (), body: bytes | None = None) -> Answer:
        return curl(method, url, fields, body=body)[1]


def curl(
    method: str,
    url: str,
    fields: Fields = (),
    *,
    body: bytes | None = None,
    words: Sequence[str] = (),
) -> tuple[str, Answer]:
    """The HTTP version that was spoken, and the answer; `words` are options besides."""
    command = ["curl", "-q", "-sS", "-i", "--path-as-is", "--noproxy", "*", "-m", str(TIMEOUT_S)]
    # `-X HEAD` would wait for a body that never comes.
    command += ["-I"] if method == "HEAD" else ["-X", method]
    for name, value in fields:
        command += ["-H", f"{name}: {value}"]
    if body is not None:
        command += ["--data-binary", "@-"]
    command += ["-w", "%{stderr}%{http_version}", *words, url]
    done = subprocess.run(command, input=body, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    while re.match(rb"HTTP/[0-9.]+ 1[0-9][0-9] ", head):
        head, _, content = content.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    pairs = [(name, value.strip()) for name, _, value in (text.partition(":") for text in lines)]
    return done.stderr.decode(), Answer(int(line.split()[1]), pairs, content)


class Node:
    decodes = True

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout

    def call(self, method: str, url: str, fields: Fields = (), body: bytes | None = None) -> Answer:
        text = None if body is None else base64.b64encode(body).decode()
        asked = {"method": method, "url": url, "fields": list(fields), "body": text}
        self._stdin.write(json.dumps(asked).encode() + b"\n")
        self._stdin.flush()
        said: dict[str, Any] = json.loads(self._stdout.readline())
        assert "error" not in said, said
        pairs = [(name, value) for name, value in said["fields"]]
        return Answer(said["status"], pairs, base64.b64decode(said["body"]))


@contextmanager
def node() -> Iterator[Node]:
    process = subprocess.Popen(
        ["node", str(NODE / "client.js")],
        cwd=NODE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    try:
        yield Node(process)
    finally:
        process.kill()
        process.communicate()


def multipart(note: str, name: str, content: bytes) -> tuple[str, bytes]:
    """The type and the bytes of a form with a field and a file (RFC 7578)."""
    edge = "x5f2b1c7e9"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="note"\r\n\r\n{note}\r\n'.encode(),
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'.encode(),
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n",
        f"--{edge}--\r\n".encode(),
    ]
    return f"multipart/form-data; boundary={edge}", b"".join(parts)
