"""One document of another server, fetched within limits.

Law: an answer costs at most so much time and so many bytes, leads nowhere else (no redirects, no
proxy of the environment, no cookies) and comes over TLS that was checked, or from this machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import MultiMapping

from gateway.identity.issuers.discovery import origin

TIMEOUT_S = 5.0
FRESH_LEAST_S, FRESH_MOST_S = 300.0, 86_400.0
"""What `Cache-Control` may ask for; without it the shortest."""

Addresses = Callable[[str, int], Awaitable[list[str]]]
"""Where a name leads; OSError where nobody knows it."""

_MAX_AGE = re.compile(r'(?:^|[,\s])max-age\s*=\s*"?([0-9]{1,10})(?![0-9])', re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s=])", re.IGNORECASE)
_AGE = re.compile(r"[0-9]{1,10}")
FIELDS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "authgate",
}
_SHOWN_MAX = 200


class FetchFailed(Exception):
    """Nothing came that could be read; the text is a sentence for an operator."""


class AnswerTooLong(FetchFailed):
    """It was there, and longer than anybody reads."""


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    body: bytes
    fresh_s: float
    """For how long it may be kept, within FRESH_LEAST_S and FRESH_MOST_S."""
    sent_at: float | None = None
    """By the clock of its server, which no cache kept meanwhile."""


class Fetcher:
    """A connection for each document: they are few, and a broken one harms one of them."""

    def __init__(self, addresses: Addresses, *, timeout_s: float = TIMEOUT_S) -> None:
        self._addresses = addresses
        self._timeout_s = timeout_s

    async def get(self, url: str, ca: str | None, bytes_max: int) -> FetchedDocument:
        """Raises FetchFailed."""
        target = origin(url)
        if target is None:
            raise FetchFailed(f"{url[:_SHOWN_MAX]} is no https URL")
        try:
            async with asyncio.timeout(self._timeout_s):
                # Reading the machine's authorities takes some milliseconds of a processor.
                tls = await asyncio.to_thread(_tls_of, ca) if target[0] == "https" else True
                return await self._answer(url, tls, bytes_max)
        except TimeoutError as error:
            raise FetchFailed(f"{url} did not answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(f"{url} could not be fetched: {told(error)}") from error

    async def _answer(
        self, url: str, tls: ssl.SSLContext | bool, bytes_max: int
    ) -> FetchedDocument:
        connector = aiohttp.TCPConnector(
            ssl=tls, resolver=AddressResolver(self._addresses), force_close=True
        )
        async with (
            plain_session(connector) as session,
            session.get(url, allow_redirects=False, headers=FIELDS) as response,
        ):
            if response.status != 200:
                raise FetchFailed(f"{url} answered {response.status}")
            return FetchedDocument(
                await bounded_body(response, url, bytes_max),
                fresh_s(response.headers),
                sent_at(response.headers),
            )


def _tls_of(ca: str | None) -> ssl.SSLContext:
    try:
        return tls_context(ca)
    except OSError as error:
        raise FetchFailed(f"{ca} holds no authorities that can be read: {told(error)}") from error


def told(error: Exception) -> str:
    """The end of a sentence, in our words: a library's own are about its inside."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else "unknown"
        return f"nobody we trust vouches for its certificate ({why})"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "nobody knows the name of its host"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "it speaks no TLS that we speak"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it hung up before it answered"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it hung up in the midst of its answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "what it answers is not HTTP"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        # The text of asyncio is about a call of its own.
        text = os.strerror(error.errno)
        return text[:1].lower() + text[1:]
    return "the connection failed"


def fresh_s(headers: MultiMapping[str]) -> float:
    """RFC 9111 sections 5.2.2 and 5.1, within our own bounds."""
    control = ",".join(headers.getall("Cache-Control", ()))
    found = _MAX_AGE.search(control)
    if found is None or _NOT_KEPT.search(control):
        return FRESH_LEAST_S
    age = headers.get("Age", "")
    spent_s = int(age) if _AGE.fullmatch(age) else 0
    return min(max(float(int(found[1]) - spent_s), FRESH_LEAST_S), FRESH_MOST_S)


def sent_at(headers: Mapping[str, str]) -> float | None:
    """Seconds since the epoch, to the second (RFC 9110 section 6.6.1); None of what a cache has
    kept (RFC 9111 section 5.1)."""
    try:
        at = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return None if "Age" in headers or at.tzinfo is None else at.timestamp()


def plain_session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """One that takes nothing from the environment, keeps no cookie and unpacks nothing.  Whoever
    asks bounds the time."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


async def bounded_body(response: aiohttp.ClientResponse, url: str, bytes_max: int) -> bytes:
    """Raises FetchFailed where it is encoded, and AnswerTooLong."""
    encodings = response.headers.getall("Content-Encoding", ())
    if any(one.lower() != "identity" for one in encodings):
        raise FetchFailed(f"{url} answered in an encoding that nobody asked for")
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > bytes_max:
            raise AnswerTooLong(f"{url} answered more than {bytes_max // 1024} KiB")
    return bytes(body)


def tls_context(ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class AddressResolver(AbstractResolver):
    """Names are resolved as the rest of the gateway does it."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._addresses(host, port)
        ]

    async def close(self) -> None:
        """There is nothing to end."""
