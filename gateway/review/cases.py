"""`policies/tests/*.yaml` read: who asks for what, and what is expected."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from gateway.access.field_names import folded_text
from gateway.access.issuers import Issuer
from gateway.access.sent_headers import written_headers
from gateway.access.simulation import FixedClock, SimulatedRequest, person
from gateway.access.snapshot import Snapshot
from gateway.access.suggestions import suggestion
from gateway.config.yaml_reader import Node, Reader, check_version
from gateway.model import (
    ConfigProblem,
    CredentialKind,
    Principal,
    Reason,
    SourceLocation,
    SystemClock,
)
from gateway.review.issued import caller_of

FILE_KEYS = ("version", "description", "now", "people", "cases")
CASE_KEYS = ("name", "as", "request", "expect", "now")
PERSON_KEYS = (
    "id", "user_id", "email", "verified", "email_verified", "roles", "session_id", "client_id",
    "auth_age", "amr", "scopes", "claims", "attributes", "tenants", "tenant", "with", "issuer",
)  # fmt: skip
REQUEST_KEYS = ("method", "url", "path", "host", "headers", "ip", "body")
EXPECT_KEYS = (
    "decision", "status", "reason", "route", "policy", "rule", "concealed", "shadow", "headers",
)  # fmt: skip
ANONYMOUS = "anonymous"

_REQUEST = re.compile(r"([A-Z]+)\s+(\S+)\Z")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a case demands; None demands nothing."""

    decision: str | None = None
    status: int | None = None
    reason: str | None = None
    route: str | None = None
    policy: str | None = None
    rule: str | None = None
    concealed: bool | None = None
    shadow: list[str] | None = None
    """Rules in shadow that would have changed the answer."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """What the backend receives by name; None: no such field."""

    def demands(self) -> dict[str, Any]:
        """All but the headers."""
        return {
            name: value
            for name in EXPECT_KEYS
            if name != "headers" and (value := getattr(self, name)) is not None
        }


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    location: SourceLocation
    request: SimulatedRequest
    expected: Expected


@dataclass(slots=True)
class _Person:
    subject: str = "someone"
    roles: list[str] = field(default_factory=list)
    email: str | None = None
    verified: bool = False
    session_id: str = "session"
    client_id: str | None = None
    auth_age_s: float = 0.0
    amr: list[str] = field(default_factory=lambda: ["pwd"])
    scopes: list[str] | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    kind: CredentialKind = CredentialKind.BEARER
    issuer: Issuer | None = None
    """Whose token `claims` are of."""

    def at(self, now: float, snapshot: Snapshot) -> Principal | Reason:
        if self.issuer is not None:
            return caller_of(self.issuer, self.claims, snapshot, now)
        return person(
            self.subject,
            self.roles,
            now=now,
            email=self.email,
            email_verified=self.verified,
            session_id=self.session_id,
            client_id=self.client_id,
            auth_time=now - self.auth_age_s,
            amr=self.amr,
            scopes=self.scopes,
            claims=self.claims,
        )


def read_cases(file: str, text: str, snapshot: Snapshot) -> list[Case] | list[ConfigProblem]:
    """The cases of one file, or every problem in it."""
    problems: list[ConfigProblem] = []
    cases = _CaseReader(Reader(file, problems), snapshot).read(text)
    return problems or cases


class _CaseReader:
    def __init__(self, reader: Reader, snapshot: Snapshot) -> None:
        self._reader = reader
        self._snapshot = snapshot
        self._people: dict[str, _Person] = {}
        self._now: float | None = None

    def read(self, text: str) -> list[Case]:
        reader = self._reader
        root = reader.document(text)
        if root is None:
            return []
        if isinstance(root, yaml.SequenceNode):
            # A list of cases and nothing else.
            cases = [self._case(node) for node in reader.items(root, "the tests")]
            return [case for case in cases if case is not None]
        fields = reader.block(root, "a file of tests", FILE_KEYS)
        check_version(reader, root, fields)
        self._now = self._time(fields.get("now"))
        for name, node in reader.entries(fields.get("people"), "`people`").items():
            self._people[name] = self._person(node)
        if "cases" not in fields:
            reader.error(root, "`cases:` is missing")
        cases = [self._case(node) for node in reader.items(fields.get("cases"), "`cases`")]
        return [case for case in cases if case is not None]

    def _case(self, node: Node) -> Case | None:
        reader = self._reader
        fields = reader.block(node, "a case", CASE_KEYS)
        for key in ("request", "expect"):
            if fields and key not in fields:
                reader.error(node, f"the case has no `{key}`")
        if "request" not in fields or "expect" not in fields:
            return None
        now = self._time(fields.get("now"))
        now = self._now if now is None else now
        request = self._request(fields["request"])
        if now is not None:
            request.clock = FixedClock(now)
        caller = self._caller(fields.get("as"))
        if caller is not None:
            request.caller = caller.at(
                now if now is not None else SystemClock().now(), self._snapshot
            )
            request.kind = caller.kind
        name = reader.text(fields.get("name"), "`name`")
        if name is None:
            caller_name = (
                getattr(fields.get("as"), "value", "someone") if "as" in fields else ANONYMOUS
            )
            if not isinstance(caller_name, str):
                who = request.caller
                caller_name = who.subject if isinstance(who, Principal) else "someone"
            name = f"{caller_name}: {request.method} {request.url}"
        return Case(name, reader.location(node), request, self._expected(fields["expect"]))

    def _caller(self, node: Node | None) -> _Person | None:
        if node is None or getattr(node, "value", None) in (ANONYMOUS, "", "null"):
            return None
        if isinstance(node, yaml.ScalarNode):
            name = self._reader.text(node, "`as`") or ""
            if name not in self._people:
                hint = suggestion(name, [*self._people, ANONYMOUS])
                self._reader.error(node, f"`people` has nobody named `{name}`{hint}")
            return self._people.get(name)
        return self._person(node)

    def _person(self, node: Node) -> _Person:
        reader = self._reader
        fields = reader.block(node, "a person", PERSON_KEYS)
        caller = _Person()
        for one, other in (("id", "user_id"), ("verified", "email_verified")):
            if one in fields and other in fields:
                reader.error(reader.name_of(fields[other]), f"`{one}` says this already")
            if other in fields:
                fields.setdefault(one, fields[other])
        caller.subject = reader.text(fields.get("id"), "`id`") or caller.subject
        caller.email = reader.text(fields.get("email"), "`email`")
        caller.verified = reader.flag(fields.get("verified"), "`verified`", False)
        caller.session_id = reader.text(fields.get("session_id"), "`session_id`") or "session"
        caller.client_id = reader.text(fields.get("client_id"), "`client_id`")
        caller.roles = self._texts(fields, "roles") or []
        caller.amr = self._texts(fields, "amr") or caller.amr
        caller.scopes = self._texts(fields, "scopes")
        caller.auth_age_s = reader.duration_s(fields.get("auth_age"), "`auth_age`", least=0) or 0.0
        kind = reader.choice(fields.get("with"), "`with`", tuple(CredentialKind))
        caller.kind = CredentialKind(kind or CredentialKind.BEARER)
        if "claims" in fields:
            reader.entries(fields["claims"], "`claims`")
            claims = reader.plain(fields["claims"])
            caller.claims = claims if isinstance(claims, dict) else {}
        for table in ("attributes", "tenants"):
            if table in fields:
                reader.entries(fields[table], f"`{table}`")
                values = reader.plain(fields[table])
                caller.claims = {**caller.claims, table: values if isinstance(values, dict) else {}}
        if (tenant := reader.text(fields.get("tenant"), "`tenant`")) is not None:
            caller.claims = {**caller.claims, "tenant": tenant}
        if "issuer" in fields:
            caller.issuer = self._issuer(fields)
        return caller

    def _issuer(self, fields: Mapping[str, Node]) -> Issuer | None:
        """Of whom all else is read from the claims."""
        for key in fields:
            if key not in ("issuer", "claims"):
                self._reader.error(
                    self._reader.name_of(fields[key]),
                    f"the token of an issuer says `{key}` by its claims: write `claims`",
                )
        issuers = self._snapshot.issuers
        name = self._named(fields, "issuer", list(issuers))
        return issuers.get(name or "")

    def _texts(self, fields: Mapping[str, Node], key: str) -> list[str] | None:
        texts = self._reader.texts(fields.get(key), f"`{key}`")
        return None if texts is None else [text for text, _ in texts]

    def _request(self, node: Node) -> SimulatedRequest:
        reader = self._reader
        if isinstance(node, yaml.ScalarNode):
            match = _REQUEST.match(reader.text(node, "`request`") or "")
            if match is None:
                reader.error(node, "a request is `METHOD /path`, such as `GET /v1/orders/7`")
                return SimulatedRequest("GET", "/")
            return SimulatedRequest(match.group(1), match.group(2))
        fields = reader.block(node, "`request`", REQUEST_KEYS)
        method = reader.text(fields.get("method"), "`method`") or "GET"
        key = "url" if "url" in fields else "path"
        url = reader.text(fields.get(key), f"`{key}`")
        if key not in fields:
            reader.error(node, "the request has no `url: /path`")
        headers: list[tuple[str, str]] = []
        for name, value in reader.entries(fields.get("headers"), "`headers`").items():
            listed = reader.texts(value, f"the header `{name}`") or []
            headers += [(name, text) for text, _ in listed]
        host = reader.text(fields.get("host"), "`host`")
        if host is not None:
            headers.append(("Host", host))
        request = SimulatedRequest(method, url or "/", headers=headers)
        request.client_ip = self._address(fields.get("ip")) or request.client_ip
        if "body" in fields:
            request.body = reader.plain(fields["body"])
        return request

    def _expected(self, node: Node) -> Expected:
        reader = self._reader
        if isinstance(node, yaml.ScalarNode):
            text = node.value
            if text in ("allow", "deny"):
                return Expected(decision=text)
            if text.isdigit() and len(text) == 3:
                return Expected(status=int(text))
            if re.match(r"[a-z][a-z0-9_]*\Z", text):
                return Expected(decision="deny", reason=self._reason(node, text))
            reader.error(node, "`expect` is `allow`, `deny`, a status, a reason or a block")
            return Expected()
        fields = reader.block(node, "`expect`", EXPECT_KEYS)
        if isinstance(node, yaml.MappingNode) and not node.value:
            reader.error(node, "`expect` is empty: such a case could never fail")
        reason = reader.text(fields.get("reason"), "`reason`")
        return Expected(
            decision=reader.choice(fields.get("decision"), "`decision`", ("allow", "deny")),
            status=reader.integer(fields.get("status"), "`status`", least=100),
            reason=self._reason(fields["reason"], reason) if reason is not None else None,
            route=self._named(fields, "route", [route.id for route in self._snapshot.routes]),
            policy=self._named(fields, "policy", list(self._snapshot.policies)),
            rule=self._named(
                fields,
                "rule",
                [rule.id for p in self._snapshot.policies.values() for rule in p.rules],
            ),
            concealed=reader.flag(fields.get("concealed"), "`concealed`", False)
            if "concealed" in fields
            else None,
            shadow=self._shadow(fields.get("shadow")),
            headers=self._sent(fields.get("headers")),
        )

    def _sent(self, node: Node | None) -> dict[str, str | None]:
        """A name that nothing writes is a typo: such a demand would always, or never, be met."""
        reader = self._reader
        sent: dict[str, str | None] = {}
        known = {folded_text(name): name for name in written_headers(self._snapshot)}
        for name, value in reader.entries(node, "`headers`").items():
            if folded_text(name) not in known:
                hint = suggestion(name, known.values())
                reader.error(
                    reader.name_of(value), f"nothing writes the header `{name}` here{hint}"
                )
            elif isinstance(value, yaml.ScalarNode) and value.value == "null" and not value.style:
                sent[name] = None
            else:
                sent[name] = reader.text(value, f"the header `{name}`")
        return sent

    def _shadow(self, node: Node | None) -> list[str] | None:
        rules = self._reader.texts(node, "`shadow`")
        if rules is None:
            return None
        known = [rule.id for p in self._snapshot.policies.values() for rule in p.rules]
        for text, item in rules:
            if text not in known:
                self._reader.error(item, f"unknown rule `{text}`{suggestion(text, known)}")
        return sorted(text for text, _ in rules)

    def _reason(self, node: Node, text: str) -> str:
        """A reason that nothing could ever give is a typo."""
        policies = self._snapshot.policies.values()
        known = {rule.reason for policy in policies for rule in policy.rules if rule.reason}
        if text not in known and text not in set(Reason):
            self._reader.error(
                node, f"no rule gives the reason `{text}`{suggestion(text, sorted(known))}"
            )
        return text

    def _named(self, fields: Mapping[str, Node], key: str, known: list[str]) -> str | None:
        text = self._reader.text(fields.get(key), f"`{key}`")
        if text is not None and text not in known:
            self._reader.error(fields[key], f"unknown {key} `{text}`{suggestion(text, known)}")
        return text

    def _address(self, node: Node | None) -> str | None:
        text = self._reader.text(node, "`ip`")
        if text is None or node is None:
            return None
        try:
            return str(ipaddress.ip_address(text))
        except ValueError as error:
            self._reader.error(node, f"`{text}` is no address: {error}")
            return None

    def _time(self, node: Node | None) -> float | None:
        text = self._reader.text(node, "`now`")
        if text is None or node is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self._reader.error(node, "`now` is a time such as `2026-01-05T09:00:00Z`")
            return None
        return moment.timestamp()
