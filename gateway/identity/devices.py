"""The device cookie: a browser that has signed in before, and to which accounts.

It signs nobody in.  All it earns is a count of its own in the login throttle, so that a
stranger who uses up the account's attempts does not lock its owner out, and the silence of
the letter about new devices.

Law: it is signed whole, by a key that signs nothing else, and names no account to whoever
reads it: an account is the start of an HMAC.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

COOKIE = "__Host-device"
LIFE_S = 180 * 86_400
_ACCOUNTS = 5
"""Accounts that one browser is known for; the one that signed in longest ago goes first."""

_FORM = re.compile(
    r"1\.(?P<id>[A-Za-z0-9_-]{22})\.(?P<at>[0-9]{1,12})\.(?P<tags>[A-Za-z0-9_-]{16}"
    r"(?:~[A-Za-z0-9_-]{16}){0,4})\.(?P<signature>[A-Za-z0-9_-]{43})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Device:
    """`id` is what the throttle counts by, together with the account."""

    id: str
    tags: tuple[str, ...]


class Devices:
    """Reads and writes the cookie."""

    def __init__(self, key: bytes) -> None:
        """`key` is `derived_key(secret, KeyPurpose.DEVICE)`."""
        self._key = key

    def known(self, cookie: str | None, email_key: str, now: float) -> Device | None:
        """The device, if this account has signed in with it within 180 days."""
        device = self._read(cookie, now)
        if device is None or self._tag(email_key) not in device.tags:
            return None
        return device

    def remember(self, cookie: str | None, email_key: str, now: float) -> str:
        """The cookie's next value, after this account has signed in."""
        device = self._read(cookie, now)
        device_id = device.id if device else secrets.token_urlsafe(16)
        tag = self._tag(email_key)
        before = [other for other in (device.tags if device else ()) if other != tag]
        tags = "~".join([tag, *before][:_ACCOUNTS])
        body = f"1.{device_id}.{int(now)}.{tags}"
        return f"{body}.{self._signature(body)}"

    def _read(self, cookie: str | None, now: float) -> Device | None:
        found = _FORM.fullmatch(cookie) if cookie else None
        if cookie is None or found is None:
            return None
        body = cookie.rpartition(".")[0]
        # Texts are compared: a changed last letter can stand for the same bytes.
        if not hmac.compare_digest(found["signature"], self._signature(body)):
            return None
        if not int(found["at"]) <= now + 60 <= int(found["at"]) + LIFE_S:
            return None
        return Device(found["id"], tuple(found["tags"].split("~")))

    def _tag(self, email_key: str) -> str:
        return self._mac(b"account\x00" + email_key.encode())[:16]

    def _signature(self, body: str) -> str:
        return self._mac(b"cookie\x00" + body.encode())

    def _mac(self, text: bytes) -> str:
        digest = hmac.digest(self._key, text, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def device_counter(device: Device, email_key: str) -> str:
    """The counter of the login throttle for this account on this device: it stands in for the
    account's own.  See `throttle.account_counter`."""
    digest = hashlib.sha256(f"{device.id}\x00{email_key}".encode()).hexdigest()
    return "login:device:" + digest[:32]


def set_cookie(value: str) -> str:
    """The value of the `Set-Cookie` header.

    `__Host-` asks for Secure and Path=/ and no Domain (RFC 6265bis section 4.1.3.2); on
    `http://127.0.0.1` browsers take Secure cookies as well.
    """
    return f"{COOKIE}={value}; Max-Age={LIFE_S}; Path=/; Secure; HttpOnly; SameSite=Lax"
