"""`GATEWAY_*` in the environment (or in `.env`) becomes one frozen `Settings` (contract 3).

Every problem is listed at once.  A problem names the setting, what is wrong with it and what
would be right; it shows the value only where the value is no secret.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "GATEWAY_"
EMBEDDED = "embedded:"
KEY_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Wrong:
    """One wrong setting: `name` as the operator writes it."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class SettingsError(Exception):
    """The settings are wrong; `problems` holds every one of them."""

    def __init__(self, problems: list[Wrong]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


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


def is_loopback(host: str) -> bool:
    """`localhost` and the loopback addresses.  A name is never looked up: what it means may
    change after we have asked."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


def _origin(text: Any) -> str:
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


def _seconds(low: float, high: float) -> BeforeValidator:
    def check(value: Any) -> Any:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return value if isinstance(value, int) else (int(number) if number.is_integer() else number)

    return BeforeValidator(check)


def _whole(low: int, high: int, what: str) -> BeforeValidator:
    def check(value: Any) -> int:
        text = str(value).strip()
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"must be a whole {what} from {low} to {high}")
        return int(text)

    return BeforeValidator(check)


def _share(value: Any) -> float | None:
    if value is None or str(value).strip() == "off":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError("must be off, or the share of allowed calls to write, from 0 to 1")
    return number


def _workers(value: Any) -> int:
    text = str(value).strip()
    if text == "auto":
        return len(os.sched_getaffinity(0))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 256):
        raise ValueError("must be a whole number from 1 to 256, or auto (one a core)")
    return int(text)


def _database_url(value: Any) -> str:
    text = str(value)
    scheme, _, rest = text.partition("://")
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return text
    if scheme in ("postgresql", "postgres") and rest:
        return "postgresql://" + rest
    raise ValueError("must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME")


def _redis_url(value: Any) -> str:
    text = str(value)
    scheme, _, rest = text.partition("://")
    if text == EMBEDDED or (
        scheme in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel") and rest
    ):
        return text
    raise ValueError(
        "must be embedded: or redis://, rediss://, unix:// or redis+sentinel:// with a host"
    )


def _smtp_url(value: Any) -> str:
    text = str(value)
    split = urlsplit(text)
    if split.scheme not in ("smtp", "smtps", "smtp+starttls") or not split.hostname:
        raise ValueError("must be smtp://, smtp+starttls:// or smtps:// with a host")
    return text


def _networks(value: Any) -> Any:
    found, wrong = [], []
    for word in _words(value):
        try:
            found.append(ipaddress.ip_network(word, strict=True))
        except ValueError:
            wrong.append(word)
    if wrong:
        raise ValueError(
            f"holds {', '.join(wrong)}: each must be an address or a network,"
            " such as 10.0.0.0/8 (the host part all zero)"
        )
    return tuple(found)


def _words(value: Any) -> list[str]:
    if isinstance(value, tuple | list):
        return [str(item) for item in value]
    return [word.strip() for word in str(value).split(",") if word.strip()]


def _secret(text: str) -> bytes:
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


def _key_secret(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    _secret(text)
    return SecretStr(text)


def _readable_file(value: Any) -> Path:
    path = Path(str(value))
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("is not a file that can be read")
    return path


def _filled(value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if len(text.encode()) < 16:
        raise ValueError("must hold at least 16 bytes")
    return SecretStr(text)


ListenAt = Annotated[Address, BeforeValidator(parse_address)]
Networks = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode, BeforeValidator(_networks)
]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class Settings(BaseSettings):
    """What an operator may decide.  The field `listen` is `GATEWAY_LISTEN`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
    )

    public_url: Annotated[str, BeforeValidator(_origin)] = "http://127.0.0.1:8080"
    listen: ListenAt = Address("127.0.0.1", 8080)
    admin_listen: ListenAt = Address("127.0.0.1", 9901)
    admin_hosts: Words = ()
    workers: Annotated[int, BeforeValidator(_workers)] = 1
    database_url: Annotated[str, BeforeValidator(_database_url), Field(repr=False)] = (
        "sqlite:///.gateway/gateway.db"
    )
    redis_url: Annotated[str, BeforeValidator(_redis_url), Field(repr=False)] = EMBEDDED
    data_dir: Path = Path(".gateway/")
    key_secret: Annotated[SecretStr, BeforeValidator(_key_secret)] | None = None
    password_pepper: Annotated[SecretStr, BeforeValidator(_filled)] | None = None
    issuer: str = ""
    audience: str = ""
    signing_alg: Literal["RS256", "ES256", "EdDSA"] = "RS256"
    access_ttl_s: Annotated[int, _whole(10, 86_400, "number of seconds")] = 900
    refresh_ttl_s: Annotated[int, _whole(60, 31_536_000, "number of seconds")] = 604_800
    max_token_life_s: Annotated[int, _whole(60, 2_592_000, "number of seconds")] = 86_400
    bcrypt_rounds: Annotated[int, _whole(10, 14, "number")] | None = None
    password_min_length: Annotated[int, _whole(8, 256, "number of characters")] = 8
    email_verification: Literal["required", "optional", "off"] = "required"
    reset_ttl_s: Annotated[int, _whole(60, 86_400, "number of seconds")] = 600
    verify_ttl_s: Annotated[int, _whole(60, 2_592_000, "number of seconds")] = 86_400
    refresh_idle_s: Annotated[int, _whole(0, 31_536_000, "number of seconds")] = 0
    smtp_url: Annotated[str | None, BeforeValidator(_smtp_url), Field(repr=False)] = None
    mail_from: str | None = None
    trusted_proxies: Networks = ()
    max_staleness_s: Annotated[float, _seconds(2, 60)] = 5
    drain_s: Annotated[float, _seconds(0, 600)] = 5
    decision_log: Annotated[float | None, BeforeValidator(_share)] = None
    """The share of allowed calls that the decision log keeps (denials all); None writes none."""
    tls_cert: Annotated[Path, BeforeValidator(_readable_file)] | None = None
    tls_key: Annotated[Path, BeforeValidator(_readable_file)] | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` hands everything in: an empty environment in a test is empty."""
        return (init_settings,)

    @property
    def token_issuer(self) -> str:
        return self.issuer or self.public_url

    @property
    def token_audience(self) -> str:
        return self.audience or self.public_url

    @property
    def off_loopback(self) -> bool:
        """Whether anyone but this machine may reach the public listener."""
        return not (self.listen.loopback and is_loopback(urlsplit(self.public_url).hostname or ""))

    @property
    def embedded_redis(self) -> bool:
        return self.redis_url == EMBEDDED

    def key_secret_bytes(self) -> bytes | None:
        """None where the data folder is to keep one (loopback only)."""
        return _secret(self.key_secret.get_secret_value()) if self.key_secret else None


def names() -> list[str]:
    return [PREFIX + field.upper() for field in Settings.model_fields]


def load(
    environ: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = Path(".env"),
    dev: bool = False,
    **overrides: Any,
) -> Settings:
    """The settings of `environ`, then of `env_file`, then the defaults; `overrides` (from the
    command line, None where not given) win.  Raises SettingsError.

    A setting that is there but empty counts as not given, as `GATEWAY_X=` in a unit file means.
    """
    given: dict[str, Any] = {}
    if env_file is not None and env_file.is_file():
        given |= {k: v for k, v in dotenv_values(env_file, interpolate=False).items() if v}
    given |= {k: v for k, v in (os.environ if environ is None else environ).items() if v}
    given = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    problems = [_unknown(name) for name in sorted(given) if name not in names()]
    values = {
        name.removeprefix(PREFIX).lower(): value for name, value in given.items() if name in names()
    }
    values |= {name: value for name, value in overrides.items() if value is not None}
    if dev:
        problems += _dev_conflicts(values)
        values = {"email_verification": "off", "drain_s": 0, "decision_log": 1, **values}
    if "public_url" not in values and "listen" in values:
        values["public_url"] = _url_of(values)
    settings, wrong = _validated(values)
    problems += wrong
    problems += _unsafe(settings, {problem.name for problem in wrong}, dev=dev)
    if problems:
        raise SettingsError(problems)
    return settings


def _validated(values: dict[str, Any]) -> tuple[Settings, list[Wrong]]:
    """The settings with the default for each value that is wrong, and what is wrong."""
    try:
        return Settings(**values), []
    except ValidationError as error:
        problems: dict[str, Wrong] = {}
        for detail in error.errors(include_url=False, include_input=False, include_context=True):
            field = str(detail["loc"][0])
            problems.setdefault(field, Wrong(PREFIX + field.upper(), _said(detail)))
        good = {name: value for name, value in values.items() if name not in problems}
        return Settings(**good), list(problems.values())


def _said(detail: Any) -> str:
    if detail["type"] == "literal_error":
        return f"must be {detail['ctx']['expected']}".replace("'", "")
    text = str(detail["msg"])
    return text.removeprefix("Value error, ")


def _unknown(name: str) -> Wrong:
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.6)
    return Wrong(name, "there is no such setting" + (f"; {close[0]} is one" if close else ""))


def _url_of(values: Mapping[str, Any]) -> str:
    """The public URL that follows from `listen` when only that is given, on loopback."""
    try:
        listen = parse_address(values["listen"])
    except ValueError:
        return "http://127.0.0.1:8080"
    if not listen.loopback:
        return "http://127.0.0.1:8080"
    return f"{'https' if values.get('tls_cert') else 'http'}://{listen}"


def _dev_conflicts(values: Mapping[str, Any]) -> list[Wrong]:
    """`gateway dev` brings its own stores and one worker: another wish is refused, not lost."""
    problems = []
    if not str(values.get("database_url", "sqlite://")).startswith("sqlite://"):
        problems.append(
            Wrong("GATEWAY_DATABASE_URL", "`gateway dev` uses SQLite; use `gateway serve`")
        )
    if values.get("redis_url", EMBEDDED) != EMBEDDED:
        problems.append(
            Wrong("GATEWAY_REDIS_URL", "`gateway dev` starts its own; use `gateway serve`")
        )
    if str(values.get("workers", 1)) != "1":
        problems.append(Wrong("GATEWAY_WORKERS", "`gateway dev` has 1; use `gateway serve`"))
    return problems


def _unsafe(settings: Settings, wrong: set[str], *, dev: bool) -> list[Wrong]:
    """Combinations that are refused.  Settings that are wrong already are not judged again."""
    url = urlsplit(settings.public_url)
    url_loopback = is_loopback(url.hostname or "")
    found = []
    if dev:
        inside = {
            "GATEWAY_LISTEN": settings.listen.loopback,
            "GATEWAY_ADMIN_LISTEN": settings.admin_listen.loopback,
            "GATEWAY_PUBLIC_URL": url_loopback,
        }
        found += [
            Wrong(n, "`gateway dev` serves loopback only") for n, ok in inside.items() if not ok
        ]
    elif url.scheme == "http" and settings.off_loopback:
        found.append(
            Wrong(
                "GATEWAY_PUBLIC_URL",
                f"{settings.public_url} must be https:// when it is not loopback"
                if not url_loopback
                else "must be the https:// URL that clients use, as GATEWAY_LISTEN is not loopback",
            )
        )
    if not dev and settings.off_loopback and settings.key_secret is None:
        found.append(
            Wrong(
                "GATEWAY_KEY_SECRET",
                "is required outside loopback; `gateway keys secret` prints one",
            )
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = "GATEWAY_TLS_KEY" if settings.tls_key is None else "GATEWAY_TLS_CERT"
        other = "GATEWAY_TLS_CERT" if settings.tls_key is None else "GATEWAY_TLS_KEY"
        found.append(Wrong(missing, f"is missing: {other} alone serves nobody"))
    if settings.listen == settings.admin_listen and settings.listen.port != 0:
        found.append(Wrong("GATEWAY_ADMIN_LISTEN", "must differ from GATEWAY_LISTEN"))
    if settings.access_ttl_s > settings.max_token_life_s:
        found.append(
            Wrong(
                "GATEWAY_ACCESS_TTL_S",
                "must not exceed GATEWAY_MAX_TOKEN_LIFE_S, else no token is good",
            )
        )
    if settings.access_ttl_s > settings.refresh_ttl_s:
        found.append(
            Wrong("GATEWAY_REFRESH_TTL_S", "must not be shorter than GATEWAY_ACCESS_TTL_S")
        )
    if settings.smtp_url is not None and settings.mail_from is None:
        found.append(Wrong("GATEWAY_MAIL_FROM", "is missing: GATEWAY_SMTP_URL needs a sender"))
    if settings.workers > 1 and settings.listen.port == 0:
        found.append(Wrong("GATEWAY_LISTEN", "port 0 serves one worker only"))
    return [problem for problem in found if problem.name not in wrong]
