"""`request` and `response` of a route: the header fields that it writes and takes away.

Law: what the gateway answers for (who calls, how a message is framed, from where it came) is no
text of the configuration.  Such names are refused here in every spelling, so nothing that is
written later has to look at them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from gateway.access.definitions import HeaderChanges, SecurityHeaders
from gateway.access.field_names import CLIENTS_OWN, KEEPABLE, NEVER_KEPT, TOKEN, folded_text
from gateway.access.identity_headers import PRESETS, IdentityHeaders
from gateway.access.policies import Policy
from gateway.access.secret_text import SecretText
from gateway.access.suggestions import suggestion
from gateway.config.secrets import SECRET_NAME, SecretSource
from gateway.config.yaml_reader import Node, Reader

CHANGE_KEYS = ("set_headers", "remove_headers")
SECRET_KEYS = ("secret", "prefix")

_NAME = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_OWN = "the gateway itself writes it"
_FRAMING = "it frames or describes one message, which only its sender knows"
_HOP = "it speaks of one connection, and never passes"
_ONE_CALLERS = "a cookie is one caller's; it can be removed, not set"
_EITHER_WAY = {
    **dict.fromkeys(("content-length", "transfer-encoding", "content-encoding"), _FRAMING),
    **dict.fromkeys(
        ("connection", "keep-alive", "te", "trailer", "upgrade", "http2-settings", "expect"), _HOP
    ),
    **dict.fromkeys(("via", "x-request-id", "x-auth-", "x-forwarded-"), _OWN),
    **NEVER_KEPT,
    "proxy-": _HOP,
    "sec-websocket-": "it belongs to one handshake",
}
"""Why a name cannot stand here; what ends with `-` is the beginning of many."""
_REQUEST = _EITHER_WAY | {
    "content-type": _FRAMING,
    "host": "write `host:` in the upstream",
    "authorization": "the client's stays here unless the route has `forward_authorization: true`, "
    "and one of yours is a secret: `{secret: NAME}`",
    **dict.fromkeys(("traceparent", "forwarded", "x-real-ip"), _OWN),
}
_RESPONSE = _EITHER_WAY | {
    **dict.fromkeys(("content-range", "date"), _FRAMING),
    **dict.fromkeys(("ratelimit", "ratelimit-policy"), _OWN),
    "access-control-": "write a `cors` block",
}


_IDENTITY = {
    **{name: why for name, why in _REQUEST.items() if name != "x-auth-"},
    "cookie": _ONE_CALLERS,
    "x-auth-assertion": _OWN,
    "authorization": "it is a credential, and this is a name",
    **dict.fromkeys(KEEPABLE, "a backend takes it for another address, path or method"),
    **dict.fromkeys(CLIENTS_OWN, "every client sends its own"),
}
_IDENTITY_FORWARDED = frozenset(name.decode() for name in PRESETS["oauth2-proxy"].names)
"""Of `X-Forwarded-*`, what says who calls; the others say how the call came."""


def read_request_changes(
    reader: Reader, fields: Mapping[str, Node], secrets: SecretSource
) -> HeaderChanges | None:
    """What a client's fields become on their way to the upstream."""
    rules = _FieldRules(_REQUEST | {"cookie": _ONE_CALLERS}, {}, secrets)
    return _changes(reader, fields.get("request"), "request", rules, _REQUEST)


def read_response_changes(reader: Reader, fields: Mapping[str, Node]) -> HeaderChanges | None:
    """What an upstream's fields become on their way to the client."""
    rules = _FieldRules(_RESPONSE | {"set-cookie": _ONE_CALLERS}, {})
    return _changes(reader, fields.get("response"), "response", rules, _RESPONSE)


