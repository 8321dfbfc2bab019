"""How the text of each kind of setting becomes a value; ValueError says what would be right."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr

from gateway.cores import usable_cores
from gateway.email_address import normalize_domain
from gateway.loopback import is_loopback

EMBEDDED = "embedded:"
KEY_SECRET_BYTES = 32
_SENDER = re.compile(r"[^<>@]*<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+")

_URL_CHARACTERS = re.compile(r"[!#-;=?-Z\[\]_a-z~]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.  An IPv6 host is written in brackets and kept without them."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def parse_address(text: Any) -> Address:
    if isinstance(text, Address):
        return text
    host, colon, port = str(text).rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("is not HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError("must listen on an IP address or localhost, not on a name") from None
    return Address("127.0.0.1" if host == "localhost" else host, int(port))


def grpc_address(text: Any) -> Address:
    """Where gRPC is to listen: each worker opens it itself, so one port is named for all."""
    address = parse_address(text)
    if address.port == 0:
        raise ValueError("must name a port")
    if not all(map(find_spec, ("grpc", "google", "google.protobuf"))):
        raise ValueError("needs what `pip install 'authgate[grpc]'` brings")
    return address


def origin(text: Any) -> str:
    """`scheme://host[:port]`, lower case, without the final slash."""
    split = urlsplit(str(text).strip())
    try:
        port = split.port
    except ValueError:
        port = -1
    if split.scheme not in ("http", "https") or not split.hostname or port == -1:
        raise ValueError("is not an origin, such as https://gateway.example.com")
    if split.path not in ("", "/") or split.query or split.fragment or split.username is not None:
        raise ValueError("must be an origin alone: no path, query or user name")
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    default = {"http": 80, "https": 443}[split.scheme]
    return f"{split.scheme}://{host}" + (f":{port}" if port not in (None, default) else "")


def console_origin(text: Any) -> str:
    """Where browsers reach the console, whose cookie goes over TLS alone."""
    url = origin(text)
    if url.startswith("http:") and not is_loopback(urlsplit(url).hostname or ""):
        raise ValueError("must be https:// when it is not loopback")
    return url


LOOPBACK_HOSTS = frozenset(("127.0.0.1", "[::1]", "localhost"))
"""As `Call.host` has them."""

_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-]+)+", re.ASCII)
_PREFIX_LONGEST = 64
_OF_ADMIN = frozenset(("healthz", "readyz", "metrics", "admin", "decide"))


def path_prefix(text: Any) -> str:
    """Where the endpoints lie.  No dots: `.` and `..` are refused in every path, and what the
    web reserves is below `/.well-known`."""
    prefix = str(text).strip()
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _PREFIX_LONGEST:
        raise ValueError(
            "must be a path such as /auth or /_auth: segments of letters, digits and any of _~-"
            f" behind a / each, at most {_PREFIX_LONGEST} characters, no / at the end"
        )
    first = prefix[1:].split("/", 1)[0]
    if first in _OF_ADMIN:
        raise ValueError(f"must not begin with /{first}, which the admin listener answers")
    return prefix


def seconds(low: float, high: float) -> BeforeValidator:
    def check(value: Any) -> Any:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return value if isinstance(value, int) else (int(number) if number.is_integer() else number)

    return BeforeValidator(check)


def integer(low: int, high: int, what: str) -> BeforeValidator:
    def check(value: Any) -> int:
        text = str(value).strip()
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"must be a whole {what} from {low} to {high}")
        return int(text)

    return BeforeValidator(check)


def rotation_period(value: Any) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and (text == "0" or 86_400 <= int(text) <= 10**8)):
        raise ValueError(
            "must be 0 (keys rotate only when told to), or a whole number of seconds from 86400"
            " to 100000000"
        )
    return int(text)


def ratio(value: Any) -> float | None:
    if value is None or str(value).strip() == "off":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError("must be off, or the share of allowed calls to write, from 0 to 1")
    return number


def workers_wanted(value: Any) -> int:
    text = str(value).strip()
    if text == "auto":
        return usable_cores()
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 256):
        raise ValueError("must be a whole number from 1 to 256, or auto (one a core)")
    return int(text)


def database_url(value: Any) -> str:
    text = str(value)
    scheme, _, rest = text.partition("://")
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return text
    if scheme in ("postgresql", "postgres") and rest:
        _check_places(rest)
        return "postgresql://" + rest
    raise ValueError("must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME")


def redis_url(value: Any) -> str:
    text = str(value)
    scheme, _, rest = text.partition("://")
    if text == EMBEDDED or (
        scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel") and rest
    ):
        if scheme not in ("", "unix") and text != EMBEDDED:
            _check_places(rest)
        return text
    raise ValueError(
        "must be embedded: or redis://, rediss://, unix:// or redis+sentinel:// with a host"
    )


def without_secrets(url: str) -> str:
    """The URL of a store as it may be shown: who asks, where and what, without a password (which
    the options behind `?` may hold too)."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return str(Path(rest.removeprefix("/")).absolute())
    rest = re.split("[?#]", rest, maxsplit=1)[0]
    places, slash, name = rest.partition("/")
    login, at, places = places.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}://{user}{at if user else ''}{places}{slash}{name}"


