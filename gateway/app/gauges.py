"""What a worker shows of its state, read when somebody asks for `/metrics`."""

from __future__ import annotations

import platform
from importlib.metadata import version

from gateway import compiled
from gateway.app.worker import App


def add_gauges(app: App) -> None:
    gauge = app.components.metrics.gauge
    configuration = app.components.plan.configuration
    gauge(
        "config_stale",
        "1 while the files are wrong and the last good configuration runs.",
        lambda: float(configuration.stale),
    )
    gauge(
        "replica_staleness_seconds",
        "Since this worker last confirmed what has been revoked.",
        lambda: app.components.replica.staleness_s,
    )
    gauge(
        "connections",
        "Open connections of the public listener.",
        lambda: float(app.connections),
    )
    gauge(
        "buffered_bytes",
        "Held for clients, and of bodies for upstreams, that are slow to take them.",
        lambda: float(app.buffered_bytes),
    )
    gauge(
        "websockets",
        "Open WebSockets of the public listener.",
        lambda: float(len(app.components.long_lived.tunnels)),
    )
    gauge(
        "long_lived_requests",
        "Sockets and long answers that end with the session of their caller.",
        lambda: float(len(app.components.long_lived)),
    )
    gauge(
        "token_cache_entries",
        "Tokens whose signature is remembered as good.",
        lambda: float(len(app.components.authenticator)),
    )
    app.components.metrics.labelled_gauge(
        "issuer_keys_age_seconds",
        "Since the keys of an issuer were fetched.",
        "issuer",
        lambda: {n: keys.age_s for n, keys in app.components.issuer_tokens.key_sets.items()},
    )
    app.components.metrics.labelled_gauge(
        "issuer_failing",
        "1 while the last fetch of an issuer's keys, or the last question to it, failed.",
        "issuer",
        lambda: _failing(app),
    )
    app.components.metrics.labelled_gauge(
        "provider_failing",
        "1 while the last question to a provider by which people sign in failed.",
        "provider",
        lambda: {
            name: float(app.components.provider_client.last_error(provider) is not None)
            for name, provider in configuration.snapshot.providers.items()
        },
    )
    gauge(
        "password_hash_jobs",
        "Password hashes under way or waiting for a thread.",
        lambda: float(app.components.auth_api.hashing()),
    )
    if (shown := app.components.certificates) is not None:
        gauge(
            "certificate_stale",
            "1 while the files of the listener's certificate are not what it shows.",
            lambda: float(shown.stale),
        )
        gauge(
            "certificate_expiration_timestamp_seconds",
            "When the certificate that is shown ends, in seconds since the epoch.",
            lambda: shown.expires_at,
        )
    gauge(
        "clock_offset_seconds",
        "How far the clock of the store that is furthest off is ahead of this machine's.",
        lambda: app.components.clock_monitor.offset_s,
    )
    gauge("ready", "1 while this worker can decide.", lambda: float(app.ready))
    gauge(
        "sql_up",
        "1 while the SQL store answers.",
        lambda: float(not app.components.sql_watch.unavailable),
    )
    gauge(
        "redis_up",
        "0 while the last call to Redis failed for want of it.",
        lambda: float(not app.components.redis.is_unavailable),
    )
    runs = {
        "version": version("authgate"),
        "python": platform.python_version(),
        "build": compiled.build(),
    }
    configuration = app.components.plan.configuration
    told = "The version that runs, its Python, and whether it is compiled."
    app.components.metrics.info("build", told, lambda: runs)
    app.components.metrics.info(
        "config",
        "The configuration that runs: nodes with the same files show the same.",
        lambda: {"version": configuration.snapshot.version},
    )


def _failing(app: App) -> dict[str, float]:
    """By issuer; `/readyz` has the words."""
    tokens = app.components.issuer_tokens
    errors = [(name, keys.last_error) for name, keys in tokens.key_sets.items()]
    errors += [(name, asked.last_error) for name, asked in tokens.introspectors.items()]
    failing = {name for name, error in errors if error is not None}
    return {name: float(name in failing) for name, _ in errors}
