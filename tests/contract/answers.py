"""An answer as its bytes say it, read from a plain socket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    fields: list[tuple[str, str]]
    body: bytes
    closed: bool = False

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str | None:
        assert self.get("content-type") == "application/problem+json", self
        return str(self.json["reason"])


def read_answer(reader: Any, method: str) -> Answer:
    while True:
        line = reader.readline()
        if not line:
            raise ConnectionError("closed before an answer")
        status = int(line.split()[1])
        fields: list[tuple[str, str]] = []
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name, value.strip()))
        if status >= 200 or status == 101:
            break
    answer = Answer(status, fields, b"")
    if method == "HEAD" or status in (204, 304):
        return answer
    if (answer.get("transfer-encoding") or "").lower() == "chunked":
        while size := int(reader.readline().split(b";")[0], 16):
            answer.body += reader.read(size)
            reader.readline()
        while reader.readline() not in (b"\r\n", b""):
            pass
    elif (length := answer.get("content-length")) is not None:
        answer.body = reader.read(int(length))
    else:
        answer.body = reader.read()
    return answer
