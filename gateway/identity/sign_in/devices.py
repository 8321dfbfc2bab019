"""The device cookie: a browser that has signed in before, and to which accounts.

It signs nobody in.  It gives the browser a count of its own in the login throttle, so that a
stranger who uses up the account's attempts does not lock its owner out, and the silence of
the mail about new devices.

Law: it is signed whole, by a key that signs nothing else, and names no account to whoever
reads it: an account is the start of an HMAC.  Beside each account stands its epoch, which a
changed password raises: whoever laid cookies up under the password of before holds nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from gateway.identity.base64url import encoded

COOKIE = "__Host-device"
LIFE_S = 180 * 86_400
_ACCOUNTS = 5
"""Accounts that one browser is known for; the one that signed in longest ago goes first."""

_ACCOUNT = 16
"""Characters of a tag that name the account; as many name its epoch."""

_FORM = re.compile(
    r"2\.(?P<id>[A-Za-z0-9_-]{22})\.(?P<at>[0-9]{1,12})\.(?P<tags>[A-Za-z0-9_-]{32}"
    r"(?:~[A-Za-z0-9_-]{32}){0,4})\.(?P<signature>[A-Za-z0-9_-]{43})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Device:
    """`id` is what the throttle counts by, together with the account."""

    id: str
    tags: tuple[str, ...]
    epoch: int = 0
    """The account's own, once it was found to be that of the cookie."""

    @property
    def latest_tag(self) -> str:
        """Who signed in with it last, and in which epoch: a cookie of before a changed password
        uses up nothing of those that are given now."""
        return self.tags[0]

    def epoch_of(self, account: str) -> str | None:
        for tag in self.tags:
            if tag[:_ACCOUNT] == account:
                return tag[_ACCOUNT:]
        return None


class Devices:
    """Reads and writes the cookie."""

    def __init__(self, key: bytes) -> None:
        """`key` is `derived_key(secret, KeyPurpose.DEVICE)`."""
        self._key = key

    def claimed(self, cookie: str | None, normalized_email: str, now: float) -> Device | None:
        """The device, if this account has signed in with it within 180 days, whatever its
        password was then."""
        device = self.known(cookie, now)
        if device is None or device.epoch_of(self._account(normalized_email)) is None:
            return None
        return device

    def current(self, device: Device, normalized_email: str, epoch: int) -> bool:
        """Whether the account still has the epoch in which the device signed in."""
        epoch_tag = device.epoch_of(self._account(normalized_email))
        return epoch_tag is not None and hmac.compare_digest(
            epoch_tag, self._epoch(normalized_email, epoch)
        )

    def remember(self, cookie: str | None, normalized_email: str, epoch: int, now: float) -> str:
        """The cookie's next value, after this account has signed in."""
        device = self.known(cookie, now)
        device_id = device.id if device else secrets.token_urlsafe(16)
        account = self._account(normalized_email)
        before = [tag for tag in (device.tags if device else ()) if tag[:_ACCOUNT] != account]
        tags = "~".join([account + self._epoch(normalized_email, epoch), *before][:_ACCOUNTS])
        body = f"2.{device_id}.{int(now)}.{tags}"
        return f"{body}.{self._signature(body)}"

    def known(self, cookie: str | None, now: float) -> Device | None:
        """The device, if whichever account has signed in with it within 180 days."""
        match = _FORM.fullmatch(cookie) if cookie else None
        if cookie is None or match is None:
            return None
        body = cookie.rpartition(".")[0]
        # Texts are compared: a changed last letter can stand for the same bytes.
        if not hmac.compare_digest(match["signature"], self._signature(body)):
            return None
        if not int(match["at"]) <= now + 60 <= int(match["at"]) + LIFE_S:
            return None
        return Device(match["id"], tuple(match["tags"].split("~")))

    def _account(self, normalized_email: str) -> str:
        return self._mac(b"account\x00" + normalized_email.encode())[:_ACCOUNT]

    def _epoch(self, normalized_email: str, epoch: int) -> str:
        return self._mac(b"epoch\x00%d\x00" % epoch + normalized_email.encode())[:_ACCOUNT]

    def _signature(self, body: str) -> str:
        return self._mac(b"cookie\x00" + body.encode())

    def _mac(self, text: bytes) -> str:
        return encoded(hmac.digest(self._key, text, hashlib.sha256))


def device_counter(device: Device, normalized_email: str) -> str:
    """The counter of the login throttle for this account on this device: it stands in for the
    account's own.  See `throttle.account_counter`."""
    named = f"{device.id}\x00{device.epoch}\x00{normalized_email}"
    digest = hashlib.sha256(named.encode()).hexdigest()
    return device_counters(normalized_email) + digest[:32]


def device_counters(normalized_email: str) -> str:
    """What the counters of all devices of an account begin with: nobody else knows which devices
    there are."""
    return f"login:device:{hashlib.sha256(normalized_email.encode()).hexdigest()[:32]}:"


def set_cookie(value: str) -> str:
    """The value of the `Set-Cookie` header.

    `__Host-` asks for Secure and Path=/ and no Domain (RFC 6265bis section 4.1.3.2); on
    `http://127.0.0.1` browsers take Secure cookies as well.
    """
    return f"{COOKIE}={value}; Max-Age={LIFE_S}; Path=/; Secure; HttpOnly; SameSite=Lax"
