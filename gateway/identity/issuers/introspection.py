"""Tokens that only their issuer can read: it is asked, as RFC 7662 has it.

Law: an answer is the issuer's word for `cache` seconds and no longer; calls with one token wait for
one answer.  An issuer that does not answer costs ASK_WAIT_S a call, and after a few failures in a
row nothing for a while; what a stranger makes up is asked at most AT_ONCE at a time, and not again
for INACTIVE_S.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote_plus

import jwt
import structlog

from gateway import strict_json
from gateway.access.issuers import Introspection, Issuer
from gateway.bounded_memo import BoundedMemo
from gateway.identity.issuers.fetching import FetchFailed
from gateway.identity.issuers.form_posts import PostRefused
from gateway.identity.issuers.jwk_set import DocumentRefused
from gateway.identity.issuers.key_sets import Documents, fetch_endpoints
from gateway.identity.issuers.verifier import ForeignClaims, IssuerVerifier
from gateway.model import Clock, Principal, Reason

log = structlog.get_logger(__name__)

ASK_WAIT_S = 2.0
AT_ONCE = 32
MOST_WAITING = 1_000
"""Tokens whose answer is waited for; the next one is refused at once."""
INACTIVE_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024
FAILURES_MOST = 5
"""In a row; then it is left alone for REST_S, and tried with one token."""
REST_S = 5.0
FIND_EVERY_S = 60.0
_ASSERTION_LIFE_S = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_REMEMBERED_MOST = 5_000
KID = "introspection"
"""For what bears no kid that we know of."""


class Posts(Protocol):
    """`form_posts.FormPoster`."""

    async def post(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        """Raises FetchFailed."""

    async def close(self) -> None: ...


class Introspector:
    """Asks one issuer, for one worker."""

    def __init__(
        self,
        verifier: IssuerVerifier,
        introspection: Introspection,
        posts: Posts,
        documents: Documents,
        clock: Clock,
        *,
        asked: Callable[[str, str], None] = lambda _issuer, _outcome: None,
    ) -> None:
        """`asked` is told of each question: `active`, `inactive`, `unreachable` or `refused`."""
        self.verifier = verifier
        self._introspection = introspection
        self._posts = posts
        self._documents = documents
        self._clock = clock
        self._asked = asked
        self._endpoint = introspection.endpoint
        self._endpoint_at = -math.inf
        self._finding = asyncio.Lock()
        # Apart, so that what a stranger makes up pushes nobody out.
        self._active: BoundedMemo[bytes, tuple[Principal, float]] = BoundedMemo(_REMEMBERED_MOST)
        self._inactive: BoundedMemo[bytes, tuple[Reason, float]] = BoundedMemo(_REMEMBERED_MOST)
        self._asking: dict[str, asyncio.Task[Principal | Reason]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)
        self._failures = 0
        self._rests_until = -math.inf
        self.last_error: str | None = None
        """Why the last question got no answer; None where it did."""

    @property
    def issuer(self) -> Issuer:
        return self.verifier.issuer

    def remembered(self, text: str) -> Principal | Reason | None:
        """What the issuer has just said of the token."""
        key, now = _key(text), self._clock.steady()
        active, inactive = self._active.get(key), self._inactive.get(key)
        if active is not None and now < active[1]:
            return active[0]
        return inactive[0] if inactive is not None and now < inactive[1] else None

    async def ask(self, text: str) -> Principal | Reason:
        """What it says now; ISSUER_UNAVAILABLE where it says nothing."""
        asking = self._asking.get(text)
        if asking is None:
            if len(self._asking) >= MOST_WAITING or not self._may_ask():
                return Reason.ISSUER_UNAVAILABLE
            asking = asyncio.create_task(self._answer(text), name=f"ask-{self.issuer.name}")
            self._asking[text] = asking
            asking.add_done_callback(lambda _: self._asking.pop(text, None))
        # Shielded: one who gives up must not take the answer away from the others.
        return await asyncio.shield(asking)

    async def close(self) -> None:
        """Once those who wait have their answer."""
        while self._asking:
            await asyncio.wait(self._asking.values())
        await self._posts.close()

    # --- the breaker ---

    def _may_ask(self) -> bool:
        if self._failures < FAILURES_MOST:
            return True
        now = self._clock.steady()
        if now < self._rests_until:
            return False
        self._rests_until = now + REST_S  # one token tries it
        return True

    def _failed(self, why: str) -> None:
        self._failures += 1
        self._rests_until = self._clock.steady() + REST_S
        self._tell(why)

    def _tell(self, why: str) -> None:
        # It may have moved.  A stranger can have a question refused as often as he likes.
        if self._clock.steady() - self._endpoint_at > FIND_EVERY_S:
            self._endpoint = self._introspection.endpoint
        if self.last_error is None:
            log.warning("introspection-failed", issuer=self.issuer.name, why=why)
        self.last_error = why

    def _succeeded(self) -> None:
        if self.last_error is not None:
            log.info("introspection-works", issuer=self.issuer.name)
        self.last_error, self._failures = None, 0

    # --- one question ---

    async def introspected(self, text: str) -> dict[str, Any]:
        """What the issuer says of the token.  Raises FetchFailed and DocumentRefused."""
        endpoint = await self._found_endpoint()
        form = {"token": text, "token_type_hint": "access_token", **self._assertion()}
        body = await self._posts.post(endpoint, form, self._authorization(), ANSWER_BYTES_MAX)
        return _named(_read(body))

    async def _answer(self, text: str) -> Principal | Reason:
        has_place = False
        try:
            async with asyncio.timeout(ASK_WAIT_S), self._places:
                has_place = True
                claims = await self.introspected(text)
        except PostRefused as error:
            # It is there: a text of a stranger that it does not like must not close it to others.
            self._tell(str(error))
            self._asked(self.issuer.name, "refused")
            return Reason.ISSUER_UNAVAILABLE
        except TimeoutError:
            # Who found no place says nothing of the issuer.
            if has_place:
                self._failed(f"it did not answer within {ASK_WAIT_S:g} s")
        except (FetchFailed, DocumentRefused) as error:
            self._failed(str(error))
        else:
            self._succeeded()
            return self._judged(text, claims)
        self._asked(self.issuer.name, "unreachable")
        return Reason.ISSUER_UNAVAILABLE

    async def _found_endpoint(self) -> str:
        """That of the discovery is kept until a question fails: no call waits for it but then."""
        async with self._finding:
            if self._endpoint is None:
                endpoints, _ = await fetch_endpoints(self.issuer, self._documents)
                if endpoints.introspection is None:
                    raise DocumentRefused("the discovery names no introspection_endpoint")
                self._endpoint, self._endpoint_at = endpoints.introspection, self._clock.steady()
            return self._endpoint

    def _judged(self, text: str, claims: dict[str, Any]) -> Principal | Reason:
        verdict: Principal | Reason
        if claims.get("active") is not True:
            verdict = self._ended(claims)
        elif claims.get("iss", self.issuer.issuer) != self.issuer.issuer:
            verdict = Reason.TOKEN_CLAIMS_INVALID
        else:
            content = text.encode()
            verdict = self.verifier.judge(
                ForeignClaims(self.issuer.name, claims, None, KID, content)
            )
        now, cache_s = self._clock.steady(), self._introspection.cache_s
        if isinstance(verdict, Reason):
            self._inactive.keep(_key(text), (verdict, now + INACTIVE_S))
            self._asked(self.issuer.name, "inactive")
            return verdict
        if cache_s:
            self._active.keep(_key(text), (verdict, now + cache_s))
        self._asked(self.issuer.name, "active")
        return verdict

    def _ended(self, claims: Mapping[str, Any]) -> Reason:
        """RFC 7662 section 2.2: an issuer need not say why a token is not active."""
        expires_at = claims.get("exp")
        if type(expires_at) is int and expires_at <= self._clock.now():
            return Reason.TOKEN_EXPIRED
        return Reason.TOKEN_REVOKED

    # --- who asks ---

    def _authorization(self) -> Mapping[str, str]:
        """RFC 6749 section 2.3.1: both halves are form-encoded first."""
        secret = self._introspection.secret
        if secret is None:
            return {}
        pair = f"{quote_plus(self._introspection.client_id)}:{quote_plus(secret.reveal())}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def _assertion(self) -> Mapping[str, str]:
        """RFC 7523 section 2.2.  For the issuer, by its own name: an assertion for a URL could be
        good at another server that shares it."""
        key = self._introspection.key
        if key is None:
            return {}
        client_id, now = self._introspection.client_id, int(self._clock.now())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": self.issuer.issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + _ASSERTION_LIFE_S,
        }
        header = {} if key.kid is None else {"kid": key.kid}
        signed = jwt.encode(claims, key.pem.reveal(), algorithm=key.alg, headers=header)
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": signed}


def _named(claims: dict[str, Any]) -> dict[str, Any]:
    """A client that speaks for itself may have no `sub`: it is named by its `client_id` then, as
    RFC 9068 section 2.2 has it for signed tokens."""
    if "sub" not in claims and "username" not in claims and "client_id" in claims:
        return {**claims, "sub": claims["client_id"]}
    return claims


def _key(text: str) -> bytes:
    """A stranger's text may be long, and is not held."""
    return hashlib.sha256(text.encode()).digest()


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = strict_json.loads(body, encodable=True)
    except ValueError as error:
        raise DocumentRefused(f"its answer is no JSON that everybody reads alike: {error}") from (
            error
        )
    if not isinstance(answer, dict):
        raise DocumentRefused("its answer is no JSON object")
    return answer
