"""What the processes of one gateway share: where they listen, and what the master keeps alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from gateway.app.bootstrap import BootstrapContext, initialize
from gateway.app.early_work import EarlyWork
from gateway.app.quickstart import DemoUser
from gateway.app.setting_types import Address
from gateway.app.supervision import Deaths, Readiness, Systemd
from gateway.app.worker import App
from gateway.edge.server.listener_tls import Certificates
from gateway.identity.keys.jwk import Alg, PrivateKey, generate
from gateway.identity.keys.rotation import FIRST_KEYS
from gateway.stores.embedded import EmbeddedValkey, ServerMissing
from gateway.stores.open_database import sqlite_path


@dataclass
class Listeners:
    """Where a worker listens, in the order in which gunicorn opens the sockets."""

    public: Address
    admin: Address
    demo: Address | None = None
    ext_authz: Address | None = None
    """Opened by each worker itself, after its fork: gunicorn does not know of it."""

    def named(self) -> list[tuple[str, Address]]:
        found = [("GATEWAY_LISTEN", self.public), ("GATEWAY_ADMIN_LISTEN", self.admin)]
        return found + ([("--demo-listen", self.demo)] if self.demo else [])

    def told(self) -> list[tuple[str, Address]]:
        """All of them."""
        named = self.named()
        return named + ([("GATEWAY_EXT_AUTHZ_LISTEN", self.ext_authz)] if self.ext_authz else [])


@dataclass
class GatewayProcess:
    """All that the processes of one gateway share."""

    plan: BootstrapContext
    listeners: Listeners
    certificates: Certificates | None = None
    """What the public listener shows; None where it speaks plain HTTP."""
    valkey: EmbeddedValkey | None = None
    """The embedded one, which the master keeps alive beside its workers."""
    _early_keys: EarlyWork[PrivateKey] | None = None
    welcome: Callable[[App, DemoUser], None] | None = None
    """Told once, when the first worker can decide: what `gateway dev` prints."""
    readiness: Readiness = field(default_factory=Readiness)
    deaths: Deaths = field(default_factory=Deaths)
    systemd: Systemd = field(default_factory=lambda: Systemd(None))

    def begin_stores(self) -> None:
        """What takes long and needs no configuration: the embedded Valkey of an earlier start
        reads what it holds, and the keys of a first one are made.

        From the main thread.  Raises nothing: what is in the way of it `open_stores` tells, after
        all that is told before it.
        """
        settings, folder = self.plan.settings, self.plan.folder.path
        if not settings.stores_are_own:
            return
        if (folder / "valkey").is_dir():
            valkey = EmbeddedValkey(folder)
            with suppress(ServerMissing, OSError):
                valkey.begin()
                self.valkey = valkey
        # Of `os`, which answers no where it may not look.
        if not os.path.exists(sqlite_path(settings.database_url)):
            alg = Alg(settings.signing_alg)
            keys = EarlyWork(partial(generate, alg), FIRST_KEYS)
            self.plan.make_key = lambda asked: keys.take() if asked is alg else generate(asked)
            self._early_keys = keys

    def open_stores(self) -> None:
        """Starts the embedded Valkey, and makes what a fresh installation lacks.

        From the main thread, before any fork.  Raises CertificateWrong, ServerMissing,
        StoreUnavailable (the embedded one only: any other may come back), and what `initialize`
        raises; what was begun by then is for `stop_stores`.
        """
        settings = self.plan.settings
        if settings.tls_cert is not None and settings.tls_key is not None:
            self.certificates = Certificates(settings.tls_cert, settings.tls_key)
        self.plan.redis_url = settings.redis_url
        if settings.embedded_redis and self.valkey is None:
            self.valkey = EmbeddedValkey(self.plan.folder.path)
        if self.valkey is not None:
            own = settings.stores_are_own
            self.plan.redis_url = self.valkey.begin() if own else self.valkey.start()
        initialize(self.plan)
        if self.valkey is not None:
            # Where both stores are our own, nothing before has asked it.
            self.valkey.start()
        if self._early_keys is not None:
            self._early_keys.wait()  # nothing but this thread may be there when it forks
            self._early_keys, self.plan.make_key = None, generate

    def stop_stores(self) -> None:
        """Ends the embedded Valkey, if there is one: the last thing that a gateway does, and what
        a start that is refused does with what it has begun."""
        if self.valkey is not None:
            self.valkey.stop()
