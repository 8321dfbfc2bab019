"""Tokens that only their issuer can read: it is asked, as RFC 7662 has it.

Law: an answer is the issuer's word for `cache` seconds and no longer; calls with one token wait for
one answer.  An issuer that does not answer costs ASK_WAIT_S a call, and after a few failures in a
row nothing for a while.  Anybody can make tokens up: they keep none that was good waiting, close
the issuer to none that was good, and no more of one address are asked about than its share.
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
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway import strict_json
from gateway.access.issuers import ClientAssertionKey, Introspection, Issuer
from gateway.bounded_memo import BoundedMemo
from gateway.identity.issuers.asking_lane import AskingLane
from gateway.identity.issuers.fetching import AnswerTooLong, FetchFailed
from gateway.identity.issuers.form_posts import PostRefused
from gateway.identity.issuers.jwk_set import DocumentRefused
from gateway.identity.issuers.key_sets import Documents, fetch_endpoints
from gateway.identity.issuers.verifier import ForeignClaims, IssuerVerifier
from gateway.identity.made_up import AddressShares, GoodOnes
from gateway.model import Clock, Principal, Reason

log = structlog.get_logger(__name__)

ASK_WAIT_S = 2.0
"""For a call, and for a question that has a place."""
PLACE_WAIT_S = 1.0
AT_ONCE = 32
"""Questions of tokens that were good before, and as many of all others."""
MOST_WAITING = 1_000
"""Tokens of which nothing is known whose answer is waited for; the next is refused at once."""
UNKNOWN_OF_ADDRESS = 16
"""Such tokens of one address."""
INACTIVE_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024
FIND_EVERY_S = 60.0
TELL_EVERY_S = 60.0
"""Strangers can make it fail and work by turns."""
_ASSERTION_LIFE_S = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_REMEMBERED_MOST = 5_000
KID = "introspection"
"""For what bears no kid that we know of."""


class AnswerRefused(DocumentRefused):
    """The issuer is there, and says of this token what cannot be read."""


_OF_THIS_TOKEN = (PostRefused, AnswerTooLong, AnswerRefused)
"""It is there: a token that it does not like, or says too much of, closes it to nobody."""


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
        self._looks_again = False
        self._finding = asyncio.Lock()
        # Apart, so that what a stranger makes up pushes nobody out.
        self._active: BoundedMemo[bytes, tuple[Principal, float]] = BoundedMemo(_REMEMBERED_MOST)
        self._inactive: BoundedMemo[bytes, tuple[Reason, float]] = BoundedMemo(_REMEMBERED_MOST)
        self._asking: dict[str, asyncio.Task[Principal | Reason]] = {}
        self._good: GoodOnes[bytes] = GoodOnes(_REMEMBERED_MOST)
        self._lane_of_good = AskingLane(AT_ONCE, clock.steady)
        self._lane_of_others = AskingLane(AT_ONCE, clock.steady)
        self._unknown = AddressShares(UNKNOWN_OF_ADDRESS)
        self._signing_key: Any = None
        self.last_error: str | None = None
        """Why the last question got no answer; None where it did."""
        self._told_at = -math.inf
        self._is_told = False

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

    async def ask(self, text: str, client_ip: str) -> Principal | Reason:
        """What it says now; ISSUER_UNAVAILABLE where it says nothing."""
        asking = self._asking.get(text) or self._begun(text, client_ip)
        if asking is None:
            return Reason.ISSUER_UNAVAILABLE
        # Who gives up must not take the answer away from the others.
        await asyncio.wait({asking}, timeout=ASK_WAIT_S)
        return asking.result() if asking.done() else Reason.ISSUER_UNAVAILABLE

    async def close(self) -> None:
        """Once those who wait have their answer."""
        while self._asking:
            await asyncio.wait(self._asking.values())
        await self._posts.close()

    # --- who may ask ---

    def _begun(self, text: str, client_ip: str) -> asyncio.Task[Principal | Reason] | None:
        lane, stranger = self._lane_of_good, None
        if _key(text) not in self._good:
            lane, stranger = self._lane_of_others, client_ip
            if not self._unknown.has_room(stranger) or self._unknown.under_way >= MOST_WAITING:
                return None
        if not lane.may_ask():
            return None
        asking = asyncio.create_task(self._answer(text, lane), name=f"ask-{self.issuer.name}")
        self._asking[text] = asking
        if stranger is not None:
            self._unknown.take(stranger)
        asking.add_done_callback(lambda _: self._ended_asking(text, stranger))
        return asking

    def _ended_asking(self, text: str, stranger: str | None) -> None:
        del self._asking[text]
        if stranger is not None:
            self._unknown.give_back(stranger)

    def _tell(self, why: str) -> None:
        self.last_error = why
        now = self._clock.steady()
        # It may have moved.  A stranger can have a question refused as often as he likes.
        if now - self._endpoint_at > FIND_EVERY_S:
            self._looks_again = self._introspection.endpoint is None
        if not self._is_told and now - self._told_at >= TELL_EVERY_S:
            self._is_told, self._told_at = True, now
            log.warning("introspection-failed", issuer=self.issuer.name, why=why)

    def _works(self) -> None:
        self.last_error = None
        if self._is_told:
            self._is_told = False
            log.info("introspection-works", issuer=self.issuer.name)

    # --- one question ---

    async def introspected(self, text: str) -> dict[str, Any]:
        """What the issuer says of the token.  Raises FetchFailed and DocumentRefused."""
        endpoint = await self._found_endpoint()
        form = {"token": text, "token_type_hint": "access_token", **self._assertion()}
        body = await self._posts.post(endpoint, form, self._authorization(), ANSWER_BYTES_MAX)
        return _named(_read(body))

    async def _answer(self, text: str, lane: AskingLane) -> Principal | Reason:
        try:
            async with asyncio.timeout(PLACE_WAIT_S):
                await lane.places.acquire()
        except TimeoutError:
            return Reason.ISSUER_UNAVAILABLE  # this says nothing of the issuer
        outcome = "unreachable"
        try:
            # The whole of it, however long the place was waited for.
            async with asyncio.timeout(ASK_WAIT_S):
                claims = await self.introspected(text)
        except _OF_THIS_TOKEN as error:
            lane.answered()
            self._tell(str(error))
            outcome = "refused"
        except TimeoutError:
            lane.failed()
            self._tell(f"it did not answer within {ASK_WAIT_S:g} s")
        except (FetchFailed, DocumentRefused) as error:
            lane.failed()
            self._tell(str(error))
        else:
            lane.answered()
            self._works()
            return self._judged(text, claims)
        finally:
            lane.places.release()
        self._asked(self.issuer.name, outcome)
        return Reason.ISSUER_UNAVAILABLE

    async def _found_endpoint(self) -> str:
        """That of the discovery is kept until a question fails: no call waits for it but then.
        Where the discovery cannot be had then, it goes on."""
        async with self._finding:
            if self._endpoint is None or self._looks_again:
                self._looks_again, self._endpoint_at = False, self._clock.steady()
                try:
                    self._endpoint = await self._discovered()
                except (FetchFailed, DocumentRefused):
                    if self._endpoint is None:
                        raise
            return self._endpoint

    async def _discovered(self) -> str:
        try:
            endpoints, _ = await fetch_endpoints(self.issuer, self._documents)
        except AnswerTooLong as error:
            raise DocumentRefused(str(error)) from error  # it is about no single token
        if endpoints.introspection is None:
            raise DocumentRefused("the discovery names no introspection_endpoint")
        return endpoints.introspection

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
        key, now, cache_s = _key(text), self._clock.steady(), self._introspection.cache_s
        self._good.note(key, is_good=isinstance(verdict, Principal))
        if isinstance(verdict, Reason):
            self._inactive.keep(key, (verdict, now + INACTIVE_S))
            self._asked(self.issuer.name, "inactive")
            return verdict
        if cache_s:
            self._active.keep(key, (verdict, now + cache_s))
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
        if self._signing_key is None:
            self._signing_key = _loaded(key)
        signed = jwt.encode(claims, self._signing_key, algorithm=key.alg, headers=header)
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": signed}


def _loaded(key: ClientAssertionKey) -> Any:
    """The configuration was refused unless the key is a sound one (`config.introspection`): to look
    again would stop the worker for as long as hundreds of signatures take."""
    pem = key.pem.reveal().encode("ascii")
    return load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)


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
        raise AnswerRefused(f"its answer is no JSON that everybody reads alike: {error}") from error
    if not isinstance(answer, dict):
        raise AnswerRefused("its answer is no JSON object")
    return answer
