"""`GATEWAY_*` in the environment (or in `.env`) becomes one frozen `Settings`.

Every problem is listed at once.  A problem names the setting, what is wrong with it and what
would be right; it shows the value only where the value is no secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from gateway.access.renames import renamed_setting
from gateway.access.routing.own_paths import DEFAULT_PREFIX, OwnPaths, url_host
from gateway.app import setting_types as values
from gateway.app.env_file import PREFIX, SettingProblem, given_settings
from gateway.app.setting_types import EMBEDDED, Address, parse_address
from gateway.app.trace_settings import trace_problems
from gateway.config.secrets import is_secret_name
from gateway.identity.accounts.registration_rules import RegistrationMode, RegistrationRules
from gateway.loopback import is_loopback

DEV_DEFAULTS = {
    "registration": "open",
    "email_verification": "off",
    "drain_s": 0,
    "decision_log": 1,
    "access_log": "off",
    # A newcomer is shown lines to try, and what is wrong.
    "log_level": "warning",
}


class SettingsError(Exception):
    """The settings are wrong; `problems` holds every one of them."""

    def __init__(self, problems: list[SettingProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Settings(BaseModel):
    """What an operator may decide.  The field `listen` is `GATEWAY_LISTEN`, and so on: `load` reads
    them and hands them in."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    public_url: Annotated[str, BeforeValidator(values.origin)] = "http://127.0.0.1:8080"
    auth_prefix: Annotated[str, BeforeValidator(values.path_prefix)] = DEFAULT_PREFIX
    listen: values.ListenAt = Address("127.0.0.1", 8080)
    admin_listen: values.ListenAt = Address("127.0.0.1", 9901)
    admin_hosts: values.Words = ()
    admin_url: Annotated[str, BeforeValidator(values.console_origin)] | None = None
    ext_authz_listen: values.ListenForGrpcAt | None = None
    workers: Annotated[int, BeforeValidator(values.workers_wanted)] = 1
    data_dir: Path = Path(".gateway/")
    database_url: Annotated[str, BeforeValidator(values.database_url), Field(repr=False)] = Field(
        default_factory=lambda chosen: sqlite_url(chosen.get("data_dir", Path(".gateway")))
    )
    redis_url: Annotated[str, BeforeValidator(values.redis_url), Field(repr=False)] = EMBEDDED
    key_secret: Annotated[SecretStr, BeforeValidator(values.key_secret)] | None = None
    password_pepper: Annotated[SecretStr, BeforeValidator(values.min_length_secret)] | None = None
    issuer: Annotated[str, BeforeValidator(values.name_of_tokens)] = ""
    audience: Annotated[str, BeforeValidator(values.name_of_tokens)] = ""
    signing_alg: Literal["RS256", "ES256", "EdDSA"] = "RS256"
    key_rotation_s: Annotated[int, BeforeValidator(values.rotation_period)] = 7_776_000
    access_ttl_s: Annotated[int, values.integer(10, 86_400, "number of seconds")] = 900
    refresh_ttl_s: Annotated[int, values.integer(60, 31_536_000, "number of seconds")] = 604_800
    max_token_life_s: Annotated[int, values.integer(60, 2_592_000, "number of seconds")] = 86_400
    bcrypt_rounds: Annotated[int, values.integer(10, 14, "number")] | None = None
    password_min_length: Annotated[int, values.integer(8, 256, "number of characters")] = 8
    registration: RegistrationMode = "invited"
    registration_domains: values.Domains = ()
    email_verification: Literal["required", "optional", "off"] = "required"
    reset_ttl_s: Annotated[int, values.integer(60, 86_400, "number of seconds")] = 600
    verify_ttl_s: Annotated[int, values.integer(60, 2_592_000, "number of seconds")] = 86_400
    refresh_idle_s: Annotated[int, values.integer(0, 31_536_000, "number of seconds")] = 0
    smtp_url: Annotated[str | None, BeforeValidator(values.smtp_url), Field(repr=False)] = None
    mail_from: Annotated[str | None, BeforeValidator(values.mail_from)] = None
    mail_links: Literal["auto", "pages", "application"] = "auto"
    trusted_proxies: values.Networks = ()
    max_staleness_s: Annotated[float, values.seconds(2, 60)] = 5
    drain_s: Annotated[float, values.seconds(0, 600)] = 5
    decision_log: Annotated[float | None, BeforeValidator(values.ratio)] = None
    """The share of allowed calls that the decision log keeps (denials all); None writes none."""
    access_log: Annotated[str, BeforeValidator(values.access_log)] = "refusals"
    access_log_format: Literal["ecs", "combined"] = "ecs"
    access_log_file: Annotated[Path, BeforeValidator(values.appendable_file)] | None = None
    traces: Literal["off", "otlp"] = "off"
    traces_sample: Annotated[float, BeforeValidator(values.share)] = 0.01
    traces_parent: Literal["any", "trusted"] = "any"
    reasons_url: Annotated[str, BeforeValidator(values.reasons_url)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_retention_days: Annotated[int, values.integer(0, 36_500, "number of days")] = 400
    max_header_bytes: Annotated[int, values.integer(1024, 1_048_576, "number of bytes")] = 16_384
    max_header_fields: Annotated[int, values.integer(10, 1000, "number")] = 100
    max_request_line_bytes: Annotated[int, values.integer(512, 65_536, "number of bytes")] = 8_192
    header_timeout_s: Annotated[float, values.seconds(1, 300)] = 10
    body_idle_s: Annotated[float, values.seconds(1, 3600)] = 30
    min_body_bytes_per_s: Annotated[int, values.integer(0, 1_000_000, "number of bytes")] = 500
    client_write_timeout_s: Annotated[float, values.seconds(1, 3600)] = 60
    keepalive_s: Annotated[float, values.seconds(1, 3600)] = 75
    max_connections: Annotated[int, values.integer(10, 1_000_000, "number")] = 10_000
    max_buffered_bytes: Annotated[int, values.integer(1_048_576, 1 << 40, "number of bytes")] = (
        268_435_456
    )
    max_connections_per_address: Annotated[int, values.integer(0, 1_000_000, "number")] = 1_000
    tls_cert: Annotated[Path, BeforeValidator(values.readable_file)] | None = None
    tls_key: Annotated[Path, BeforeValidator(values.readable_file)] | None = None
    secrets_dir: Path | None = None
    """Read by `app/upstream_secrets.py`."""

    @property
    def token_issuer(self) -> str:
        return self.issuer or self.public_url

    @property
    def token_audience(self) -> str:
        return self.audience or self.public_url

    @property
    def registration_rules(self) -> RegistrationRules:
        return RegistrationRules(self.registration, frozenset(self.registration_domains))

    def pages_of_links(self, uses_pages: Callable[[], bool]) -> str | None:
        """The path below which the gateway's own pages are, where mailed links lead to them; None
        where they lead to the application's.  `uses_pages` asks the configuration."""
        to_pages = uses_pages() if self.mail_links == "auto" else self.mail_links == "pages"
        return self.own_paths.endpoint("ui") if to_pages else None

    @property
    def own_paths(self) -> OwnPaths:
        """The well-known documents are on the host of the public URL, and on that of the issuer
        where it is a URL (RFC 8414 section 3); on loopback, under each of its names."""
        urls = (self.public_url, self.token_issuer)
        hosts = {host for url in urls if (host := url_host(url))}
        if any(is_loopback(host.strip("[]")) for host in hosts):
            hosts |= values.LOOPBACK_HOSTS
        return OwnPaths(self.auth_prefix, frozenset(hosts))

    @property
    def off_loopback(self) -> bool:
        """Whether anyone but this machine may reach the public listener."""
        return not (self.listen.loopback and is_loopback(urlsplit(self.public_url).hostname or ""))

    @property
    def embedded_redis(self) -> bool:
        return self.redis_url == EMBEDDED

    @property
    def stores_are_own(self) -> bool:
        """Whether both stores are files of the data folder, which one gateway has at a time: then
        no other node can be of this installation."""
        path = self.database_url.removeprefix("sqlite:///")
        if not self.embedded_redis or path == self.database_url:
            return False
        return Path(path).resolve().is_relative_to(self.data_dir.resolve())

    def key_secret_bytes(self) -> bytes | None:
        """None where the data folder is to keep one (loopback only)."""
        return values.secret_bytes(self.key_secret.get_secret_value()) if self.key_secret else None


def sqlite_url(data_dir: Path) -> str:
    """The database of an installation that names none: a file of its data folder."""
    return f"sqlite:///{data_dir / 'gateway.db'}"


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
    given, problems = given_settings(environ, env_file)
    given = {name: value for name, value in given.items() if not is_secret_name(name)}
    problems += [_unknown(name) for name in sorted(given) if name not in names()]
    chosen = {
        name.removeprefix(PREFIX).lower(): value for name, value in given.items() if name in names()
    }
    chosen |= {name: value for name, value in overrides.items() if value is not None}
    if dev:
        problems += _dev_conflicts(chosen)
        chosen = {**DEV_DEFAULTS, **chosen}
    if "public_url" not in chosen and "listen" in chosen:
        chosen["public_url"] = _url_of(chosen)
    settings, wrong = _validated(chosen)
    problems += wrong
    problems += _unsafe(settings, {problem.name for problem in wrong}, dev=dev)
    problems += trace_problems(environ) if settings.traces != "off" else []
    if problems:
        raise SettingsError(problems)
    return settings


_OF_CONFIGURATION = (
    "auth_prefix", "public_url", "issuer", "reasons_url", "registration",
    "registration_domains",
)  # fmt: skip


def load_for_configuration(
    environ: Mapping[str, str] | None = None, *, env_file: Path | None = Path(".env")
) -> Settings:
    """What a configuration means by: whatever else is wrong with the settings, and is left at its
    default here, does not matter to who reads the files alone.  Raises SettingsError."""
    given, _ = given_settings(environ, env_file)
    chosen = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    if "public_url" not in chosen and "listen" in chosen:
        chosen["public_url"] = _url_of(chosen)
    settings, problems = _validated(
        {name: chosen[name] for name in _OF_CONFIGURATION if name in chosen}
    )
    if problems:
        raise SettingsError(problems)
    return settings


def _validated(chosen: dict[str, Any]) -> tuple[Settings, list[SettingProblem]]:
    """The settings with the default for each value that is wrong, and what is wrong."""
    try:
        return Settings(**chosen), []
    except ValidationError as error:
        problems: dict[str, SettingProblem] = {}
        for detail in error.errors(include_url=False, include_input=False, include_context=True):
            if detail["type"] == "default_factory_not_called":
                continue  # what it would follow from is wrong itself
            field = str(detail["loc"][0])
            problems.setdefault(field, SettingProblem(PREFIX + field.upper(), _said(detail)))
        good = {name: value for name, value in chosen.items() if name not in problems}
        return Settings(**good), list(problems.values())


def _said(detail: Any) -> str:
    if detail["type"] == "literal_error":
        return f"must be {detail['ctx']['expected']}".replace("'", "")
    text = str(detail["msg"])
    return text.removeprefix("Value error, ")


def _unknown(name: str) -> SettingProblem:
    renamed = renamed_setting(name)
    if renamed is not None:
        # Ignored, it would be a silent default.
        return SettingProblem(name, renamed.told)
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.6)
    return SettingProblem(
        name, "there is no such setting" + (f"; {close[0]} is one" if close else "")
    )


