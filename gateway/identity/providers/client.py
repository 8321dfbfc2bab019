"""The gateway as a client of providers: where the browser is sent, and who comes back with a code.

OpenID Connect Core section 3.1, with PKCE (RFC 7636), the issuer in the answer (RFC 9207) and
pushed requests (RFC 9126) where the provider takes them.

Law: a provider that fails or is slow costs its own visitors a bounded time, and nobody else
anything: no more than AT_ONCE questions are under way with one of those who come back from it, and
as many of those who are led there, which anybody may ask to be; and after a few failures in a row
it is left alone for a while.

authlib is imported by the first sign-in over a provider: many installations have none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from gateway.access.providers import Provider, ProviderKind
from gateway.identity.issuers.asking_lane import AskingLane
from gateway.identity.issuers.discovery import DISCOVERY_BYTES_MAX, discovery_url
from gateway.identity.issuers.fetching import AnswerTooLong, FetchFailed
from gateway.identity.issuers.jwk_set import DocumentRefused
from gateway.identity.issuers.key_sets import Documents
from gateway.identity.made_up import AddressTurns
from gateway.identity.providers.asking import ProviderAnswer, ProviderServers
from gateway.identity.providers.github import github_claims
from gateway.identity.providers.id_tokens import (
    ProviderKeys,
    ProviderUnavailable,
    read_id_token,
)
from gateway.identity.providers.identities import (
    IdentityRefused,
    ProviderIdentity,
    identity_of,
    joined_claims,
)
from gateway.identity.providers.metadata import (
    ProviderMetadata,
    known_metadata,
    read_metadata,
)
from gateway.identity.providers.round_trips import RoundTrip
from gateway.model import Clock
from gateway.stores.protocols import StoreBusy

AT_ONCE = 16
STARTS_OF_NEIGHBOURHOOD = 8
"""Of the pushed requests that are under way, those of one neighbourhood (/24, IPv6 /48): more than
fail before a provider is left alone, so that the visitors of one office find out, too."""
PLACE_WAIT_S = 2.0
_TOLD_MAX = 200
ANY_AGE_S = 10 * 365 * 86_400
"""`max_age` of who may have signed in at any time."""
GITHUB_ISS = "/login/oauth"
"""What GitHub names in `iss` of its answers, below its issuer."""
_TOO_MANY = "too many are asking it"


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """What the browser brought back from the provider."""

    code: str
    iss: str | None


@dataclass(slots=True)
class _Known:
    """What one worker knows of a provider."""

    provider: Provider
    lane: AskingLane
    starts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    """Places of those who are led there."""
    turns: AddressTurns = field(
        default_factory=lambda: AddressTurns(STARTS_OF_NEIGHBOURHOOD, PLACE_WAIT_S)
    )
    metadata: ProviderMetadata | None = None
    until: float = 0.0
    """The metadata are kept for so long, on the steady clock."""
    last_error: str | None = None


class ProviderClient:
    """One a worker."""

    def __init__(
        self,
        documents: Documents,
        servers: ProviderServers,
        keys: ProviderKeys,
        clock: Clock,
        *,
        redirect_uri: Callable[[str], str],
        asked: Callable[[str, str], None] = lambda _provider, _outcome: None,
    ) -> None:
        """`redirect_uri` of a provider's name.  `asked` is told of each question to a provider:
        `ok`, `refused` or `unreachable`."""
        self._documents = documents
        self._servers = servers
        self._keys = keys
        self._clock = clock
        self._redirect_uri = redirect_uri
        self._asked = asked
        self._known: dict[str, _Known] = {}

    def adopt(self, providers: Mapping[str, Provider]) -> None:
        """Forgets those that the configuration does not name any more."""
        for name in self._known.keys() - providers.keys():
            del self._known[name]

    def last_error(self, provider: Provider) -> str | None:
        """Why the last question to it failed; None where it did not, or none was asked."""
        return self._of(provider).last_error

    async def metadata(self, provider: Provider) -> ProviderMetadata:
        """Raises IdentityRefused and ProviderUnavailable."""
        known, now = self._of(provider), self._clock.steady()
        if known.metadata is not None and now < known.until:
            return known.metadata
        async with _Place(self, known):
            if known.metadata is None or now >= known.until:
                fixed, fresh_s = known_metadata(provider), float("inf")
                if fixed is None:
                    document = await self._documents.get(
                        discovery_url(provider.issuer), provider.issuer.ca, DISCOVERY_BYTES_MAX
                    )
                    fixed, fresh_s = read_metadata(document.body, provider), document.fresh_s
                known.metadata, known.until = fixed, self._clock.steady() + fresh_s
            return known.metadata

    async def authorization_url(self, provider: Provider, trip: RoundTrip, client_ip: str) -> str:
        """Where the browser at this address goes.  Raises IdentityRefused and
        ProviderUnavailable."""
        metadata = await self.metadata(provider)
        words = self._words(provider, metadata, trip)
        if metadata.pushed_authorization is None:
            from authlib.oauth2.rfc6749.parameters import prepare_grant_uri

            return str(
                prepare_grant_uri(
                    metadata.authorization,
                    provider.client_id,
                    "code",
                    redirect_uri=self._redirect_uri(provider.name),
                    scope=list(provider.scopes),
                    state=trip.state,
                    **words,
                )
            )
        words |= {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self._redirect_uri(provider.name),
            "scope": " ".join(provider.scopes),
            "state": trip.state,
        }
        url, known = metadata.pushed_authorization, self._of(provider)
        # Whoever has no account sets out as often as they like: nobody comes back later for it.
        async with _turn(known, client_ip):
            answer = await self._post(provider, metadata, url, urlencode(words), known.starts)
        request_uri = answer.get("request_uri")
        if not isinstance(request_uri, str) or not request_uri:
            raise IdentityRefused(f"{url} gave no request_uri")
        query = urlencode({"client_id": provider.client_id, "request_uri": request_uri})
        mark = "&" if "?" in metadata.authorization else "?"
        return f"{metadata.authorization}{mark}{query}"

    async def identity(
        self, provider: Provider, trip: RoundTrip, response: ProviderResponse
    ) -> ProviderIdentity:
        """Who came back.  Raises IdentityRefused and ProviderUnavailable."""
        try:
            return await self._identity(provider, trip, response)
        except DocumentRefused as error:
            raise IdentityRefused(str(error)) from error

    async def _identity(
        self, provider: Provider, trip: RoundTrip, response: ProviderResponse
    ) -> ProviderIdentity:
        metadata = await self.metadata(provider)
        _check_iss(provider, metadata, response.iss)
        form = self._token_form(provider, response.code, trip.verifier)
        tokens = await self._post(provider, metadata, metadata.token, form)
        access_token = tokens.get("access_token")
        if provider.kind is ProviderKind.GITHUB:
            if not isinstance(access_token, str):
                raise IdentityRefused(f"{metadata.token} gave no access token")
            claims = await github_claims(
                provider, metadata, lambda url: self._get(provider, url, access_token)
            )
            return identity_of(provider, claims)
        id_token = tokens.get("id_token")
        if not isinstance(id_token, str):
            raise IdentityRefused(f"{metadata.token} gave no ID token")
        bearer = access_token if isinstance(access_token, str) else None
        claims = await read_id_token(
            provider,
            id_token,
            trip,
            bearer,
            keys=self._keys,
            jwks_uri=metadata.jwks_uri,
            now=self._clock.now(),
        )
        if provider.userinfo and metadata.userinfo and bearer:
            claims = await self._with_userinfo(provider, metadata.userinfo, bearer, claims)
        return identity_of(provider, claims, id_token)

    async def check_client(self, provider: Provider) -> str | None:
        """Why the provider does not know our client; None where it does: it refuses a code that
        nobody has given.  Raises IdentityRefused and ProviderUnavailable."""
        metadata = await self.metadata(provider)
        code = "a-code-that-nobody-has-given"
        form = self._token_form(provider, code, "a-verifier-of-no-sign-in-that-is-long-enough-43")
        try:
            await self._post(provider, metadata, metadata.token, form)
        except OAuthRefused as error:
            known = ("invalid_grant", "bad_verification_code", "invalid_request")
            return None if error.error in known else str(error)
        return None

    async def _with_userinfo(
        self, provider: Provider, url: str, access_token: str, claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Section 5.3.2: of somebody else it counts for nothing."""
        told = dict((await self._get(provider, url, access_token)).members())
        if told.get("sub") != claims["sub"]:
            raise IdentityRefused(f"{url} speaks of somebody else")
        return joined_claims(provider.issuer, claims, told)

    def _token_form(self, provider: Provider, code: str, verifier: str) -> str:
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        return str(
            prepare_token_request(
                "authorization_code",
                code=code,
                redirect_uri=self._redirect_uri(provider.name),
                code_verifier=verifier,
            )
        )

    def _words(
        self, provider: Provider, metadata: ProviderMetadata, trip: RoundTrip
    ) -> dict[str, str]:
        """Of the authorization request, beside those that every client of OAuth has."""
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        words = dict(provider.parameters)
        if provider.kind is ProviderKind.OPENID:
            words["nonce"] = trip.nonce
        if trip.max_age_s is not None and provider.kind is ProviderKind.OPENID:
            # Either side counts whole seconds: whom we send as just too old might be just young
            # enough there, and would come back as they went.
            words["max_age"] = str(max(0, trip.max_age_s - 1))
        elif metadata.tells_auth_time:
            # Section 3.1.2.1: who is asked for one says when it was, and else may not.
            words.setdefault("max_age", str(ANY_AGE_S))
        if provider.form_post:
            words["response_mode"] = "form_post"
        words["code_challenge"] = str(create_s256_code_challenge(trip.verifier))
        words["code_challenge_method"] = "S256"
        return words

    async def _post(
        self,
        provider: Provider,
        metadata: ProviderMetadata,
        url: str,
        form: str,
        places: asyncio.Semaphore | None = None,
    ) -> Mapping[str, Any]:
        """What it answers a question that we ask as its client; `places` are those that it takes
        one of, where not of those who come back."""
        from gateway.identity.providers.client_auth import prove_client

        form, fields = prove_client(provider, metadata, url, form, self._clock.now())
        async with _Place(self, self._of(provider), places):
            answer = await self._servers.post(url, provider.issuer.ca, form, fields)
            members = answer.members()
            error = members.get("error")
            # GitHub answers errors with 200.
            if answer.status >= 400 or error is not None:
                raise OAuthRefused(url, answer.status, members)
            return members

    async def _get(self, provider: Provider, url: str, access_token: str) -> ProviderAnswer:
        fields = {"Authorization": f"Bearer {access_token}"}
        async with _Place(self, self._of(provider)):
            answer = await self._servers.get(url, provider.issuer.ca, fields)
            if answer.status != 200:
                raise IdentityRefused(f"{url} answered {answer.status}")
            return answer

    def _of(self, provider: Provider) -> _Known:
        known = self._known.get(provider.name)
        if known is None or known.provider != provider:
            known = _Known(provider, AskingLane(AT_ONCE, self._clock.steady))
            self._known[provider.name] = known
        return known

    def note(self, known: _Known, outcome: str, error: str | None) -> None:
        known.last_error = error
        if outcome == "unreachable":
            known.lane.failed()
        else:
            known.lane.answered()
        self._asked(known.provider.name, outcome)


