"""What `gateway doctor` finds out of the machine, the files and the settings, beside the stores.

Each finding that is not good says what to do.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from gateway.access.snapshot import Snapshot
from gateway.app.data_dir import DataFolder
from gateway.app.settings import Settings
from gateway.cli.environment import SERVICE_FILE
from gateway.edge.server.descriptors import RESERVED
from gateway.edge.server.listener_tls import Certificates, CertificateWrong
from gateway.identity.mail.smtp import SmtpServer
from gateway.loopback import is_loopback
from gateway.stores.health import Finding, State
from gateway.stores.protocols import Database
from gateway.telemetry.refusal_socket import SUFFIX

CERTIFICATE_ENDS_SOON_S = timedelta(days=14).total_seconds()
KEY_IS_OLD_S = timedelta(days=400).total_seconds()
LATE_ROTATION_S = timedelta(days=1).total_seconds()
CONNECT_WITHIN_S = 3.0
MANY_ADDRESSES = 2**24
"""In one block: more than anybody has proxies."""
_SECRET = re.compile(rb"SECRET|PEPPER|://[^/@\s]*:[^/@\s]+@")
SESSIONS_OF_A_WORKER = 11
"""Of PostgreSQL, at most: those of its pool, and the one that asks whether it is there."""


def machine_findings(chosen: Settings, now: float) -> list[Finding]:
    folder = DataFolder(chosen.data_dir)
    return [
        descriptors(chosen, hard_limit(folder.workers)),
        entropy(),
        permissions(private_files(chosen, folder.path)),
        certificate(chosen, now),
        proxies(chosen),
        public_url(chosen),
        mail(chosen),
    ]


def hard_limit(workers: Path) -> tuple[int, str]:
    """Of open files, and whose it is: a running worker's, else that of this shell."""
    for name in sorted(workers.glob(f"*{SUFFIX}")) if workers.is_dir() else ():
        with suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{name.name.removesuffix(SUFFIX)}/limits").read_text().splitlines()
            line = next(line for line in lines if line.startswith("Max open files"))
            return int(line.split()[4]), "of the running workers"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard, "of this shell, as no gateway runs"


def descriptors(chosen: Settings, limit: tuple[int, str]) -> Finding:
    hard, whose = limit
    wanted = chosen.max_connections * 3 // 2 + RESERVED
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding("open-files", State.GOOD, f"{hard} {whose}")
    detail = (
        f"{hard} {whose}, and GATEWAY_MAX_CONNECTIONS={chosen.max_connections} needs {wanted}:"
        f" raise it (LimitNOFILE={wanted} in the unit, or `ulimit -Hn`), or lower the setting"
    )
    return Finding("open-files", State.WARNING, detail)


def entropy() -> Finding:
    """Keys and tokens are drawn from the kernel, which blocks until it has been seeded."""
    try:
        os.getrandom(1, os.GRND_NONBLOCK)
    except BlockingIOError:
        detail = "the kernel has no randomness yet: a start waits; give the machine a virtio-rng"
        return Finding("entropy", State.BAD, detail)
    return Finding("entropy", State.GOOD, "the kernel's generator is seeded")


def private_files(chosen: Settings, folder: Path) -> list[Path]:
    """What nobody but the gateway's user may read."""
    found = [folder] if folder.is_dir() else []
    with suppress(OSError):
        found += [path for path in folder.iterdir() if path.is_file()]
    if chosen.tls_key is not None:
        found.append(chosen.tls_key)
    for file in (Path(".env").absolute(), SERVICE_FILE):
        with suppress(OSError):
            if _SECRET.search(file.read_bytes()):
                found.append(file)
    return found


def permissions(paths: Iterable[Path]) -> Finding:
    wrong = []
    for path in paths:
        with suppress(OSError):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o007 and _is_reached(path):
                wrong.append(f"{path} (mode {mode:04o})")
    if not wrong:
        return Finding("permissions", State.GOOD, "nobody else can read keys and secrets")
    detail = f"everybody on this machine reaches {', '.join(wrong)}: chmod o= each of them"
    return Finding("permissions", State.BAD, detail)


