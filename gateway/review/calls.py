"""Calls made up of what the decision may read of them: each input has a name and a value.

The names: `seg:2` (the path from its third segment on, or that segment), `query:x`,
`header:x`, `body:a.b`, `host`, `client.ip`, `now`, `signed`, `roles`, `user.id` and the other
fields of the caller, `claim:x`, `age` (seconds since the sign-in), `amr`, `scopes`, `kind`
(what the caller presents), `slash` (in the rest of a path).  An input without a value has an
ordinary one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.paths import CanonicalPath, canonical, encoded
from gateway.access.routing.routes import WILDCARD, Route, SegmentKind
from gateway.access.simulation import person
from gateway.access.templates import TextTemplate
from gateway.model import OWN_ISSUER, Call, Credential, CredentialKind, Principal, Reason
from gateway.review.shapes import Shape
from gateway.review.surveys import ADDRESS, NOW, SIGN_IN, Path

GATEWAY = ""
"""Among whom a token is for: the gateway, and no resource of its own."""
MOMENT = 1_800_000_000
"""The `now` of a call that nobody asks for its time."""
Values = Mapping[str, Any]
Roles = frozenset[frozenset[str]]
"""A set of roles; each is named by all the roles that do the same."""


class Absent:
    """The call has no such value."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


@dataclass(frozen=True, slots=True, order=True)
class Presented:
    """What a caller shows: a credential of ours, or another issuer's token."""

    kind: CredentialKind = CredentialKind.BEARER
    issuer: str = OWN_ISSUER
    audience: tuple[str, ...] = (GATEWAY,)
    """Paths of resources of OAuth, and GATEWAY."""
    granted: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.issuer == OWN_ISSUER:
            return str(self.kind)
        words = [f"a token of {self.issuer}"]
        if self.audience != (GATEWAY,):
            words.append("for " + " and ".join(one or "the gateway" for one in self.audience))
        if self.granted:
            words.append("with the scope " + " ".join(self.granted))
        return " ".join(words)


OWN_TOKEN = Presented()
ORIGINS = OwnOrigins("https://gateway.invalid")
"""Where the gateway of both sides is reached: which origin it is, decides nothing."""


@dataclass(frozen=True, slots=True)
class Source:
    """An input, and the text that stands around it in what is read."""

    name: str
    """Empty where the route fixes the whole text, which is `before`."""
    before: str = ""
    after: str = ""

    def text(self, values: Values) -> str | None:
        """What is read, where the input is a text."""
        if not self.name:
            return self.before
        value = values.get(self.name)
        return f"{self.before}{value}{self.after}" if isinstance(value, str) else None


def source_of(path: Path, route: Route, shape: Shape) -> Source | bool | None:
    """Where `path` of a condition comes from on `route`.

    None where there is nothing; False where it is made of several inputs.
    """
    if path == NOW:
        return Source("now")
    if path == SIGN_IN:
        return Source("age")
    if path == ADDRESS:
        return Source("client.ip")
    if path == ("user",):
        return Source("signed")
    if path[:2] == ("user", "claims"):
        return Source(f"claim:{path[2]}")
    if path[:2] in (("user", "attributes"), ("user", "tenants")):
        return Source(f"{path[1]}:{path[2]}")
    if path == ("user", "tenant"):
        return Source("claim:tenant") if route.tenant is None else False
    if path == ("user", "issuer"):
        return Source("kind")
    if path[0] == "user":
        return Source(".".join(path))
    if path[0] == "resource":
        template = next((one.template for one in route.resource if one.name == path[1]), None)
        return None if template is None else _of_template(template, route, shape)
    if path[1] == "params":
        return _of_param(path[2], route, shape)
    if path[1] == "path":
        return False if shape.open else Source("", "/" + "/".join(shape.filled({})))
    if path[1] == "method":
        return None
    if path[1] == "host":
        named = shape.host is not None and not shape.host.startswith(WILDCARD)
        return Source("", str(shape.host)) if named else Source("host")
    return Source(f"{'query' if path[1] == 'query' else 'header'}:{path[2]}")


def _of_template(template: TextTemplate, route: Route, shape: Shape) -> Source | bool | None:
    filled: Source | None = None
    before = after = ""
    for piece in template.pieces:
        source: Source | bool | None = Source("", piece.text)
        if piece.source == "params":
            source = _of_param(piece.text, route, shape)
        elif piece.source in ("query", "headers", "body"):
            kind = {"query": "query", "headers": "header", "body": "body"}[piece.source]
            source = Source(f"{kind}:{piece.text}")
        if source is None or isinstance(source, bool):
            return source
        if not source.name:
            before, after = (
                (before + source.before, "") if filled is None else (before, after + source.before)
            )
        elif filled is not None:
            return False
        else:
            filled, before, after = source, before + source.before, source.after
    return Source("" if filled is None else filled.name, before, after)


