"""`issuers:` read: whose tokens count besides our own, and how they are judged."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.issuers import (
    AUDIENCE,
    SUBJECT,
    ClaimPath,
    Issuer,
    TokenUse,
)
from gateway.access.suggestions import suggestion
from gateway.config.introspection import read_introspection
from gateway.config.secrets import SecretSource
from gateway.config.token_options import TokenOptionReader
from gateway.config.urls import read_url
from gateway.config.yaml_reader import Node, Reader
from gateway.model import OWN_ISSUER, OWN_ISSUERS

ISSUER_KEYS = (
    "issuer", "audience", "audience_claim", "token", "algorithms", "typ", "subject", "roles",
    "email", "email_verified", "require", "leeway", "max_life", "discovery", "jwks_uri", "ca",
    "max_stale", "introspection", "backchannel_logout", "events", "event_audience",
)  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_EMAIL_VERIFIED = ClaimPath("claims.email_verified", ("email_verified",))


class IssuerReader:
    """Reads the block of one configuration; `own_issuer` is the `iss` of our own tokens, empty
    where nobody knows it."""

    def __init__(
        self, reader: Reader, secrets: SecretSource, types: EngineTypes, own_issuer: str
    ) -> None:
        self._reader = reader
        self._secrets = secrets
        self._tokens = TokenOptionReader(reader, types)
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
        email = self._tokens.claim(fields, "email")
        email_verified = self._tokens.claim(fields, "email_verified", truth=True)
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
            audience=self._tokens.names(fields, "audience"),
            audience_claim=self._tokens.path(
                fields.get("audience_claim"), "audience_claim", AUDIENCE
            ),
            use=self._use(fields.get("token")),
            algorithms=self._tokens.algorithms(fields.get("algorithms")),
            typ=self._tokens.typ(fields.get("typ")),
            subject=self._tokens.path(fields.get("subject"), "subject", SUBJECT),
            roles=self._tokens.claim(fields, "roles"),
            email=email,
            email_verified=email_verified,
            require=self._tokens.require(fields.get("require")),
            leeway_s=self._tokens.leeway_s(fields.get("leeway")),
            max_life_s=self._tokens.seconds(fields, "max_life", None),
            discovery=read_url(reader, fields.get("discovery"), "`discovery`", query=True),
            jwks_uri=read_url(reader, fields.get("jwks_uri"), "`jwks_uri`", query=True),
            ca=self._tokens.ca(fields.get("ca")),
            max_stale_s=self._tokens.seconds(fields, "max_stale", 86_400) or 86_400,
            introspection=read_introspection(reader, fields.get("introspection"), self._secrets),
            backchannel_logout=logout,
            events=events,
            event_audience=self._tokens.names(fields, "event_audience"),
            location=reader.location(at),
            ca_location=reader.location(fields.get("ca", at)),
        ), fields.get("issuer", at)

    def _use(self, node: Node | None) -> TokenUse:
        text = self._reader.choice(node, "`token`", tuple(TokenUse))
        return TokenUse(text) if text is not None else TokenUse.ACCESS


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
