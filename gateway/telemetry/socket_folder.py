"""The unix sockets of the workers, each a name in one folder."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

# sun_path holds 108 bytes with the final NUL (unix(7)).
_LONGEST_PATH_BYTES = 107


class SocketFolder:
    """A folder whose path may be longer than the name of a socket may be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def listen(self, name: str) -> socket.socket:
        """A socket (0600) that takes the place of what another process left under this name.
        Raises OSError where the folder cannot hold one."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._open()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        self.remove(name)
        path = self.path(name)
        listener.bind(path)
        os.chmod(path, 0o600)
        return listener

    def names(self, suffix: str) -> list[str]:
        """Of the sockets that are there; a folder that is not there has none."""
        try:
            self._open()
            return sorted(name for name in os.listdir(self._folder) if name.endswith(suffix))
        except OSError:
            return []

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def path(self, name: str) -> str:
        path = str(self._folder / name)
        if len(os.fsencode(path)) > _LONGEST_PATH_BYTES and self._descriptor is not None:
            return f"/proc/self/fd/{self._descriptor}/{name}"
        return path

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is None:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._descriptor = os.open(self._folder, flags)