def _of_param(name: str, route: Route, shape: Shape) -> Source | bool | None:
    """A parameter of the route is a part of the path, which may be another's shape."""
    taken = _positions(name, route, shape)
    filled = [at for at in taken if shape.segments[at].kind is not SegmentKind.LITERAL]
    if not taken:
        return None
    if not filled:
        return Source("", "/".join(shape.segments[at].text for at in taken))
    if len(filled) > 1:
        return False
    (at,) = filled
    texts = [shape.segments[i].text for i in taken]
    cut = taken.index(at)
    before = "".join(f"{text}/" for text in texts[:cut])
    after = "".join(f"/{text}" for text in texts[cut + 1 :])
    return Source(f"seg:{at}", before, after)


def _positions(name: str, route: Route, shape: Shape) -> list[int]:
    for at, segment in enumerate(route.segments):
        if segment.kind is not SegmentKind.LITERAL and segment.text == name:
            if segment.kind is SegmentKind.REST:
                return list(range(at, len(shape.segments)))
            return [at] if at < len(shape.segments) else [len(shape.segments) - 1]
    return []


def reading_of(segments: tuple[str, ...]) -> CanonicalPath | Reason:
    """How a path of these segments is read, each of them escaped where it must be."""
    return canonical("/" + "/".join(map(encoded, segments)), files=True)


class CallMaker:
    """Makes the calls of one shape and method."""

    def __init__(self, shape: Shape, method: str, host: str, path: Mapping[int, str]) -> None:
        self._shape = shape
        self._method = method
        self._host = host
        self._path = dict(path)

    def segments(self, values: Values) -> tuple[str, ...]:
        path = {at: values.get(f"seg:{at}", text) for at, text in self._path.items()}
        segments = self._shape.filled(path)
        if values.get("slash"):
            # One that is no parting: the rest of a path has others.
            segments = (*segments[:-1], f"{segments[-1]}/two")
        return segments

    def make(self, values: Values) -> tuple[Call, Principal | Reason]:
        """The call, and who makes it."""
        segments = self.segments(values)
        read = reading_of(segments)
        host = values.get("host", self._host)
        headers = [(b"Host", host.encode())]
        query: list[str] = []
        body: dict[str, Any] = {}
        for name, value in values.items():
            if value is ABSENT:
                continue
            kind, _, key = name.partition(":")
            if kind == "query":
                query.append(f"{quote(key, safe='')}={quote(value, safe='')}")
            elif kind == "header":
                headers.append((key.encode(), value.encode()))
            elif kind == "body":
                _put(body, key, value)
        caller: Principal | Reason = Reason.NO_CREDENTIAL
        credential = None
        if values.get("signed", True):
            caller = self._person(values)
            presented: Presented = values.get("kind", OWN_TOKEN)
            credential = Credential(presented.kind, "")
            if presented.kind is CredentialKind.COOKIE:
                # The proof of intent is no matter of a policy: it counts as given.
                headers.append((b"Sec-Fetch-Site", b"same-origin"))
        call = Call(
            method=self._method,
            host=host,
            path="/" + "/".join(encoded(segment) for segment in segments),
            segments=segments,
            query="&".join(query),
            headers=tuple(headers),
            client_ip=values.get("client.ip", "127.0.0.1"),
            scheme="http",
            credential=credential,
            encoded_slash=isinstance(read, CanonicalPath) and read.encoded_slash,
            files_only=isinstance(read, CanonicalPath) and read.files_only,
            body=body,
        )
        return call, caller

    def _person(self, values: Values) -> Principal:
        now = values.get("now", MOMENT)
        age = values.get("age", 0)
        email = values.get("user.email", "someone@example.com")
        presented: Presented = values.get("kind", OWN_TOKEN)
        foreign = presented.issuer != OWN_ISSUER
        before = f"{presented.issuer}:" if foreign else ""
        session = values.get("user.session_id", f"{before}session")
        principal = person(
            values.get("user.id", f"{before}the-caller"),
            [min(alike) for alike in sorted(values.get("roles", ()), key=sorted)],
            now=now,
            email=None if email is ABSENT else email,
            email_verified=values.get("user.email_verified", True),
            session_id=None if session is ABSENT else session,
            auth_time=now if age is ABSENT else now - age,
            amr=sorted(values.get("amr", ())),
            scopes=values.get("scopes"),
            claims={
                **_table(values, "claim"),
                **{
                    table: _table(values, table)
                    for table in ("attributes", "tenants")
                    if any(name.startswith(f"{table}:") for name in values)
                },
            },
        )
        if age is ABSENT:
            principal.auth_time = None
        if presented.kind is CredentialKind.BEARER:
            principal.issuer = presented.issuer
            principal.granted_scopes = presented.granted
            principal.resource_only = GATEWAY not in presented.audience
            # A route that names hosts is a resource at each of them.
            principal.audience = tuple(
                origin + path
                for path in presented.audience
                if path != GATEWAY
                for origin in map(ORIGINS.origin_at, (None, values.get("host", self._host)))
            )
        return principal


def _table(values: Values, kind: str) -> dict[str, Any]:
    """What the inputs `KIND:NAME` give, by name."""
    return {
        name.removeprefix(f"{kind}:"): value
        for name, value in values.items()
        if name.startswith(f"{kind}:") and value is not ABSENT
    }


def _put(body: dict[str, Any], key: str, value: Any) -> None:
    block = body
    *path, last = key.split(".")
    for step in path:
        inner = block.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        block = inner
    block[last] = value
