"""What one installation is made of before any worker runs, and what every worker starts from.

What only an operator can mend (a wrong URL, a mail template that cannot be filled, keys sealed
under another secret) is found here, by the master, so that no worker ever fails to boot for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.app.data_dir import DataFolder
from gateway.app.settings import Settings
from gateway.app.shared_settings import SettingsDiffer, agree, shared
from gateway.app.tracing import check_traces
from gateway.config.watcher import ConfigWatcher
from gateway.edge.pages.overrides import PAGES, PageOverrides, load_overrides
from gateway.identity.accounts.passwords import calibrated_rounds
from gateway.identity.accounts.rekeying import rekey
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys import signing_keys
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg, PrivateKey, generate
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplates
from gateway.model import Change
from gateway.revocation.stream_identity import another_stream_is_followed
from gateway.stores.migrations import status, upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database, RevocationPublisher, StoreUnavailable
from gateway.stores.redis import open_redis
from gateway.stores.stream import RedisChangeStream

log = structlog.get_logger(__name__)

TEMPLATES = Path("mail")
"""Where an operator's own mail templates are looked for, beside `routes.yaml`."""


@dataclass
class BootstrapContext:
    """What every worker of one gateway is built from."""

    settings: Settings
    folder: DataFolder
    configuration: ConfigWatcher
    redis_url: str = ""
    """Where Redis is, once the embedded one is started."""
    shadow: ConfigWatcher | None = None
    """A configuration that judges beside the traffic and enforces nothing."""
    templates: MailTemplates | None = None
    """Read by `initialize`; a worker that is replaced has them even when they are gone."""
    make_key: Callable[[Alg], PrivateKey] = generate
    """Makes a signing key, in a thread."""
    page_overrides: PageOverrides = field(default_factory=PageOverrides)
    """The same."""

    def key_secret(self) -> bytes:
        return self.settings.key_secret_bytes() or self.folder.key_secret()


def initialize(plan: BootstrapContext) -> None:
    """Everything that can be wrong for good, and what a fresh installation lacks; once, in the
    master, before it forks.  A store that is away is left to the workers.

    Raises ValueError (SettingsDiffer and InvalidPages too), InvalidMail, FolderError,
    SchemaProblem, WrongSecret.
    """
    settings = plan.settings
    site = settings.public_url.partition("://")[2]
    check_traces(settings)
    plan.page_overrides = load_overrides(PAGES)
    plan.templates = MailTemplates.load([TEMPLATES], site=site, public_url=settings.public_url)

    async def whole() -> None:
        await open_redis(plan.redis_url).close()
        database = open_database(settings.database_url)
        sealer = Sealer(plan.key_secret())
        make_mailer(plan, database)
        rotation = make_key_rotation(plan, database, sealer, _Nobody())
        try:
            await prepare(plan, database, rotation)
            async with database.transaction() as tx:
                # Raises WrongSecret: with another secret nothing here could be signed.
                await signing_keys.lock(tx, sealer)
            await _agree(plan, database)
        except StoreUnavailable as error:
            log.warning(
                "waiting-for-store",
                what="start",
                store=error.store,
                why=error.detail,
                effect="sign-in and calls with a credential are answered 503 meanwhile",
            )
        finally:
            await database.close()

    asyncio.run(whole())


async def _agree(plan: BootstrapContext, database: Database) -> None:
    """With whoever serves the same database already.  Raises SettingsDiffer."""
    settings = plan.settings
    own = shared(settings, plan.key_secret())
    if settings.stores_are_own:
        await agree(database, own, None, settings.max_staleness_s)
        return
    redis = open_redis(plan.redis_url, durable=settings.embedded_redis)
    stream = RedisChangeStream(redis)

    async def incarnation() -> str:
        return (await stream.view()).incarnation

    try:
        if await another_stream_is_followed(database, incarnation):
            raise SettingsDiffer(
                "another node of this database runs with another Redis, and would hear of no"
                " sign-out here: give every node the same GATEWAY_REDIS_URL"
            )
        await agree(database, own, stream, settings.max_staleness_s)
    finally:
        await redis.close()


async def prepare(plan: BootstrapContext, database: Database, rotation: KeyRotation) -> None:
    """The schema, the first signing keys and the cost of a hash: each made once for the whole
    installation, whichever process comes first.  Raises StoreUnavailable."""
    await upgrade(database)
    if ahead := (await status(database)).ahead:
        log.warning("schema-is-ahead", migrations=list(ahead))
    for left in await rekey(database):
        log.warning("address-unreached", user_id=left.user_id, kept_by=left.kept_by)
    await rotation.ensure()
    await calibrated_rounds(database, plan.settings.bcrypt_rounds)


def make_key_rotation(
    plan: BootstrapContext,
    database: Database,
    sealer: Sealer,
    publisher: RevocationPublisher,
    *,
    confirmations: Database | None = None,
) -> KeyRotation:
    return KeyRotation(
        database,
        sealer,
        publisher,
        alg=plan.settings.signing_alg,
        max_token_life_s=plan.settings.max_token_life_s,
        make=plan.make_key,
        confirmations=confirmations,
    )


def make_mailer(plan: BootstrapContext, database: Database) -> MailOutbox:
    """Brings mail to the server of the settings; without one it stays in the outbox."""
    settings = plan.settings
    assert plan.templates is not None

    transport = None
    if settings.smtp_url is not None:
        from gateway.identity.mail.smtp import SmtpServer, SmtpTransport

        transport = SmtpTransport(SmtpServer.parse(settings.smtp_url))
    options = MailOptions(
        sender=settings.mail_from or "authgate <no-reply@localhost>",
        public_url=settings.public_url,
        token_key=derived_key(plan.key_secret(), KeyPurpose.MAIL_TOKEN),
        verify_ttl_s=settings.verify_ttl_s,
        reset_ttl_s=settings.reset_ttl_s,
        pages=lambda: settings.pages_of_links(lambda: plan.configuration.snapshot.uses_pages),
    )
    return MailOutbox(database, plan.templates, options, transport)


class _Nobody:
    """Nobody listens before the workers are there."""

    async def publish(self, changes: Sequence[Change]) -> bool:
        del changes
        return True
