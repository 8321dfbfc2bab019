"""Certificates for tests: those that sign themselves, and an authority that nobody knows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class SelfSigned:
    """PEM texts of a certificate that is its own authority, and of its key."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """As `cert.pem` and `key.pem`."""
        paths = folder / "cert.pem", folder / "key.pem"
        paths[0].write_bytes(self.certificate)
        paths[1].write_bytes(self.key)
        return paths

    def write_pair(self, folder: Path) -> None:
        """As `pair.pem` too, with both in it, as HAProxy wants them."""
        self.write(folder)
        (folder / "pair.pem").write_bytes(self.certificate + self.key)


def self_signed(*names: str) -> SelfSigned:
    """For hosts and addresses; good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_named(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(made.public_bytes(serialization.Encoding.PEM), _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass
class Authority:
    """One that nobody knows, and the files it makes."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def file(self) -> Path:
        path = self.folder / "ca.pem"
        if not path.exists():
            path.write_bytes(self._signed("the authority", self.key.public_key(), ca=True))
        return path

    def issue(
        self, name: str, into: Path | None = None, *, until: datetime | None = None
    ) -> tuple[str, str]:
        """The files of a new certificate for a host or an address, and of its key; good for a
        day where `until` does not say otherwise."""
        key = ec.generate_private_key(ec.SECP256R1())
        folder = into or self.folder
        certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self._signed(name, key.public_key(), ca=False, until=until))
        private.write_bytes(_pem(key))
        return str(certificate), str(private)

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        ca: bool,
        until: datetime | None = None,
    ) -> bytes:
        now = datetime.now(UTC)
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the authority")])
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(until or now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_named(name)]), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        )
        if ca:
            usage = x509.KeyUsage(
                *(True, False, False, False, False), key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False,
            )  # fmt: skip
            made = made.add_extension(usage, critical=True)
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.replace(" ", "-"))
