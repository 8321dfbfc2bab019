"""One line of the access log: what a request was and how it was answered, without secrets.

JSON has the field names of the Elastic Common Schema, flat, with dots; the combined format is that
of Apache and nginx, with the id, the reason, the route and the worker behind it.

Law: of what a client sent, a line holds the method, the host, the path and the User-Agent, each cut
to a length and escaped.  Never a query, a credential, a cookie, or another field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.call_trace import TRACEPARENT, CallTrace
from gateway.model import RawHeaders

ECS_VERSION = "8.11.0"
PATH_CHARACTERS, HOST_CHARACTERS, AGENT_CHARACTERS = 1024, 255, 200
LINE_BYTES = 4_000
"""A longer line loses what is long in it: a pipe takes 4,096 bytes as a whole (pipe(7))."""

_CATEGORY, _TYPE = ["web"], ["access"]
_TOLD_OF_USER = frozenset(("id", "roles", "email"))
_AGENT_NAME_BYTES, _PARENT_NAME_BYTES = len(b"user-agent"), len(b"traceparent")
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_BARE = re.compile(r"[^ !#-\[\]-~]")
_COMBINED = re.compile(
    r'(?P<ip>\S+) - (?P<user>\S+) \[(?P<at>[^\]]+)\] "(?P<method>\S+) (?P<path>.*) HTTP/1\.1"'
    r' (?P<status>\d{3}) - "-" "(?P<agent>.*)" (?P<id>\S+) (?P<reason>\S+) (?P<route>\S+)'
    r" (?P<worker>\d+)$"
)
_TIME = "%d/%b/%Y:%H:%M:%S +0000"


@dataclass(slots=True)
class AnsweredRequest:
    """A request that no policy judged, as far as it could be read, and the status it was given."""

    request_id: str
    status: int
    client_ip: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    """Without its query; as it came where it could not be read."""
    headers: RawHeaders = ()
    took_s: float = 0.0
    """From the decision being asked for to the answer; 0.0 where there was none."""


def told_target(target: str) -> str:
    """What is told of a target that is no call's: no query, and in absolute form no userinfo,
    which is a credential (RFC 9110 section 4.2.4)."""
    path = target.partition("?")[0]
    return path if path[:1] == "/" else path.rpartition("@")[2]


def fields_of_request(
    request: AnsweredRequest, reason: str | None, *, route_id: str, at: float, worker: int
) -> dict[str, Any]:
    """The fields of what was answered without a decision; `reason` is None of a good answer."""
    fields = _fields(request, reason, at=at, worker=worker)
    fields["event.outcome"] = "success" if reason is None else "failure"
    fields["authgate.route"] = route_id
    return _known(fields)


def fields_of_decision(
    record: Mapping[str, Any], headers: RawHeaders, *, took_s: float, worker: int
) -> dict[str, Any]:
    """The fields of a decision; `record` is that of `access.decision_record`.

    What a policy read of query, header fields and body is left out, and so are addresses of mail:
    the decision log holds these, where it is wanted.
    """
    user = record.get("user") or {}
    request = AnsweredRequest(
        record["id"], record["status"], record["ip"], record["method"], record["host"],
        record["path"], headers, took_s,
    )  # fmt: skip
    fields = _fields(request, record["reason"], at=record["at"], worker=worker)
    good = record["decision"] == "allow" and record["status"] < 500
    fields["event.outcome"] = "success" if good else "failure"
    fields["url.scheme"] = record["scheme"]
    fields["user.id"] = user.get("id")
    fields["user.roles"] = user.get("roles")
    fields["rule.ruleset"] = record["policy"]
    fields["rule.id"] = record["rule"]
    fields["authgate.decision"] = record["decision"]
    fields["authgate.route"] = record["route"]
    fields["authgate.file"] = record.get("file")
    fields["authgate.line"] = record.get("line")
    fields["authgate.version"] = record["version"]
    fields["authgate.caller"] = {k: v for k, v in user.items() if k not in _TOLD_OF_USER}
    return _known(fields)


def as_json(fields: Mapping[str, Any]) -> str:
    line = _ENCODER.encode(fields)
    if len(line) <= LINE_BYTES:
        return line
    short = {k: v for k, v in fields.items() if k not in ("authgate.caller", "user.roles")}
    short["url.path"], short["authgate.cut"] = str(fields.get("url.path", ""))[:200], True
    return _ENCODER.encode(short)


def as_combined(fields: Mapping[str, Any]) -> str:
    """A field that is not known is `-`, as Apache has it; so is the count of bytes."""
    at = datetime.fromisoformat(fields["@timestamp"]).astimezone(UTC)
    path = _bare(fields.get("url.path", ""))
    parts = (
        fields.get("client.ip", "-"),
        "-",
        _word(fields.get("user.id")),
        f"[{at.strftime(_TIME)}]",
        f'"{_word(fields.get("http.request.method"))} {path or "-"} HTTP/1.1"',
        str(fields["http.response.status_code"]),
        '- "-"',
        f'"{_bare(fields.get("user_agent.original", "-"))}"',
        _word(fields["http.request.id"]),
        _word(fields.get("event.reason")),
        _word(fields.get("authgate.route")),
        str(fields["process.pid"]),
    )
    return " ".join(parts)


def fields_of_line(line: str) -> dict[str, Any] | None:
    """A line of either form read back; None for what is none.  Something may stand before it, as
    a supervisor puts its own words before each line of what it starts."""
    start = line.find('{"@timestamp"')
    if start >= 0:
        try:
            fields = json.loads(line[start:])
        except ValueError:
            return None
        return fields if isinstance(fields, dict) and "http.request.id" in fields else None
    match = _COMBINED.search(line.rstrip())
    if match is None:
        return None
    try:
        at = datetime.strptime(match["at"], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    fields = {
        "@timestamp": at.isoformat(timespec="milliseconds"),
        "http.request.id": match["id"],
        "http.request.method": match["method"],
        "http.response.status_code": int(match["status"]),
        "url.path": match["path"],
        "client.ip": match["ip"],
        "user.id": match["user"],
        "event.reason": match["reason"],
        "authgate.route": match["route"],
        "process.pid": int(match["worker"]),
    }
    return {name: value for name, value in fields.items() if value != "-"}


def record_of_fields(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `access.decision_record.read_record` reads; None where no decision is told of, or not
    enough of its call."""
    if "authgate.decision" not in fields or "authgate.cut" in fields:
        return None
    record = {
        "at": datetime.fromisoformat(fields["@timestamp"]).timestamp(),
        "id": fields["http.request.id"],
        "version": fields.get("authgate.version", ""),
        "method": fields.get("http.request.method", ""),
        "host": fields.get("url.domain", ""),
        "path": fields.get("url.path", ""),
        "ip": fields.get("client.ip", ""),
        "scheme": fields.get("url.scheme", "http"),
        "decision": fields["authgate.decision"],
        "reason": fields["event.reason"],
        "status": fields["http.response.status_code"],
        "route": fields.get("authgate.route"),
        "policy": fields.get("rule.ruleset"),
        "rule": fields.get("rule.id"),
        "file": fields.get("authgate.file"),
        "line": fields.get("authgate.line"),
    }
    if "user.id" in fields:
        caller = fields.get("authgate.caller", {})
        record["user"] = {"id": fields["user.id"], "roles": fields.get("user.roles", []), **caller}
    return record


