"""The certificate that the public listener shows, followed while its files change.

Law: a pair is used once it was read whole and fits together; until then the one before goes on.
Each handshake takes what is current at that moment, so connections that are open stay as they
are, and nothing is ever closed for a new certificate.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509

from gateway.config.upstream_tls import FileStamp, file_stamp

log = structlog.get_logger(__name__)

POLL_EVERY_S = 1.0


class CertificateWrong(Exception):
    """The two files cannot be used; the text names the setting and says why."""


class Certificates:
    """`context` is for the listener, once and for all; `poll` is called every POLL_EVERY_S.

    The master makes it and polls too: a worker that is replaced while the files are broken
    shows what its master last had.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (str(certificate), str(key))
        self._loaded = self._seen = file_stamp(self._files)
        self._refused: FileStamp | None = None
        self._current, self.expires_at, self.pem = _read(*self._files)
        """`expires_at`: when the certificate ends, in seconds since the epoch.  `pem`: the key and
        the certificates, for listeners with a TLS of their own; another object once renewed."""
        self.context = _context(*self._files)
        self.context.sni_callback = self._choose

    @property
    def stale(self) -> bool:
        """The files are not what is shown."""
        return self._seen != self._loaded

    def poll(self) -> None:
        """Takes files that have changed, once they were the same for two polls."""
        now = file_stamp(self._files)
        settled, self._seen = now == self._seen, now
        if now in (self._loaded, self._refused) or not settled:
            return
        try:
            current, expires_at, pem = _read(*self._files)
        except CertificateWrong as wrong:
            self._refused = now
            log.error("certificate-rejected", why=str(wrong))
            return
        if file_stamp(self._files) != now:
            return
        self._current, self.expires_at, self.pem = current, expires_at, pem
        self._loaded, self._refused = now, None
        log.info("certificate-loaded", until=datetime.fromtimestamp(expires_at, UTC).isoformat())

    def _choose(
        self, handshake: ssl.SSLSocket | ssl.SSLObject, name: str | None, outer: ssl.SSLContext
    ) -> None:
        """Asked by every handshake, with a server name or without one."""
        del name, outer
        handshake.context = self._current


def _read(certificate: str, key: str) -> tuple[ssl.SSLContext, float, tuple[bytes, bytes]]:
    made = _context(certificate, key)
    try:
        pem = Path(key).read_bytes(), Path(certificate).read_bytes()
        first = x509.load_pem_x509_certificates(pem[1])[0]
    except (OSError, ValueError) as error:
        raise CertificateWrong(f"GATEWAY_TLS_CERT: {certificate} cannot be read") from error
    return made, first.not_valid_after_utc.timestamp(), pem


def _context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, HTTP/1.1; CertificateWrong where the files do not make a pair."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateWrong(
                f"GATEWAY_TLS_KEY: {key} is not the key of the certificate {certificate}"
            ) from error
        raise CertificateWrong(
            f"GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: {certificate} and {key} are no certificate and"
            " key in PEM"
        ) from error
    except OSError as error:
        why = error.strerror or "the key is encrypted; give one without a passphrase"
        raise CertificateWrong(
            f"GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: {certificate}, {key}: {why}"
        ) from error
    return made


def _no_password() -> str:
    raise OSError("the key is encrypted")
