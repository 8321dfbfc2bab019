"""The data folder: what the installation keeps between starts (mode 0700).

key-secret        encrypts private keys, where GATEWAY_KEY_SECRET is not given (loopback)
admin-token       the local token of the admin page
lock              held by the gateway that runs here: a second one is refused
issuers/          the last good keys of each issuer
known-passwords   the passwords that are known to the world, as they were imported
last-good/        the configuration that was last compiled without a problem
workers/          a socket for each worker, by which one answers for all, and what those
                  that died had counted
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path


class FolderError(Exception):
    """The data folder cannot be used; the text says what to do."""


class DataFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def last_good(self) -> Path:
        return self.path / "last-good"

    @property
    def known_passwords(self) -> Path:
        return self.path / "known-passwords"

    @property
    def issuers(self) -> Path:
        return self.path / "issuers"

    @property
    def workers(self) -> Path:
        return self.path / "workers"

    def make(self) -> None:
        """Makes the folder, or tightens it.  Raises FolderError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o700)
            self.workers.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise FolderError(
                f"GATEWAY_DATA_DIR: {self.path} cannot be used: {error.strerror}{self._whose()}"
            ) from error

    def _whose(self) -> str:
        """Where the folder is somebody else's, as one that was mounted into a container is."""
        with contextlib.suppress(OSError):
            owner, own = self.path.stat().st_uid, os.geteuid()
            if owner != own:
                return f"; it belongs to user {owner}, and the gateway runs as {own}"
        return ""

    def check(self) -> None:
        """Raises FolderError where something else than a folder is in its place."""
        try:
            usable = self.path.is_dir() or not self.path.exists()
        except OSError as error:
            raise FolderError(
                f"GATEWAY_DATA_DIR: {self.path} cannot be used: {error.strerror}"
            ) from error
        if not usable:
            raise FolderError(f"GATEWAY_DATA_DIR: {self.path} is not a folder")

    def lock(self) -> bool:
        """Whether this process now owns the folder; the lock ends with the process and with
        every child that was forked from it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def in_use(self) -> bool:
        """Whether a gateway runs on this folder now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def key_secret(self, *, make: bool = True) -> bytes:
        """32 random bytes, made at the first call unless `make` is False.  Raises FolderError."""
        if not make and not (self.path / "key-secret").is_file():
            raise FolderError(
                f"the secret of this installation is neither in GATEWAY_KEY_SECRET nor in"
                f" {self.path / 'key-secret'}: name its settings with --env-file"
            )
        kept = self._kept("key-secret", lambda: base64.b64encode(os.urandom(32)))
        try:
            secret = base64.b64decode(kept, validate=True)
        except ValueError:
            secret = b""
        if len(secret) < 32:
            raise FolderError(
                f"{self.path / 'key-secret'} is damaged; without it the signing keys cannot be read"
            )
        return secret

    def admin_token(self) -> str:
        return self._kept("admin-token", lambda: secrets.token_urlsafe(32).encode()).decode()

    def demo_password(self) -> str:
        return self._kept("demo-password", lambda: secrets.token_urlsafe(12).encode()).decode()

    def _kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        path = self.path / name
        try:
            return path.read_bytes().strip()
        except FileNotFoundError:
            pass
        # Written aside and linked: of two that start at once, both read the same value.
        descriptor, aside = tempfile.mkstemp(dir=self.path, prefix=f".{name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(make() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        finally:
            os.unlink(aside)
        return path.read_bytes().strip()
