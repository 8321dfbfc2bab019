"""The files by which the gateway knows an upstream or an issuer, and shows itself to it.

Law: they are looked at when the configuration is, so what cannot work is a problem with its
location before any call meets it.  Files that are written anew count from the next connection on;
where the new ones are no good, what was good before goes on.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from contextlib import suppress

from gateway.access.definitions import Tls
from gateway.access.issuers import Issuer
from gateway.access.snapshot import Snapshot
from gateway.bounded_memo import BoundedMemo
from gateway.model import NOWHERE, ConfigProblem

FileStamp = tuple[tuple[int, int, int, int], ...]
"""What differs once a file was written anew, replaced, or led elsewhere by a link."""

_MISSING = (0, 0, 0, -1)
_KEPT_MAX = 1_024


def tls_of_issuer(issuer: Issuer) -> Tls | None:
    """How its server is known; None where the machine's authorities vouch for it."""
    if issuer.ca is None:
        return None
    return Tls(ca=issuer.ca, locations={"ca": issuer.ca_location})


def tls_of_snapshot(snapshot: Snapshot) -> list[Tls]:
    """All that a configuration names files for."""
    named = [upstream.tls for upstream in snapshot.upstreams.values()]
    named += [tls_of_issuer(issuer) for issuer in snapshot.issuers.values()]
    named += [tls_of_issuer(provider.issuer) for provider in snapshot.providers.values()]
    return [tls for tls in named if tls is not None]


def paths(tls: Tls | None) -> tuple[str, ...]:
    if tls is None:
        return ()
    return tuple(path for path in (tls.ca, tls.certificate, tls.key) if path is not None)


def file_stamp(files: Iterable[str]) -> FileStamp:
    stamps = []
    for file in files:
        try:
            status = os.stat(file)
            stamps.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
        except OSError:
            stamps.append(_MISSING)
    return tuple(stamps)


class TlsContexts:
    """The contexts of a worker's connections to its upstreams, each made once for what its files
    hold: reading authorities takes tens of milliseconds."""

    def __init__(self) -> None:
        self._made: BoundedMemo[Tls | None, tuple[FileStamp, ssl.SSLContext]]
        self._made = BoundedMemo(_KEPT_MAX)
        # Files that are no good are not read again for every connection.
        self._refused: BoundedMemo[Tls | None, FileStamp] = BoundedMemo(_KEPT_MAX)

    def context(self, tls: Tls | None) -> ssl.SSLContext:
        """Certificates and names are verified, TLS 1.2 at least.

        OSError when a file cannot be used and nothing good was made of these paths before.
        """
        now = file_stamp(paths(tls))
        made = self._made.get(tls)
        if made is not None and made[0] == now:
            return made[1]
        try:
            if self._refused.get(tls) == now:
                raise OSError("a file of the upstream's `tls` is no good")
            context = _new_context(tls)
        except OSError:
            self._refused.keep(tls, now)
            if made is None:
                raise
            return made[1]
        self._made.keep(tls, (now, context))
        return context

    def problems(self, named: Iterable[Tls]) -> list[ConfigProblem]:
        """Every file of these that cannot be used, where it is named.

        What is good is made ready: to read it while calls wait would hold them all up.
        """
        problems = []
        for tls in named:
            unusable = _unusable(tls)
            for name, text in unusable:
                problems.append(ConfigProblem.at(tls.locations.get(name, NOWHERE), text))
            if not unusable:
                with suppress(OSError):  # written anew meanwhile: the next look finds out
                    self.context(tls)
        return problems


def _unusable(tls: Tls) -> list[tuple[str, str]]:
    """Which of the files are no good, and why."""
    named = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
    unusable = []
    for name, path in named.items():
        if path is not None:
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError as error:
                unusable.append((name, f"`{path}` cannot be read: {error.strerror}"))
    unread = {name for name, _ in unusable}
    if tls.ca is not None and "ca" not in unread:
        try:
            ssl.create_default_context(cafile=tls.ca)
        except ssl.SSLError:
            unusable.append(("ca", f"`{tls.ca}` holds no certificate of an authority in PEM"))
    if tls.certificate is not None and not unread & {"certificate", "key"}:
        unusable += _unusable_pair(tls.certificate, tls.key)
    return unusable


def _unusable_pair(certificate: str, key: str | None) -> list[tuple[str, str]]:
    private, name = (key, "key") if key is not None else (certificate, "certificate")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            certificate, key, password=_no_password
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [(name, f"`{private}` is not the key of the certificate `{certificate}`")]
        try:
            ssl.create_default_context(cafile=certificate)
        except ssl.SSLError:
            return [("certificate", f"`{certificate}` holds no certificate in PEM")]
        return [(name, f"`{private}` holds no private key in PEM")]
    except OSError:
        return [(name, f"`{private}` is encrypted: the gateway reads keys without a passphrase")]
    return []


def _new_context(tls: Tls | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if tls is None else tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None and tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    return context


def _no_password() -> str:
    raise OSError("the key is encrypted")
