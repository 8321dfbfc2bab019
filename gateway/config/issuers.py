"""`issuers:` read: whose tokens count besides our own, and how they are judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from gateway.access.conditions.claims import claim_path, compile_claims
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.issuers import (
    ABSENT,
    AUDIENCE,
    SUBJECT,
    ClaimPath,
    ClaimReader,
    Issuer,
    RequiredClaim,
    TokenUse,
)
from gateway.access.suggestions import suggestion
from gateway.config.introspection import read_introspection
from gateway.config.secrets import SecretSource
from gateway.config.urls import read_url
from gateway.config.yaml_reader import Node, Reader
from gateway.model import OWN_ISSUER, OWN_ISSUERS

ISSUER_KEYS = (
    "issuer", "audience", "audience_claim", "token", "algorithms", "typ", "subject", "roles",
    "email", "email_verified", "require", "leeway", "max_life", "discovery", "jwks_uri", "ca",
    "max_stale", "introspection", "backchannel_logout", "events", "event_audience",
)  # fmt: skip
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
MAX_LEEWAY_S = 300

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_CLAIM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VISIBLE = re.compile(r"[!-~]{1,512}\Z")
_TYP = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}\Z")
_NEVER_ACCESS_TOKENS = {
    "logout+jwt": "a logout token ends sessions, and gives access to nothing",
    "secevent+jwt": "an event gives access to nothing",
    "authgate-assertion+jwt": "what we assert to backends is no access token",
}
_EMAIL_VERIFIED = ClaimPath("claims.email_verified", ("email_verified",))


class IssuerReader:
    """Reads the block of one configuration; `own_issuer` is the `iss` of our own tokens, empty
    where nobody knows it."""

    def __init__(
        self, reader: Reader, secrets: SecretSource, types: EngineTypes, own_issuer: str
    ) -> None:
        self._reader = reader
        self._secrets = secrets
        self._types = types
        self._own_issuer = own_issuer

    def read(self, node: Node | None) -> dict[str, Issuer]:
        reader = self._reader
        issuers: dict[str, Issuer] = {}
        by_issuer: dict[str, str] = {}
        for name, value in reader.entries(node, "`issuers`").items():
            if name == OWN_ISSUER:
                reader.error(
                    reader.name_of(value), "`own` is this gateway itself: choose another name"
                )
            elif not _NAME.match(name):
                reader.error(
                    reader.name_of(value),
                    "the name of an issuer is a lower-case letter, then up to 31 lower-case "
                    "letters, digits and `-`: it begins the ids of its users",
                )
            issuer, at = self._issuer(name, value)
            issuers[name] = issuer
            first = by_issuer.setdefault(issuer.issuer, name) if issuer.issuer else name
            if first != name:
                reader.error(
                    at,
                    f"`{issuer.issuer}` is the `issuer` of `{first}` already: a token names one, "
                    "and is judged by one",
                )
        return issuers

    def _issuer(self, name: str, node: Node) -> tuple[Issuer, Node]:
        """And where its `issuer` is written."""
        reader = self._reader
        fields = reader.block(node, f"issuer `{name}`", ISSUER_KEYS)
        at = reader.name_of(node)
        if "issuer" not in fields:
            reader.error(at, f"issuer `{name}` has no `issuer: https://…`, the `iss` of its tokens")
        if "audience" not in fields:
            reader.error(
                at,
                f"issuer `{name}` has no `audience:`: without it the token of any of its clients "
                "would do",
            )
        issuer = read_url(reader, fields.get("issuer"), "`issuer`")
        if issuer is not None and issuer == self._own_issuer:
            reader.error(
                fields["issuer"],
                f"`{issuer}` is this gateway itself (GATEWAY_ISSUER), whose tokens are `own`",
            )
        email = self._claim(fields, "email")
        email_verified = self._claim(fields, "email_verified", truth=True)
        if "email_verified" in fields and "email" not in fields:
            reader.error(reader.name_of(fields["email_verified"]), "`email_verified` needs `email`")
        if email_verified is None and isinstance(email, ClaimPath):
            email_verified = _EMAIL_VERIFIED
        logout = reader.flag(fields.get("backchannel_logout"), "`backchannel_logout`", False)
        events = reader.flag(fields.get("events"), "`events`", False)
        if "event_audience" in fields and not (logout or events):
            reader.error(
                reader.name_of(fields["event_audience"]),
                "`event_audience` needs `backchannel_logout: true` or `events: true`",
            )
        return Issuer(
            name=name,
            issuer=issuer or "",
            audience=self._audience(fields, "audience"),
            audience_claim=self._path(fields.get("audience_claim"), "audience_claim", AUDIENCE),
            use=self._use(fields.get("token")),
            algorithms=self._algorithms(fields.get("algorithms")),
            typ=self._typ(fields.get("typ")),
            subject=self._path(fields.get("subject"), "subject", SUBJECT),
            roles=self._claim(fields, "roles"),
            email=email,
            email_verified=email_verified,
            require=self._require(fields.get("require")),
            leeway_s=self._leeway_s(fields.get("leeway")),
            max_life_s=self._seconds(fields, "max_life", None),
            discovery=read_url(reader, fields.get("discovery"), "`discovery`", query=True),
            jwks_uri=read_url(reader, fields.get("jwks_uri"), "`jwks_uri`", query=True),
            ca=self._ca(fields.get("ca")),
            max_stale_s=self._seconds(fields, "max_stale", 86_400) or 86_400,
            introspection=read_introspection(reader, fields.get("introspection"), self._secrets),
            backchannel_logout=logout,
            events=events,
            event_audience=self._audience(fields, "event_audience"),
            location=reader.location(at),
            ca_location=reader.location(fields.get("ca", at)),
        ), fields.get("issuer", at)

    # What a token names

    def _audience(self, fields: Mapping[str, Node], key: str) -> tuple[str, ...]:
        reader, node = self._reader, fields.get(key)
        names = []
        for text, item in reader.texts(node, f"`{key}`") or []:
            if not _VISIBLE.match(text):
                reader.error(item, f"an entry of `{key}` is visible ASCII without spaces")
            names.append(text)
        self._filled(node, key)
        return tuple(dict.fromkeys(names))

    def _algorithms(self, node: Node | None) -> tuple[str, ...]:
        reader = self._reader
        names: list[str] = []
        for text, item in reader.texts(node, "`algorithms`") or []:
            if text in ALGORITHMS:
                names.append(text)
            elif text.upper().startswith("HS"):
                reader.error(
                    item,
                    f"`{text}` is symmetric: who can check such a token could make one; have the "
                    "provider sign with RS256, ES256 or EdDSA",
                )
            elif text.lower() == "none":
                reader.error(item, f"`{text}` is no signature: anybody could make such a token")
            else:
                reader.error(
                    item, f"`algorithms` cannot hold `{text}`{suggestion(text, ALGORITHMS)}"
                )
        self._filled(node, "algorithms")
        return tuple(dict.fromkeys(names)) if node is not None else ("RS256",)

    def _typ(self, node: Node | None) -> tuple[str, ...]:
        reader = self._reader
        types: list[str] = []
        for text, item in reader.texts(node, "`typ`") or []:
            known = text.lower().removeprefix("application/")
            if known in _NEVER_ACCESS_TOKENS:
                reader.error(item, f"`typ` cannot hold `{text}`: {_NEVER_ACCESS_TOKENS[known]}")
            elif not _TYP.match(known):
                reader.error(
                    item, f"`{text}` is no `typ` such as `at+jwt`, `JWT` or `{ABSENT}` (none)"
                )
            types.append(known)
        self._filled(node, "typ")
        return tuple(dict.fromkeys(types)) if node is not None else ("at+jwt", "jwt")

    # What is read of it

    def _use(self, node: Node | None) -> TokenUse:
        text = self._reader.choice(node, "`token`", tuple(TokenUse))
        return TokenUse(text) if text is not None else TokenUse.ACCESS

    def _path(self, node: Node | None, key: str, default: ClaimPath) -> ClaimReader:
        text = self._reader.text(node, f"`{key}`")
        if text is None or node is None:
            return default
        path = claim_path(text)
        if path is None and _CLAIM_NAME.match(text) and text != "claims":
            path = ClaimPath(f"claims.{text}", (text,))
        if path is None:
            self._reader.error(
                node,
                f"`{key}` is one claim, such as `{default.keys[0]}`, `claims.oid` or "
                '`claims["https://example.com/id"]`: what ends a session names it too',
            )
            return default
        return path

    def _claim(
        self, fields: Mapping[str, Node], key: str, *, truth: bool = False
    ) -> ClaimReader | None:
        node = fields.get(key)
        text = self._reader.text(node, f"`{key}`")
        if text is None or node is None:
            return None
        compiled = compile_claims(text, self._types, truth=truth)
        if isinstance(compiled, list):
            for at, problem in compiled:
                self._reader.error(node, problem, at=at)
            return None
        return compiled

    def _require(self, node: Node | None) -> tuple[RequiredClaim, ...]:
        reader = self._reader
        required = []
        for name, value in reader.entries(node, "`require`").items():
            path = claim_path(name) or ClaimPath(name, (name,))
            if name.startswith(("claims.", "claims[")) and path.keys == (name,):
                reader.error(
                    reader.name_of(value),
                    f"`{name}` is no path such as `claims.realm_access.roles`; the name of a claim "
                    "stands alone",
                )
            values = self._values(name, value)
            if values:
                required.append(RequiredClaim(path, values))
        return tuple(required)

    def _values(self, name: str, node: Node) -> tuple[str | int | float | bool, ...]:
        reader = self._reader
        if isinstance(node, yaml.MappingNode):
            reader.error(
                node,
                f"`{name}` is compared with values: name what is inside it by its path, such as "
                f"`claims.{name}.roles`",
            )
            return ()
        items = [node] if isinstance(node, yaml.ScalarNode) else reader.items(node, f"`{name}`")
        values: list[Any] = []
        for item in items:
            value = reader.plain(item)
            if isinstance(value, str | int | float):
                values.append(value)
            else:
                reader.error(item, f"a value of `{name}` is a text, a number, true or false")
        self._filled(node, name)
        return tuple(values)

    # Numbers and files

    def _leeway_s(self, node: Node | None) -> int:
        seconds = self._reader.duration_s(node, "`leeway`", least=0)
        if seconds is None or node is None:
            return 10
        if seconds > MAX_LEEWAY_S or seconds != int(seconds):
            self._reader.error(
                node, f"`leeway` is whole seconds, `{MAX_LEEWAY_S // 60}m` at most: set the clocks"
            )
            return 10
        return int(seconds)

    def _seconds(self, fields: Mapping[str, Node], key: str, default: int | None) -> int | None:
        seconds = self._reader.duration_s(fields.get(key), f"`{key}`", least=1)
        return default if seconds is None else int(seconds)

    def _ca(self, node: Node | None) -> str | None:
        path = self._reader.text(node, "`ca`")
        if path is not None and node is not None and not path.startswith("/"):
            self._reader.error(node, "`ca` is the whole path of a PEM file: begin it with `/`")
            return None
        return path

    def _filled(self, node: Node | None, key: str) -> None:
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._reader.error(node, f"`{key}` is empty: nothing could meet it")


def read_taken_issuers(reader: Reader, node: Node, issuers: Mapping[str, Issuer]) -> frozenset[str]:
    """`issuers: [own, NAME]` of a route or of `defaults`."""
    known = (OWN_ISSUER, *issuers)
    names: set[str] = set()
    for text, item in reader.texts(node, "`issuers`") or []:
        if text not in known:
            reader.error(item, f"unknown issuer `{text}`{suggestion(text, known)}")
        names.add(text)
    if isinstance(node, yaml.SequenceNode) and not node.value:
        reader.error(node, "`issuers` is empty: nobody could call; use `auth: public`?")
    return frozenset(names) or OWN_ISSUERS