def _url_of(chosen: Mapping[str, Any]) -> str:
    """The public URL that follows from `listen` when only that is given, on loopback."""
    try:
        listen = parse_address(chosen["listen"])
    except ValueError:
        return "http://127.0.0.1:8080"
    if not listen.loopback:
        return "http://127.0.0.1:8080"
    return f"{'https' if chosen.get('tls_cert') else 'http'}://{listen}"


def _dev_conflicts(chosen: Mapping[str, Any]) -> list[SettingProblem]:
    """`gateway dev` brings its own stores and one worker: another wish is refused, not lost."""
    problems = []
    if not str(chosen.get("database_url", "sqlite://")).startswith("sqlite://"):
        problems.append(
            SettingProblem("GATEWAY_DATABASE_URL", "`gateway dev` uses SQLite; use `gateway serve`")
        )
    if chosen.get("redis_url", EMBEDDED) != EMBEDDED:
        problems.append(
            SettingProblem("GATEWAY_REDIS_URL", "`gateway dev` starts its own; use `gateway serve`")
        )
    if str(chosen.get("workers", 1)) != "1":
        problems.append(
            SettingProblem("GATEWAY_WORKERS", "`gateway dev` has 1; use `gateway serve`")
        )
    return problems


def _unsafe(settings: Settings, wrong: set[str], *, dev: bool) -> list[SettingProblem]:
    """Combinations that are refused.  Settings that are wrong already are not judged again."""
    url = urlsplit(settings.public_url)
    url_loopback = is_loopback(url.hostname or "")
    found = []
    if dev:
        inside = {
            "GATEWAY_LISTEN": settings.listen.loopback,
            "GATEWAY_ADMIN_LISTEN": settings.admin_listen.loopback,
            "GATEWAY_PUBLIC_URL": url_loopback,
            "GATEWAY_EXT_AUTHZ_LISTEN": settings.ext_authz_listen is None
            or settings.ext_authz_listen.loopback,
        }
        found += [
            SettingProblem(n, "`gateway dev` serves loopback only")
            for n, ok in inside.items()
            if not ok
        ]
    elif url.scheme == "http" and settings.off_loopback:
        found.append(
            SettingProblem(
                "GATEWAY_PUBLIC_URL",
                f"{settings.public_url} must be https:// when it is not loopback"
                if not url_loopback
                else "must be the https:// URL that clients use, as GATEWAY_LISTEN is not loopback",
            )
        )
    if not dev and settings.off_loopback and settings.key_secret is None:
        found.append(
            SettingProblem(
                "GATEWAY_KEY_SECRET",
                "is required outside loopback; `gateway keys secret` prints one",
            )
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = "GATEWAY_TLS_KEY" if settings.tls_key is None else "GATEWAY_TLS_CERT"
        other = "GATEWAY_TLS_CERT" if settings.tls_key is None else "GATEWAY_TLS_KEY"
        found.append(SettingProblem(missing, f"is missing: {other} alone serves nobody"))
    if settings.listen == settings.admin_listen and settings.listen.port != 0:
        found.append(SettingProblem("GATEWAY_ADMIN_LISTEN", "must differ from GATEWAY_LISTEN"))
    if settings.admin_url == settings.public_url:
        found.append(SettingProblem("GATEWAY_ADMIN_URL", "must differ from GATEWAY_PUBLIC_URL"))
    if settings.ext_authz_listen in (settings.listen, settings.admin_listen):
        found.append(
            SettingProblem(
                "GATEWAY_EXT_AUTHZ_LISTEN", "must differ from GATEWAY_LISTEN, GATEWAY_ADMIN_LISTEN"
            )
        )
    if settings.access_ttl_s > settings.max_token_life_s:
        found.append(
            SettingProblem(
                "GATEWAY_ACCESS_TTL_S",
                "must not exceed GATEWAY_MAX_TOKEN_LIFE_S, else no token is good",
            )
        )
    if settings.access_ttl_s > settings.refresh_ttl_s:
        found.append(
            SettingProblem("GATEWAY_REFRESH_TTL_S", "must not be shorter than GATEWAY_ACCESS_TTL_S")
        )
    if (
        not dev
        and settings.registration == "open"
        and settings.registration_domains
        and settings.email_verification != "required"
    ):
        found.append(
            SettingProblem(
                "GATEWAY_REGISTRATION_DOMAINS",
                "needs GATEWAY_EMAIL_VERIFICATION=required where registration is open: else who"
                " types such an address is taken at their word",
            )
        )
    if settings.smtp_url is not None and settings.mail_from is None:
        found.append(
            SettingProblem("GATEWAY_MAIL_FROM", "is missing: GATEWAY_SMTP_URL needs a sender")
        )
    if settings.workers > 1 and settings.listen.port == 0:
        found.append(SettingProblem("GATEWAY_LISTEN", "port 0 serves one worker only"))
    return [problem for problem in found if problem.name not in wrong]
