"""One run's folder: keys, filled-in configurations, logs, the backend and the peers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.credentials import AUDIENCE, ISSUER, Credentials, Signer, make_credentials, new_key
from bench.processes import Started, await_port, listened_on
from bench.quota import Quota

HERE = Path(__file__).parent
PROXY_CPU, LOAD_CPU = 0, 1
BASE_PORT = int(os.environ.get("BENCH_PORT", "19000"))
PORTS = range(BASE_PORT, BASE_PORT + 200)
"""Those of one run.  Two at once on one machine need ranges of their own: a gateway listens with
SO_REUSEPORT, and two would share the calls of one port."""


@dataclass
class Rig:
    folder: Path
    credentials: Credentials
    started: list[Started] = field(default_factory=list)
    quotas: list[Quota] = field(default_factory=list)
    _signed: dict[str, Credentials] = field(default_factory=dict)
    _issuers: list[Signer] = field(default_factory=list)

    @classmethod
    def build(cls, folder: Path, users: int) -> Rig:
        for name in ("cfg", "keys", "log", "run"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
        # What nginx writes while it starts as root, its workers read as another user.
        folder.chmod(0o755)
        return cls(folder, make_credentials(folder / "keys", users))

    def signed(self, algorithm: str) -> Credentials:
        """Those of a key of this algorithm; the first one is of RS256."""
        if algorithm == "RS256":
            return self.credentials
        if algorithm not in self._signed:
            users = len(self.credentials.tokens.read_text().split())
            folder = self.folder / "keys" / algorithm.lower()
            self._signed[algorithm] = make_credentials(folder, users, algorithm)
        return self._signed[algorithm]

    def take(self, credentials: Credentials) -> None:
        """These in place of those that were made for this run."""
        if credentials.signer.algorithm == "RS256":
            self.credentials = credentials
        else:
            self._signed[credentials.signer.algorithm] = credentials

    def issuers(self, count: int) -> list[Signer]:
        """Other issuers, with their key sets where the backend serves them: /jwks/issuer-N.json."""
        folder = self.folder / "keys" / "jwks"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(len(self._issuers), count):
            signer = Signer(new_key("RS256"), issuer=f"https://issuer-{number}.example.com")
            (folder / f"issuer-{number}.json").write_text(signer.key_set)
            (folder / f"issuer-{number}.pem").write_text(signer.public_pem)
            self._issuers.append(signer)
        return self._issuers[:count]

    @property
    def certificate(self) -> Path:
        """The chain and the key in one file, as HAProxy wants it; `tls.key` beside it."""
        path = self.folder / "keys" / "tls.pem"
        if not path.exists():
            write_certificate(path)
        return path

    def fill(self, template: str, *, into: str = "", **words: object) -> Path:
        """A configuration from `peers/`, with @NAME@ replaced."""
        text = (HERE / "peers" / template).read_text()
        everywhere: dict[str, object] = {
            "RIG": self.folder,
            "BACKEND": BASE_PORT,
            "ISSUER": ISSUER,
            "AUDIENCE": AUDIENCE,
        }
        for name, value in (everywhere | words).items():
            text = text.replace(f"@{name}@", str(value))
        filled = self.folder / "cfg" / (into or template)
        filled.parent.mkdir(parents=True, exist_ok=True)
        filled.write_text(text)
        return filled

    def start(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        cpu: int = PROXY_CPU,
        cpus: int = 1,
        quota: float = 0.0,
        env: Mapping[str, str] | None = None,
    ) -> Started:
        """On `cpu`, or on all of the machine where it is to have more than one; `quota` is how
        many cores' time it may use, 0 whatever there is."""
        log = self.folder / "log" / f"{name}.log"
        if listened_on(port):
            # A gateway would share it (SO_REUSEPORT), and the figures be those of another one.
            raise RuntimeError(f"something listens on {port} already: set BENCH_PORT")
        on = cpu if cpus == 1 else None
        group = None
        if quota:
            self.quotas.append(Quota(name, quota))
            group = self.quotas[-1].members
        process = Started(command, cpu=on, log=log, cwd=self.folder, env=env, group=group)
        self.started.append(process)
        await_port(port, process)
        return process

    def start_backend(self) -> None:
        config = self.fill("backend.conf")
        command = [found("nginx"), "-p", str(self.folder), "-c", str(config)]
        self.start("backend", command, BASE_PORT, cpu=LOAD_CPU)

    def stop(self) -> None:
        for process in reversed(self.started):
            process.stop()
        for quota in self.quotas:
            quota.remove()


def write_certificate(path: Path) -> None:
    """One for 127.0.0.1 that vouches for itself, with a key on P-256, as most have today."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = Signer(key, "ES256").private_pem
    path.write_text(certificate.public_bytes(serialization.Encoding.PEM).decode() + private)
    path.with_name("tls.key").write_text(private)
    path.with_name("tls.key").chmod(0o600)


def found(program: str) -> str:
    """Its path.  Debian keeps servers in /usr/sbin, which is not on everybody's PATH."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return shutil.which(program, path=path) or ""