def _fields(
    request: AnsweredRequest, reason: str | None, *, at: float, worker: int
) -> dict[str, Any]:
    """Those of every line; some may be empty."""
    agent, parents = b"", []
    for name, value in request.headers:
        if len(name) == _AGENT_NAME_BYTES and name.lower() == b"user-agent":
            agent = agent or value
        elif len(name) == _PARENT_NAME_BYTES and name.lower() == b"traceparent":
            parents.append(value)
    return {
        "@timestamp": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "ecs.version": ECS_VERSION,
        "event.dataset": "authgate.access",
        "event.category": _CATEGORY,
        "event.type": _TYPE,
        "event.reason": None if reason is None else str(reason),
        "event.duration": round(request.took_s * 1e9),
        "http.request.id": request.request_id,
        "http.request.method": request.method[:20],
        "http.response.status_code": request.status,
        "url.domain": request.host[:HOST_CHARACTERS],
        "url.path": request.path[:PATH_CHARACTERS],
        "client.ip": request.client_ip,
        "user_agent.original": agent[:AGENT_CHARACTERS].decode("latin-1"),
        "process.pid": worker,
        "trace.id": _trace_id(request.headers, parents),
        "authgate.cut": len(request.path) > PATH_CHARACTERS,
    }


def _trace_id(headers: RawHeaders, parents: list[bytes]) -> str:
    """That of the gateway's own trace, where it traces; else the client's, where it names one."""
    trace = getattr(headers, "trace", None)
    if isinstance(trace, CallTrace):
        return trace.trace_id
    if len(parents) == 1 and TRACEPARENT.fullmatch(parents[0]):
        return parents[0][3:35].decode("ascii")
    return ""


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _bare(text: str) -> str:
    """Printable ASCII without quotes and backslashes; the rest as Apache escapes it."""
    return _BARE.sub(
        lambda one: "".join(f"\\x{b:02x}" for b in one[0].encode("utf-8", "surrogateescape")), text
    )


def _word(text: Any) -> str:
    return _bare(str(text)).replace(" ", "\\x20") if text else "-"
