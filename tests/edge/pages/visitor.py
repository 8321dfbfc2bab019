"""A browser without JavaScript: it keeps cookies, and sends forms as it finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from tests.edge.auth_house import House, request
from tests.edge.rig import Answer

NAVIGATION = (
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Accept: text/html,application/xhtml+xml",
)


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Document(HTMLParser):
    """What a page holds, as far as a test asks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.forms: list[Form] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.attributes.append((tag, given))
        if tag == "form":
            self.forms.append(Form(given["action"]))
        elif tag == "input" and self.forms:
            self.forms[-1].fields[given["name"]] = given.get("value", "")

    def form(self, ending: str) -> Form:
        return next(form for form in self.forms if form.action.endswith(ending))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [given for name, given in self.attributes if name == tag]


@dataclass
class Visitor:
    house: House
    language: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, headers: Sequence[str] = NAVIGATION) -> Answer:
        return await self._send(request("GET", path, b"", headers=self._fields(headers)))

    async def post(
        self, path: str, form: dict[str, str], headers: Sequence[str] = NAVIGATION
    ) -> Answer:
        fields = [*self._fields(headers), "Content-Type: application/x-www-form-urlencoded"]
        content = urlencode(form).encode()
        return await self._send(request("POST", path, content, headers=fields, content_type=None))

    async def fill(self, answer: Answer, ending: str, **values: str) -> Answer:
        """Send the form of a page with these values."""
        form = document(answer).form(ending)
        return await self.post(form.action, {**form.fields, **values})

    def _fields(self, headers: Sequence[str]) -> list[str]:
        fields = [*headers]
        if self.language:
            fields.append(f"Accept-Language: {self.language}")
        if self.cookies:
            fields.append("Cookie: " + "; ".join(f"{k}={v}" for k, v in self.cookies.items()))
        return fields

    async def _send(self, data: bytes) -> Answer:
        answer = await self.house.raw(data)
        for line in answer.values("set-cookie"):
            name, _, rest = line.decode().partition("=")
            value = rest.partition(";")[0]
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer


def document(answer: Answer) -> Document:
    assert answer.values("content-type") == [b"text/html; charset=utf-8"], answer.body
    return Document(answer.body.decode())


def location(answer: Answer) -> str:
    assert answer.status == 303, (answer.status, answer.body)
    (value,) = answer.values("location")
    return value.decode()
