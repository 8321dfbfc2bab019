"""`POST /auth/token`, `/auth/introspect` and `/auth/revoke`: OAuth 2.0 for machine clients.

RFC 6749 sections 4.4 and 5, RFC 7662, RFC 7009.  Requests are forms and errors are the JSON of
RFC 6749 section 5.2, not problem+json, so that a stock client reads them.  What is no fault
of the client (a store that is away) is answered as everywhere else.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.account import Identifier
from gateway.edge.endpoints.audit_events import Recorder, event_of
from gateway.edge.endpoints.endpoint import Answer, Endpoint, Refused, Said, Unbroken
from gateway.edge.endpoints.json_body import read_whole
from gateway.identity.clients.api_keys import ApiKeys, looks_like_key
from gateway.identity.clients.client_auth import (
    ASSERTION_TYPE,
    Assertion,
    BasicSecret,
    ClientAuthenticator,
    Unbelieved,
    claimed_client,
)
from gateway.identity.clients.clients import Client, locked, next_issued_at
from gateway.identity.clients.failures import ClientFailures
from gateway.identity.sessions.sessions import refuse
from gateway.identity.sign_in.refresh_tokens import RefreshTokens
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenSubject, TokenVerifier
from gateway.model import Call, Change, ChangeKind, Credential, CredentialKind, Principal, Reason
from gateway.stores.protocols import Database, RevocationPublisher

# RFC 6749 section 5.1 asks for both; `Cache-Control` stands on every answer of ours.
_HEADERS = {"Pragma": "no-cache"}
_CHALLENGE = {**_HEADERS, "WWW-Authenticate": 'Basic realm="authgate", charset="UTF-8"'}
_FORM_TYPE = re.compile(
    r'application/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?', re.I
)
_FIELDS_MAX = 50
_ACCEPT = frozenset({CredentialKind.BEARER, CredentialKind.API_KEY})
_NOT_THE_TOKENS_FAULT = frozenset(
    {Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY}
)


@dataclass(frozen=True, slots=True)
class OAuthParts:
    database: Database
    authenticator: ClientAuthenticator
    failures: ClientFailures
    api_keys: ApiKeys
    refresh_tokens: RefreshTokens
    issuer: TokenIssuer
    verifier: TokenVerifier
    identifier: Identifier
    publisher: RevocationPublisher
    unbroken: Unbroken
    audit: Recorder
    issuer_name: str
    audience: str


class OAuthApi:
    def __init__(self, parts: OAuthParts) -> None:
        self._parts = parts

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("token",): {"POST": self.token},
            ("introspect",): {"POST": self.introspect},
            ("revoke",): {"POST": self.revoke},
        }

    async def token(self, request: web.BaseRequest, call: Call) -> Answer:
        """RFC 6749 section 4.4: an access token, and no refresh token."""
        form = await _form(request)
        if not isinstance(form, dict):
            return form
        client = await self._client(call, form)
        if not isinstance(client, Client):
            return client
        grant = form.get("grant_type")
        if grant is None:
            return _error("invalid_request", "grant_type is missing")
        if grant != "client_credentials":
            return _error("unsupported_grant_type", "client_credentials is the only grant here")
        if "scope" in form:
            return _error("invalid_scope", "a client has roles here, and no scopes")
        return await self._granted(client.id, call)

    async def introspect(self, request: web.BaseRequest, call: Call) -> Answer:
        """RFC 7662.  Nothing tells apart why a token is not active (section 2.2)."""
        found = await self._authenticated(request, call)
        if not isinstance(found, tuple):
            return found
        _, token = found
        described = await self._described(token, call)
        if isinstance(described, Reason):
            return Refused(described)
        return Said(200, described, _HEADERS)

    async def revoke(self, request: web.BaseRequest, call: Call) -> Answer:
        """RFC 7009.  200 when every live worker refuses the token, or when there is none;
        a client that is answered 503 must take it to be good still (section 2.2.1)."""
        found = await self._authenticated(request, call)
        if not isinstance(found, tuple):
            return found
        client, token = found
        return await self._parts.unbroken(self._revoked(client, token, call))

    async def _authenticated(
        self, request: web.BaseRequest, call: Call
    ) -> tuple[Client, str] | Answer:
        form = await _form(request)
        if not isinstance(form, dict):
            return form
        client = await self._client(call, form)
        if not isinstance(client, Client):
            return client
        if "token" not in form:
            return _error("invalid_request", "token is missing")
        return client, form["token"]

    async def _client(self, call: Call, form: Mapping[str, str]) -> Client | Answer:
        presented = _presented(call, form)
        if isinstance(presented, Said):
            return presented
        claimed = claimed_client(presented)
        wait_s = self._parts.failures.wait_s(call.client_ip, claimed)
        if wait_s > 0:
            return Refused(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        client = await self._parts.authenticator.authenticate(presented)
        if isinstance(client, Unbelieved):
            await self._parts.failures.failed(call.client_ip, claimed)
            # Counted and not written: a stranger must not fill the log.
            endpoint = "/" + "/".join(call.segments)
            self._parts.audit.denied("invalid_client", endpoint, client.client_id)
            return _invalid_client()
        return client

    async def _granted(self, client_id: str, call: Call) -> Answer:
        async with self._parts.database.transaction() as tx:
            client = await locked(tx, client_id)
            if client is None:  # deleted since it proved who it is
                return _invalid_client()
            issued_at = await next_issued_at(tx, client)
        issued = self._parts.issuer.issue(
            TokenSubject(
                subject=client.id,
                email=None,
                email_verified=False,
                roles=client.roles,
                session_id=None,
                client_id=client.id,
                amr=(),
                auth_time=None,
            ),
            issued_at,
        )
        self._tell(AuditKind.CLIENT_TOKEN, call, client.id, "ok")
        body = {
            "access_token": issued.text,
            "token_type": "Bearer",
            "expires_in": issued.expires_at - issued_at,
        }
        return Said(200, body, _HEADERS)

    async def _described(self, token: str, call: Call) -> Mapping[str, Any] | Reason:
        kind = CredentialKind.API_KEY if looks_like_key(token) else CredentialKind.BEARER
        presented = replace(call, credential=Credential(kind, token))
        principal = await self._parts.identifier.identify(presented, _ACCEPT)
        if isinstance(principal, Principal):
            return self._active(principal, kind)
        if principal in _NOT_THE_TOKENS_FAULT:
            return principal
        refresh = await self._parts.refresh_tokens.live(token)
        if refresh is None:
            return {"active": False}
        return {
            "active": True,
            "token_type": "refresh_token",
            "sub": refresh.account_id,
            "sid": refresh.id,
            "iat": refresh.created_at,
            "exp": refresh.expires_at,
            "iss": self._parts.issuer_name,
        }

    def _active(self, principal: Principal, kind: CredentialKind) -> dict[str, Any]:
        found: dict[str, Any] = {
            "active": True,
            "token_type": "api_key" if kind is CredentialKind.API_KEY else "Bearer",
            "sub": principal.subject,
            "client_id": principal.client_id,
            "roles": list(principal.roles),
            "iss": self._parts.issuer_name,
            "aud": self._parts.audience,
            "jti": principal.token_id,
            "exp": principal.expires_at,
            "sid": principal.session_id,
            "username": principal.email,
        }
        if kind is CredentialKind.BEARER:
            found["iat"] = principal.issued_at
        if principal.scopes is not None:
            found["scope"] = " ".join(principal.scopes)
        return {name: value for name, value in found.items() if value is not None}

    async def _revoked(self, client: Client, token: str, call: Call) -> Answer:
        changes = await self._refused_from_now_on(client, token)
        if isinstance(changes, Said):
            return changes
        if changes and not all(change.confirmed for change in changes):
            self._tell(AuditKind.REVOKED, call, client.id, "ok", changes[0].target)
            if not await self._parts.publisher.publish(changes):
                return Refused(Reason.REVOCATION_PENDING)
        return Said(200, None, _HEADERS)

    async def _refused_from_now_on(self, client: Client, token: str) -> list[Change] | Said:
        if looks_like_key(token):
            ended = await self._parts.api_keys.end_text(token, client.id)
            return [] if ended is None else list(ended)
        principal = self._parts.verifier.verify(token, allow_expired=True)
        if isinstance(principal, Reason):
            # Not a token of ours, or a refresh token, which no client was ever given.
            if await self._parts.refresh_tokens.live(token) is not None:
                return _error("invalid_grant", "the token was issued to somebody else")
            return []
        if principal.client_id != client.id:
            return _error("invalid_grant", "the token was issued to somebody else")
        changes = await refuse(self._parts.database, ChangeKind.TOKEN, principal.token_id)
        return list(changes)

    def _tell(
        self, kind: AuditKind, call: Call, subject: str | None, result: str, token: str = ""
    ) -> None:
        told = event_of(kind, call, subject=subject, result=result, token=token or None)
        self._parts.audit.record(told)


async def _form(request: web.BaseRequest) -> dict[str, str] | Answer:
    """The parameters; those without a value count as left out, none may come twice, and what
    is not known is ignored (RFC 6749 section 3.2)."""
    raw = await read_whole(request)
    if isinstance(raw, Refused):
        return raw
    types = request.headers.getall("Content-Type", [])
    if len(types) != 1 or not _FORM_TYPE.fullmatch(types[0].strip()):
        return _error("invalid_request", "the body must be application/x-www-form-urlencoded")
    if request.headers.getall("Content-Encoding", []):
        return _error("invalid_request", "the body must not be encoded")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        return _error("invalid_request", "the body is not a well-formed form")
    form = dict(pairs)
    if len(form) != len(pairs):
        return _error("invalid_request", "a parameter is repeated")
    return {name: value for name, value in form.items() if value}


def _presented(call: Call, form: Mapping[str, str]) -> BasicSecret | Assertion | Said:
    """How the client says who it is; exactly one way (RFC 6749 section 2.3)."""
    fields = [value for name, value in call.headers if name.lower() == b"authorization"]
    asserted = "client_assertion" in form or "client_assertion_type" in form
    if len(fields) + asserted > 1:
        return _error("invalid_request", "a client authenticates in one way")
    if "client_secret" in form:
        return _error("invalid_request", "the secret belongs in the Authorization header")
    if asserted:
        if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
            return _invalid_client()
        return Assertion(form["client_assertion"], form.get("client_id"))
    basic = _basic(fields[0]) if fields else None
    if basic is None:
        return _invalid_client()
    if form.get("client_id", basic.client_id) != basic.client_id:
        return _error("invalid_request", "client_id differs from the Authorization header")
    return basic


def _basic(field: bytes) -> BasicSecret | None:
    """RFC 7617; id and secret are form-encoded inside it (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = field.partition(b" ")
    if scheme.lower() != b"basic" or len(encoded) > 1024:
        return None
    try:
        text = base64.b64decode(encoded.strip(b" "), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    client_id, colon, secret = text.partition(":")
    if not colon or not client_id or not secret:
        return None
    return BasicSecret(unquote_plus(client_id), unquote_plus(secret))


def _error(error: str, description: str, status: int = 400) -> Said:
    """RFC 6749 section 5.2; the description is a constant."""
    return Said(status, {"error": error, "error_description": description}, _HEADERS)


def _invalid_client() -> Said:
    body = {"error": "invalid_client", "error_description": "the client is not believed"}
    return Said(401, body, _CHALLENGE)
