"""`POST /auth/token`, `/auth/introspect` and `/auth/revoke`: OAuth 2.0 for machine clients.

RFC 6749 sections 4.4 and 5, RFC 7662, RFC 7009.  Requests are forms and errors are the JSON of
RFC 6749 section 5.2, not problem+json, so that a stock client reads them.  What is no fault
of the client (a store that is away) is answered as everywhere else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import Endpoint, JsonReply, ProblemReply, Reply, ShieldedTasks
from gateway.edge.endpoints.form_body import MalformedForm, read_form
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_auth import (
    ASSERTION_TYPE,
    Assertion,
    BasicSecret,
    ClientAuthenticator,
    UnknownClient,
)
from gateway.identity.clients.clients import Client, locked, next_issued_at
from gateway.identity.clients.failures import ClientFailures
from gateway.identity.clients.key_form import looks_like_key
from gateway.identity.made_up import AddressTurns
from gateway.identity.revocations import refuse
from gateway.identity.sign_in.refresh_tokens import RefreshTokens
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenSubject, TokenVerifier
from gateway.model import Call, Change, ChangeKind, Credential, CredentialKind, Principal, Reason
from gateway.stores.protocols import Database, RevocationPublisher

# RFC 6749 section 5.1 asks for both; `Cache-Control` stands on every answer of ours.
_HEADERS = {"Pragma": "no-cache"}
_CHALLENGE = {**_HEADERS, "WWW-Authenticate": 'Basic realm="authgate", charset="UTF-8"'}
_ACCEPT = frozenset({CredentialKind.BEARER, CredentialKind.API_KEY})
_NOT_THE_TOKENS_FAULT = frozenset(
    {Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY}
)


@dataclass(frozen=True, slots=True)
class OAuthDependencies:
    database: Database
    client_authenticator: ClientAuthenticator
    failures: ClientFailures
    limits: EndpointLimits
    api_keys: ApiKeys
    refresh_tokens: RefreshTokens
    issuer: TokenIssuer
    verifier: TokenVerifier
    authenticator: Authenticator
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink
    issuer_name: str
    audience: str


class OAuthEndpoints:
    def __init__(self, dependencies: OAuthDependencies) -> None:
        self._deps = dependencies
        self._turns = AddressTurns()

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("token",): {"POST": self.token},
            ("introspect",): {"POST": self.introspect},
            ("revoke",): {"POST": self.revoke},
        }

    async def token(self, request: web.BaseRequest, call: Call) -> Reply:
        """RFC 6749 section 4.4: an access token, and no refresh token."""
        form = await _form(request)
        if not isinstance(form, dict):
            return form
        proof = _client_proof(call, form)
        if isinstance(proof, JsonReply):
            return proof
        client = await self._client(call, proof)
        if not isinstance(client, Client):
            return client
        grant = form.get("grant_type")
        if grant is None:
            return _error("invalid_request", "grant_type is missing")
        if grant != "client_credentials":
            return _error("unsupported_grant_type", "client_credentials is the only grant here")
        if "scope" in form:
            return _error("invalid_scope", "a client has roles here, and no scopes")
        wait_s = await self._deps.limits.client_wait_s(client.id)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._issue(client.id, proof, call)

    async def introspect(self, request: web.BaseRequest, call: Call) -> Reply:
        """RFC 7662.  Nothing tells apart why a token is not active (section 2.2)."""
        client_and_token = await self._client_and_token(request, call)
        if not isinstance(client_and_token, tuple):
            return client_and_token
        _, token = client_and_token
        description = await self._describe(token, call)
        if isinstance(description, Reason):
            return ProblemReply(description)
        return JsonReply(200, description, _HEADERS)

    async def revoke(self, request: web.BaseRequest, call: Call) -> Reply:
        """RFC 7009.  200 when every live worker refuses the token, or when there is none;
        a client that is answered 503 must take it to be good still (section 2.2.1)."""
        client_and_token = await self._client_and_token(request, call)
        if not isinstance(client_and_token, tuple):
            return client_and_token
        client, token = client_and_token
        return await self._deps.shielded(self._revoke(client, token, call))

    async def _client_and_token(
        self, request: web.BaseRequest, call: Call
    ) -> tuple[Client, str] | Reply:
        form = await _form(request)
        if not isinstance(form, dict):
            return form
        proof = _client_proof(call, form)
        if isinstance(proof, JsonReply):
            return proof
        client = await self._client(call, proof)
        if not isinstance(client, Client):
            return client
        if "token" not in form:
            return _error("invalid_request", "token is missing")
        return client, form["token"]

    async def _client(self, call: Call, proof: BasicSecret | Assertion) -> Client | Reply:
        """An assertion waits for no failures: none keeps its client out, by whomever."""
        failures = self._deps.failures
        wait_s = failures.wait_s(call.client_ip, proof) if isinstance(proof, BasicSecret) else 0.0
        if wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        client = await self._deps.client_authenticator.authenticate(proof, self._turn(call, proof))
        if isinstance(client, UnknownClient):
            if isinstance(proof, BasicSecret):
                await failures.failed(call.client_ip, proof)
            # Counted and not written: a stranger must not fill the log.
            endpoint = "/" + "/".join(call.segments)
            self._deps.audit.denied("invalid_client", endpoint, client.client_id)
            return _invalid_client()
        failures.believed(call.client_ip, proof)
        return client

    def _turn(
        self, call: Call, proof: BasicSecret | Assertion
    ) -> AbstractAsyncContextManager[None]:
        """Who is not known costs SQL a look: those of a neighbourhood take turns."""
        if isinstance(proof, BasicSecret) and self._deps.failures.is_known(call.client_ip, proof):
            return nullcontext()
        return self._turns.turn(call.client_ip)

    async def _issue(self, client_id: str, proof: BasicSecret | Assertion, call: Call) -> Reply:
        async with self._deps.database.transaction() as tx:
            client = await locked(tx, client_id)
            # Deleted, or given another secret, since it proved who it is: who waited for the lock
            # would get a token of after the change, which refuses those of before it alone.
            if client is None or not self._deps.client_authenticator.holds(proof, client):
                return _invalid_client()
            issued_at = await next_issued_at(tx, client)
        issued = self._deps.issuer.issue(
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
        self._record(AuditKind.CLIENT_TOKEN, call, client.id, "ok")
        body = {
            "access_token": issued.text,
            "token_type": "Bearer",
            "expires_in": issued.expires_at - issued_at,
        }
        return JsonReply(200, body, _HEADERS)

    async def _describe(self, token: str, call: Call) -> Mapping[str, Any] | Reason:
        principal = await self._holder(token, call)
        if isinstance(principal, Principal):
            if principal.routes is not None:
                return {"active": False}  # good on some routes of the gateway alone
            return self._describe_active(principal, is_key=looks_like_key(token))
        if principal in _NOT_THE_TOKENS_FAULT:
            return principal
        session = await self._deps.refresh_tokens.find_active(token)
        if session is None:
            return {"active": False}
        return {
            "active": True,
            "token_type": "refresh_token",
            "sub": session.account_id,
            "sid": session.id,
            "iat": session.created_at,
            "exp": session.expires_at,
            "iss": self._deps.issuer_name,
        }

    async def _holder(self, token: str, call: Call) -> Principal | Reason:
        """Whose access token or key it is."""
        kind = CredentialKind.API_KEY if looks_like_key(token) else CredentialKind.BEARER
        with_token = replace(call, credential=Credential(kind, token))
        return await self._deps.authenticator.authenticate(with_token, _ACCEPT)

    def _describe_active(self, principal: Principal, *, is_key: bool) -> dict[str, Any]:
        description: dict[str, Any] = {
            "active": True,
            "token_type": "api_key" if is_key else "Bearer",
            "sub": principal.subject,
            "client_id": principal.client_id,
            "roles": list(principal.roles),
            "iss": self._deps.issuer_name,
            "aud": self._deps.audience,
            "jti": principal.token_id,
            "exp": principal.expires_at,
            "sid": principal.session_id,
            "username": principal.email,
        }
        if not is_key:
            description["iat"] = principal.issued_at
        if principal.scopes is not None:
            description["scope"] = " ".join(principal.scopes)
        return {name: value for name, value in description.items() if value is not None}

    async def _revoke(self, client: Client, token: str, call: Call) -> Reply:
        changes = await self._end_token(client, token, call)
        if isinstance(changes, JsonReply | ProblemReply):
            return changes
        if changes and not all(change.confirmed for change in changes):
            self._record(AuditKind.REVOKED, call, client.id, "ok", changes[0].target)
            if not await self._deps.publisher.publish(changes):
                return ProblemReply(Reason.REVOCATION_PENDING)
        return JsonReply(200, None, _HEADERS)

    async def _end_token(
        self, client: Client, token: str, call: Call
    ) -> list[Change] | JsonReply | ProblemReply:
        if looks_like_key(token):
            changes = await self._deps.api_keys.end_text(token, client.id)
            if changes is not None:
                return list(changes)
            # Another client's, or a person's, though it is good on some routes alone: who is
            # answered 200 takes it to be refused.
            principal = await self._holder(token, call)
            if isinstance(principal, Principal):
                return _somebody_elses()
            return ProblemReply(principal) if principal in _NOT_THE_TOKENS_FAULT else []
        principal = self._deps.verifier.verify(token, allow_expired=True)
        if isinstance(principal, Reason):
            # Not a token of ours, or a refresh token, which no client was ever given.
            if await self._deps.refresh_tokens.find_active(token) is not None:
                return _somebody_elses()
            return []
        if principal.client_id != client.id:
            return _somebody_elses()
        return list(await refuse(self._deps.database, ChangeKind.TOKEN, principal.token_id))

    def _record(
        self, kind: AuditKind, call: Call, subject: str | None, result: str, token: str = ""
    ) -> None:
        self._deps.audit.record(
            event_of(kind, call, subject=subject, result=result, token=token or None)
        )


async def _form(request: web.BaseRequest) -> dict[str, str] | Reply:
    form = await read_form(request)
    if isinstance(form, MalformedForm):
        return _error("invalid_request", form.description)
    return form


def _client_proof(call: Call, form: Mapping[str, str]) -> BasicSecret | Assertion | JsonReply:
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


def _error(error: str, description: str, status: int = 400) -> JsonReply:
    """RFC 6749 section 5.2; the description is a constant."""
    return JsonReply(status, {"error": error, "error_description": description}, _HEADERS)


def _somebody_elses() -> JsonReply:
    return _error("invalid_grant", "the token was issued to somebody else")


def _invalid_client() -> JsonReply:
    body = {"error": "invalid_client", "error_description": "the client is not believed"}
    return JsonReply(401, body, _CHALLENGE)