class OAuthRefused(IdentityRefused):
    """An error answer of OAuth (RFC 6749 section 5.2)."""

    def __init__(self, url: str, status: int, members: Mapping[str, Any]) -> None:
        self.error = _printable(members.get("error"))
        described = _printable(members.get("error_description"))
        told = f" ({described})" if described else ""
        super().__init__(f"{url} answered {status} {self.error}{told}".rstrip())


def _printable(value: object) -> str:
    return value[:_TOLD_MAX] if isinstance(value, str) and value.isprintable() else ""


class _Place:
    """A place for one question to a provider: what fails in it is noted, and told in our words."""

    def __init__(
        self, client: ProviderClient, known: _Known, places: asyncio.Semaphore | None = None
    ) -> None:
        self._client = client
        self._known = known
        self._places = places or known.lane.places

    async def __aenter__(self) -> None:
        lane = self._known.lane
        if not lane.may_ask():
            raise ProviderUnavailable(self._known.last_error or "it is left alone for a while")
        try:
            await asyncio.wait_for(self._places.acquire(), PLACE_WAIT_S)
        except TimeoutError as error:
            raise ProviderUnavailable(_TOO_MANY) from error

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        self._places.release()
        if isinstance(error, AnswerTooLong):
            # It is there, and says too much of one visitor.
            self._client.note(self._known, "refused", str(error))
            raise IdentityRefused(str(error)) from error
        if isinstance(error, FetchFailed):
            self._client.note(self._known, "unreachable", str(error))
            raise ProviderUnavailable(str(error)) from error
        if isinstance(error, DocumentRefused):
            self._client.note(self._known, "refused", str(error))
            raise IdentityRefused(str(error)) from error
        if isinstance(error, IdentityRefused):
            # It is there, and does not take what one visitor brought.
            self._client.note(self._known, "refused", self._known.last_error)
        elif error is None:
            self._client.note(self._known, "ok", None)


@asynccontextmanager
async def _turn(known: _Known, client_ip: str) -> AsyncIterator[None]:
    """Raises ProviderUnavailable where it does not come in time."""
    async with AsyncExitStack() as turn:
        try:
            await turn.enter_async_context(known.turns.turn(client_ip))
        except StoreBusy as error:
            raise ProviderUnavailable(_TOO_MANY) from error
        yield


def _check_iss(provider: Provider, metadata: ProviderMetadata, iss: str | None) -> None:
    """RFC 9207 section 2.4."""
    if iss is None:
        if metadata.names_iss:
            raise IdentityRefused("the answer names no iss, as this provider's do")
        return
    expected = provider.issuer.issuer
    if provider.kind is ProviderKind.GITHUB:
        expected = expected.removesuffix("/") + GITHUB_ISS
    if iss != expected:
        raise IdentityRefused("the answer is of another provider")