def _check_places(rest: str) -> None:
    """Whether each `host:port` behind `scheme://` can be connected to at all: a store that is
    waited for is told from one that no waiting brings.  The text may hold a password, so the
    problem shows none of it."""
    login_and_places = re.split("[/?#]", rest, maxsplit=1)[0]
    # An `@` behind them ends a password that holds a `/`, `?` or `#`: all of it is read as another
    # part of the URL, and shown as such.
    cut_short = "@" in rest[len(login_and_places) :].partition("=")[0]
    places = login_and_places.rpartition("@")[2]
    for place in places.split(","):
        found = re.fullmatch(r"(?:\[[^][]*\]|[^][:]*)(?::([0-9]{0,5}))?", place, re.ASCII)
        if cut_short or found is None or not 0 < int(found[1] or 1) <= 65535:
            raise ValueError(
                "must name HOST or HOST:PORT behind the //, the port from 1 to 65535; in a user"
                " name or password write /, ? and # as %2F, %3F and %23"
            )


def name_of_tokens(value: Any) -> str:
    """An issuer or audience, compared byte by byte with the claim of each token."""
    text = str(value)
    if not text.isprintable() or text != text.strip():
        raise ValueError("must hold no control characters, and no space around it")
    return text


def mail_from(value: Any) -> str:
    """`name@host` or `Name <name@host>`: else each letter fails when it is sent."""
    text = str(value).strip()
    if not (text.isprintable() and _SENDER.fullmatch(text)):
        raise ValueError("must be an address, such as it@example.com or Name <it@example.com>")
    return text


def smtp_url(value: Any) -> str:
    text = str(value)
    split = urlsplit(text)
    if split.scheme not in ("smtp", "smtps", "smtp+starttls") or not split.hostname:
        raise ValueError("must be smtp://, smtp+starttls:// or smtps:// with a host")
    return text


def networks(value: Any) -> Any:
    found, wrong = [], []
    for word in csv(value):
        try:
            found.append(ipaddress.ip_network(word, strict=True))
        except ValueError:
            wrong.append(word)
    if wrong:
        raise ValueError(
            f"holds {', '.join(wrong)}: each must be an address or a network,"
            " such as 10.0.0.0/8 (the host part all zero)"
        )
    everybody = [str(network) for network in found if network.prefixlen == 0]
    if everybody:
        raise ValueError(
            f"holds {', '.join(everybody)}: that is everybody, so any client could say which"
            " address it comes from; name the proxies in front, such as 10.0.0.0/8"
        )
    return tuple(found)


def domains(value: Any) -> tuple[str, ...]:
    known = {word: normalize_domain(word) for word in csv(value)}
    wrong = [word for word, domain in known.items() if domain is None]
    if wrong:
        raise ValueError(
            f"holds {', '.join(wrong)}: each must be the domain of an address, such as example.com;"
            " a domain below it is another, and is named beside it"
        )
    return tuple(domain for domain in known.values() if domain is not None)


def csv(value: Any) -> list[str]:
    if isinstance(value, tuple | list):
        return [str(item) for item in value]
    return [word.strip() for word in str(value).split(",") if word.strip()]


def secret_bytes(text: str) -> bytes:
    """The bytes of a key secret; ValueError for what could be guessed."""
    text = text.strip()
    try:
        found = bytes.fromhex(text)
    except ValueError:
        try:
            padded = text + "=" * (-len(text) % 4)
            found = base64.b64decode(padded.translate(str.maketrans("-_", "+/")), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(
                "is neither base64 nor hex; `gateway keys secret` prints one"
            ) from None
    if len(found) < KEY_SECRET_BYTES:
        raise ValueError(
            f"holds {len(found)} bytes; at least {KEY_SECRET_BYTES} random ones are needed"
            " (`gateway keys secret` prints them)"
        )
    # Words, "aaaa…" and counters in base64 are no randomness: 32 random bytes have about 30
    # different values, and fewer than 16 once in 10^14.
    if len(Counter(found[:KEY_SECRET_BYTES])) < 16 or found.isascii():
        raise ValueError("is not random; `gateway keys secret` prints one that is")
    return found


def key_secret(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    secret_bytes(text)
    return SecretStr(text)


def share(value: Any) -> float:
    """As `ratio`, of what cannot be off."""
    chosen = ratio(value)
    if chosen is None:
        raise ValueError("must be a number from 0 to 1")
    return chosen


def access_log(value: Any) -> str:
    text = str(value).strip().lower()
    try:
        access_log_sample(text)
    except ValueError:
        raise ValueError(
            "must be off, refusals, all, or the share of good answers that is written beside the"
            " refusals, from 0 to 1"
        ) from None
    return text


def access_log_sample(text: str) -> float | None:
    """The share of good answers that is written beside every refusal; None: nothing is."""
    return {"refusals": 0.0, "all": 1.0}[text] if text in ("refusals", "all") else ratio(text)


def reasons_url(value: Any) -> str:
    """Where the pages of the reasons are; `{reason}` in it stands for the word."""
    text = str(value).strip()
    split = urlsplit(text)
    plain = _URL_CHARACTERS.fullmatch(text.replace("{reason}", ""))
    if split.scheme not in ("http", "https") or not split.hostname or plain is None:
        raise ValueError(
            "must be an http:// or https:// URL; {reason} in it stands for the word, which else"
            " follows behind a /"
        )
    return text


def appendable_file(value: Any) -> Path:
    path = Path(str(value))
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError("must be a file in a folder that is there")
    return path


def readable_file(value: Any) -> Path:
    path = Path(str(value))
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("is not a file that can be read")
    return path


def min_length_secret(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if len(text.encode()) < 16:
        raise ValueError("must hold at least 16 bytes")
    return SecretStr(text)


ListenAt = Annotated[Address, BeforeValidator(parse_address)]
ListenForGrpcAt = Annotated[Address, BeforeValidator(grpc_address)]
Networks = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], BeforeValidator(networks)
]
Domains = Annotated[tuple[str, ...], BeforeValidator(domains)]
Words = Annotated[tuple[str, ...], BeforeValidator(csv)]