def read_kept_headers(
    reader: Reader, node: Node | None, request: HeaderChanges | None, settable: frozenset[bytes]
) -> frozenset[bytes]:
    """What a route keeps of the fields that are taken from every client, in lower case;
    `request` is what the route changes besides, and `settable` what others write."""
    names: set[str] = set()
    changed = request.names if request is not None else frozenset()
    known = {name.decode("ascii") for name in settable} | KEEPABLE.keys()
    for name, item in reader.texts(node, "`keep_headers`") or []:
        lower = name.lower()
        if lower in NEVER_KEPT:
            reader.error(item, f"`{name}` is never passed: {NEVER_KEPT[lower]}")
        elif lower not in known:
            hint = suggestion(name, KEEPABLE.values())
            reader.error(item, f"`{name}` is no field that is taken away{hint}")
        elif lower.encode() in changed:
            reader.error(item, f"`{name}` is kept and written or removed: leave it out of one")
        else:
            names.add(lower)
    return frozenset(name.encode() for name in names)


def read_answer_fields(reader: Reader, node: Node | None) -> tuple[tuple[str, str], ...]:
    """The fields of an answer that the route itself gives."""
    known = _RESPONSE | {
        "content-type": "write `content_type:` beside `headers`",
        "set-cookie": "a cookie is one caller's",
    }
    written = _written(reader, node, "`headers`", _FieldRules(known, {}))
    return tuple((name, str(text)) for name, text in written)


def check_written_name(reader: Reader, node: Node, name: str, seen: dict[str, str]) -> bool:
    """Whether a field of this name may be written for the upstream; a problem where not."""
    if not _NAME.match(name):
        reader.error(node, f"`{name}` is no name to set: letters, digits and `-`")
        return False
    return _takes(reader, node, name, {**_REQUEST, "cookie": _ONE_CALLERS}, seen)


def check_identity_name(reader: Reader, node: Node, name: str, seen: dict[str, str]) -> bool:
    """Whether a field that tells who calls may have this name; a problem where not."""
    if not _NAME.match(name):
        reader.error(node, f"`{name}` is no name to set: letters, digits and `-`")
        return False
    return _takes(reader, node, name, _IDENTITY, seen)


@dataclass(frozen=True, slots=True)
class FieldSources:
    """What writes fields for the upstream of one route."""

    request: HeaderChanges | None
    identity: IdentityHeaders | None
    """None where nobody is known."""
    policy: Policy | None
    forwards_authorization: bool = False


def check_written_once(reader: Reader, node: Node, sources: FieldSources) -> None:
    """A field that two of the sources write is a problem: nobody could tell which is sent."""
    written: dict[bytes, str] = {}
    policy = sources.policy
    if sources.request is not None:
        written = {folded_text(name): "`set_headers`" for name, _ in sources.request.fields}
    if not written and (policy is None or not any(rule.headers for rule in policy.rules)):
        return
    if b"authorization" in written and sources.forwards_authorization:
        reader.error(
            node,
            "`Authorization` is written by `set_headers`, and `forward_authorization: true` sends "
            "the client's: leave one out",
        )
    for one in sources.identity.fields if sources.identity is not None else ():
        if folded_text(one.name) in written:
            reader.error(
                node,
                f"`{one.name}` is written by `set_headers` and by `identity_headers`: "
                "leave it out of one",
            )
        written.setdefault(folded_text(one.name), "`identity_headers`")
    if policy is None:
        return
    for rule in policy.rules:
        for name, _ in rule.headers:
            other = written.get(folded_text(name))
            if other is not None:
                reader.error(
                    node,
                    f"`{name}` is written by rule `{rule.id}` of policy `{policy.name}` "
                    f"({rule.location}) and by {other}: leave it out of one",
                )


def without_written(security: SecurityHeaders, response: HeaderChanges | None) -> SecurityHeaders:
    """The security headers less those that the route writes itself."""
    if response is None:
        return security
    written = {name.lower() for name, _ in response.fields}
    return SecurityHeaders(
        tuple(field for field in security.fields if field[0].lower() not in written),
        None if "strict-transport-security" in written else security.hsts,
    )