def _is_reached(path: Path) -> bool:
    """Whether no folder above is closed to others."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def certificate(chosen: Settings, now: float) -> Finding:
    if chosen.tls_cert is None or chosen.tls_key is None:
        who = "none here: a proxy in front speaks TLS" if chosen.off_loopback else "none"
        return Finding("certificate", State.GOOD, who)
    try:
        ends_at = Certificates(chosen.tls_cert, chosen.tls_key).expires_at
        first = x509.load_pem_x509_certificates(chosen.tls_cert.read_bytes())[0]
    except CertificateWrong as wrong:
        return Finding("certificate", State.BAD, str(wrong))
    left_s = ends_at - now
    days = int(left_s // 86_400)
    if left_s <= 0:
        detail = f"ended {-days} days ago: put a new one into {chosen.tls_cert}; it is followed"
        return Finding("certificate", State.BAD, detail)
    host = urlsplit(chosen.public_url).hostname or ""
    if not is_loopback(host) and not _is_for(first, host):
        detail = f"{chosen.tls_cert} is not for {host}, the host of GATEWAY_PUBLIC_URL"
        return Finding("certificate", State.BAD, f"{detail}: get one that names it")
    if left_s < CERTIFICATE_ENDS_SOON_S:
        detail = f"ends in {days} days, and nothing has renewed it: look at your ACME client"
        return Finding("certificate", State.WARNING, detail)
    return Finding("certificate", State.GOOD, f"good for {days} days")


def _is_for(first: x509.Certificate, host: str) -> bool:
    """RFC 9525 section 6.3: a wildcard stands for the whole first label, and for no more."""
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    addresses = {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    return host in dns | addresses or f"*.{host.partition('.')[2]}" in dns


def proxies(chosen: Settings) -> Finding:
    """Who is behind TLS that ends elsewhere, and trusts nobody, takes the proxy for the client."""
    if chosen.trusted_proxies:
        named = ", ".join(str(network) for network in chosen.trusted_proxies)
        wide = [str(one) for one in chosen.trusted_proxies if one.num_addresses > MANY_ADDRESSES]
        if wide:
            detail = (
                f"{', '.join(wide)} is very many: each of them may say which address a client has;"
                " name the proxies alone in GATEWAY_TRUSTED_PROXIES"
            )
            return Finding("proxies", State.WARNING, detail)
        return Finding("proxies", State.GOOD, named)
    https = urlsplit(chosen.public_url).scheme == "https"
    if https and chosen.tls_cert is None:
        detail = (
            "none, and TLS ends in front of the gateway: every client has the proxy's address, so"
            " that limits and attempts are shared by all; name it in GATEWAY_TRUSTED_PROXIES"
        )
        return Finding("proxies", State.WARNING, detail)
    return Finding("proxies", State.GOOD, "none: no X-Forwarded-* is believed")


def ext_authz(chosen: Settings, found: Snapshot | None) -> Finding:
    """Whether those who reach the listener of gRPC are those who are answered there."""
    listen = chosen.ext_authz_listen
    if listen is None or listen.loopback or found is None:
        return Finding("ext-authz", State.GOOD, "nobody asks" if listen is None else str(listen))
    peers = [ip_network(peer) for peer in found.trusted_peers]
    if all(peer.is_loopback for peer in peers):
        named = "names this machine alone" if peers else "names nobody"
        detail = (
            f"listens at {listen}, and decision_api.trusted_peers {named}: every proxy elsewhere is"
            " refused; name the addresses that your proxies ask from in routes.yaml, or let"
            " GATEWAY_EXT_AUTHZ_LISTEN be on 127.0.0.1"
        )
        return Finding("ext-authz", State.WARNING, detail)
    wide = [str(peer) for peer in peers if peer.num_addresses > MANY_ADDRESSES]
    if wide:
        detail = (
            f"{', '.join(wide)} is very many: each of them may say what a call was; name the"
            " proxies alone in decision_api.trusted_peers"
        )
        return Finding("ext-authz", State.WARNING, detail)
    return Finding("ext-authz", State.GOOD, f"{listen}, for {', '.join(found.trusted_peers)}")


def public_url(chosen: Settings) -> Finding:
    host = urlsplit(chosen.public_url).hostname or ""
    try:
        if not is_loopback(host):
            socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        detail = (
            f"{host} of GATEWAY_PUBLIC_URL has no address here: links in mails lead nowhere, and"
            " issuers cannot call back; correct the setting or the DNS"
        )
        return Finding("public-url", State.WARNING, detail)
    return Finding("public-url", State.GOOD, chosen.public_url)


def mail(chosen: Settings) -> Finding:
    if chosen.smtp_url is None:
        if chosen.off_loopback and chosen.email_verification != "off":
            detail = (
                "no mail goes out: nobody can verify an address or reset a password; name a server"
                " in GATEWAY_SMTP_URL, and the sender in GATEWAY_MAIL_FROM"
            )
            return Finding("mail", State.WARNING, detail)
        return Finding("mail", State.GOOD, "stays in the outbox, which the admin page shows")
    try:
        server = SmtpServer.parse(chosen.smtp_url)
    except ValueError as error:
        return Finding("mail", State.BAD, f"GATEWAY_SMTP_URL {error}")
    try:
        with socket.create_connection((server.host, server.port), CONNECT_WITHIN_S) as client:
            client.settimeout(CONNECT_WITHIN_S)
            greeting = b"220" if server.tls == "implicit" else client.recv(200)
    except OSError as error:
        why = error.strerror or "no answer in time"
        detail = f"{server.host}:{server.port} cannot be reached: {why}; mails wait in the outbox"
        return Finding("mail", State.WARNING, f"{detail} until it is (GATEWAY_SMTP_URL)")
    if not greeting.startswith(b"220"):
        detail = f"what answers at {server.host}:{server.port} is no mail server: GATEWAY_SMTP_URL"
        return Finding("mail", State.WARNING, detail)
    return Finding("mail", State.GOOD, f"{server.host}:{server.port} answers")


async def signing_key(database: Database, chosen: Settings, now: float) -> Finding:
    """Whether the key that signs is renewed as it is meant to be."""
    async with database.read_transaction() as tx:
        row = await tx.one("SELECT activated_at FROM signing_keys WHERE state = 'active'")
    if row is None:
        return Finding("signing-key", State.GOOD, "none yet: the first start makes one")
    age_s = now - int(row["activated_at"] or now)
    days, period_s = int(age_s // 86_400), chosen.key_rotation_s
    if period_s and age_s > period_s + LATE_ROTATION_S:
        detail = (
            f"signs for {days} days, longer than GATEWAY_KEY_ROTATION_S={period_s}: no gateway has"
            " rotated it; look at /readyz and the log, or `gateway keys rotate`"
        )
        return Finding("signing-key", State.WARNING, detail)
    if not period_s and age_s > KEY_IS_OLD_S:
        detail = f"signs for {days} days, and nothing rotates it: `gateway keys rotate`"
        return Finding("signing-key", State.WARNING, detail)
    return Finding("signing-key", State.GOOD, f"signs for {days} days")


async def sql_connections(database: Database, workers: int) -> Finding | None:
    """Whether PostgreSQL takes as many sessions as the workers of this node may open."""
    if database.dialect != "postgresql":
        return None
    async with database.read_transaction() as tx:
        rows = await tx.all(
            "SELECT name, setting FROM pg_settings WHERE name IN ('max_connections',"
            " 'superuser_reserved_connections')"
        )
    values = {str(row["name"]): int(row["setting"]) for row in rows}
    room = values["max_connections"] - values["superuser_reserved_connections"]
    wanted = workers * SESSIONS_OF_A_WORKER
    if wanted > room:
        detail = (
            f"{workers} workers may open {wanted} sessions, and max_connections leaves {room}:"
            " raise it in PostgreSQL, or have fewer workers"
        )
        return Finding("sql-sessions", State.WARNING, detail)
    return Finding("sql-sessions", State.GOOD, f"{wanted} at most of {room}, for this node")
