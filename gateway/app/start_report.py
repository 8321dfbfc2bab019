"""What a gateway tells of itself when it starts: a short table for people, an event for machines.

No line of either holds a password or a secret.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from gateway import compiled
from gateway.app.gateway_process import GatewayProcess
from gateway.app.setting_types import without_secrets
from gateway.app.settings import Settings
from gateway.config.watcher import ConfigWatcher


def start_event(process: GatewayProcess) -> dict[str, object]:
    """The fields of the event `starting`."""
    settings, plan = process.plan.settings, process.plan
    event: dict[str, object] = {
        "version": version("authgate"),
        "build": compiled.build(),
        **{setting: str(address) for setting, address in process.listeners.told()},
        "public_url": settings.public_url,
        "issuer": settings.token_issuer,
        "auth_prefix": settings.auth_prefix,
        "registration": settings.registration,
        "registration_domains": list(settings.registration_domains),
        "email_verification": settings.email_verification,
        "workers": settings.workers,
        "database": without_secrets(settings.database_url),
        "redis": _redis(settings),
        "data_dir": str(plan.folder.path),
        "routes": _absolute(plan.configuration.files.routes),
        "policies": _absolute(plan.configuration.files.policies),
        "configuration": plan.configuration.snapshot.version,
    }
    if plan.shadow is not None:
        event["shadow"] = _absolute(plan.shadow.files.routes)
    return event


def start_table(process: GatewayProcess, settings_from: str) -> list[tuple[str, str]]:
    """Names and values; `settings_from` says where the settings were read."""
    settings, plan = process.plan.settings, process.plan
    listeners = process.listeners
    scheme = "http" if process.certificates is None else "https"
    issuer = settings.token_issuer
    rows = [
        ("listening", f"{scheme}://{listeners.public}"),
        ("admin", f"http://{listeners.admin}"),
        ("ext_authz", f"{scheme}://{listeners.ext_authz}" if listeners.ext_authz else ""),
        ("public URL", settings.public_url),
        ("issuer", issuer if issuer != settings.public_url else ""),
        ("endpoints", f"{settings.public_url}{settings.auth_prefix}/…"),
        ("registration", _registration(settings)),
        ("mail", without_secrets(settings.smtp_url) if settings.smtp_url else "outbox only"),
        ("settings", settings_from),
        ("configuration", _configuration(plan.configuration)),
        ("shadow", _configuration(plan.shadow) if plan.shadow is not None else ""),
        ("database", without_secrets(settings.database_url)),
        ("redis", _redis(settings)),
        ("data folder", _absolute(plan.folder.path)),
        ("workers", str(settings.workers)),
    ]
    return [(name, value) for name, value in rows if value]


def _registration(settings: Settings) -> str:
    domains = ", ".join(settings.registration_domains)
    return (
        settings.registration
        + (f" to addresses of {domains}" if domains else "")
        + f"; e-mail verification {settings.email_verification}"
    )


def _configuration(watched: ConfigWatcher) -> str:
    files = watched.files
    stale = ", the last good one: the files are wrong" if watched.stale else ""
    return (
        f"{_absolute(files.routes)} and {_absolute(files.policies)}/"
        f" (version {watched.snapshot.version}{stale})"
    )


def _redis(settings: Settings) -> str:
    return "embedded" if settings.embedded_redis else without_secrets(settings.redis_url)


def _absolute(path: Path) -> str:
    return str(path.absolute())