def _changes(
    reader: Reader, node: Node | None, key: str, rules: _FieldRules, unremovable: Mapping[str, str]
) -> HeaderChanges | None:
    if node is None:
        return None
    block = reader.block(node, f"`{key}`", CHANGE_KEYS)
    if not block and isinstance(node, yaml.MappingNode) and not node.value:
        reader.error(node, f"`{key}` has `set_headers:`, `remove_headers:` or both")
    written = _written(reader, block.get("set_headers"), "`set_headers`", rules)
    removed: list[str] = []
    for name, item in reader.texts(block.get("remove_headers"), "`remove_headers`") or []:
        if not TOKEN.match(name):
            reader.error(item, f"`{name}` is no name of a header")
        elif _takes(reader, item, name, unremovable, rules.seen):
            removed.append(name)
    return HeaderChanges(tuple(written), tuple(removed))


@dataclass(frozen=True, slots=True)
class _FieldRules:
    refused: Mapping[str, str]
    seen: dict[str, str]
    secrets: SecretSource | None = None
    """None where no secret may be sent."""


def _written(
    reader: Reader, node: Node | None, what: str, rules: _FieldRules
) -> list[tuple[str, str | SecretText]]:
    header_fields: list[tuple[str, str | SecretText]] = []
    for name, value in reader.entries(node, what).items():
        key = reader.name_of(value)
        text: str | SecretText | None
        refused = rules.refused
        if isinstance(value, yaml.MappingNode) and rules.secrets is not None:
            text = _secret(reader, value, f"the header `{name}`", rules.secrets)
            refused = {known: why for known, why in refused.items() if known != "authorization"}
        else:
            text = reader.text(value, f"the header `{name}`")
        if not _NAME.match(name):
            reader.error(key, f"`{name}` is no name to set: letters, digits and `-`")
        elif not _takes(reader, key, name, refused, rules.seen) or text is None:
            continue
        elif isinstance(text, str) and not _is_one_line(text):
            reader.error(value, f"the header `{name}` is one line of ASCII text")
        else:
            header_fields.append((name, text))
    return header_fields


def _secret(reader: Reader, node: Node, what: str, secrets: SecretSource) -> SecretText | None:
    """`{secret: NAME, prefix: "Bearer "}`."""
    fields = reader.block(node, what, SECRET_KEYS)
    name = reader.text(fields.get("secret"), "`secret`")
    prefix = reader.text(fields.get("prefix"), "`prefix`") or ""
    if prefix and not _is_one_line(prefix + "."):
        reader.error(fields["prefix"], "`prefix` is one line of ASCII text")
    if "secret" not in fields:
        reader.error(node, f"{what} has no `secret: NAME`")
    if name is None:
        return None
    if not SECRET_NAME.match(name):
        reader.error(
            fields["secret"],
            "the name of a secret is a letter, then letters, digits and any of ._-",
        )
        return None
    found = secrets.read(name)
    if isinstance(found, SecretText):
        return found.with_prefix(prefix)
    reader.error(fields["secret"], found)
    return None


def _is_one_line(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def _takes(
    reader: Reader, node: Node, name: str, refused: Mapping[str, str], seen: dict[str, str]
) -> bool:
    """Whether the name may stand here, in any spelling, and stands here once."""
    known = folded_text(name).decode("ascii")
    why = refused.get(known)
    if why is None and not (refused is _IDENTITY and known in _IDENTITY_FORWARDED):
        starts = ((start, why) for start, why in refused.items() if start[-1] == "-")
        why = next((why for start, why in starts if known.startswith(start)), None)
    if why is not None:
        reader.error(node, f"`{name}` cannot be changed: {why}")
        return False
    if known in seen:
        same = "twice" if seen[known] == name else f"as `{seen[known]}` too"
        reader.error(node, f"`{name}` stands here {same}: once is enough, in one spelling")
        return False
    seen[known] = name
    return True
