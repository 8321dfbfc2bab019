"""Secrets that a configuration names: from the environment, or from a file of the secrets' folder.

Law: a secret is never in the texts of a configuration, and no message shows one.  What cannot
stand in one line of a header is refused when the configuration is read, not when a call is sent.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.access.secret_text import SecretText
from gateway.config.upstream_tls import FileStamp, file_stamp

MAX_BYTES = 8_192
SECRET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
_VARIABLE_PREFIX = "GATEWAY_SECRET_"
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")
_PEM = re.compile(r"-----BEGIN [ -~]+-----\r?\n[ -~\r\n]+-----END [ -~]+-----\s*\Z")


class SecretSource(Protocol):
    def read(self, name: str) -> SecretText | str:
        """The secret of this name; or a sentence about why there is none."""

    def read_pem(self, name: str) -> SecretText | str:
        """The same of a secret of several lines."""


def variable_of(name: str) -> str:
    """The variable that may hold it: `GATEWAY_SECRET_GITHUB_TOKEN` of `github-token`."""
    return _VARIABLE_PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())


def is_secret_name(variable: str) -> bool:
    """Whether a variable of the environment holds a secret, and is no setting."""
    return variable.startswith(_VARIABLE_PREFIX)


class UnreadSecrets:
    """For who looks at a configuration and sends nothing: every secret is there, and unknown."""

    def read(self, name: str) -> SecretText | str:
        return SecretText("")

    def read_pem(self, name: str) -> SecretText | str:
        return SecretText("")


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """The secrets of this machine.  Without a folder and variables there are none."""

    folder: Path | None = None
    variables: Mapping[str, SecretText] = field(default_factory=dict)
    """By their whole names."""

    def path(self, name: str) -> str | None:
        return None if self.folder is None else str(self.folder / name)

    def read(self, name: str) -> SecretText | str:
        return self._read(name, _VALUE, "no one line of printable ASCII")

    def read_pem(self, name: str) -> SecretText | str:
        return self._read(name, _PEM, "no text in PEM (RFC 7468)")

    def _read(self, name: str, form: re.Pattern[str], otherwise: str) -> SecretText | str:
        path, variable = self.path(name), variable_of(name)
        given = self.variables.get(variable)
        if path is None or not os.path.exists(path):
            if given is None:
                where = "GATEWAY_SECRETS_DIR" if path is None else path
                return f"there is no secret `{name}`: neither {variable} nor {where} gives it"
            return _checked(name, given.reveal(), variable, (form, otherwise))
        if given is not None:
            return f"the secret `{name}` is given twice, by {variable} and by {path}: keep one"
        try:
            # To open a pipe waits for its writer, which may never come.
            if not stat.S_ISREG(os.stat(path).st_mode):
                return f"the secret `{name}` is no file: {path}"
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 3)
        except OSError as error:
            return f"the secret `{name}` cannot be read: {path}: {error.strerror}"
        # The end of a line that editors and `echo` write is not of the secret.
        text = content.decode("latin-1").removesuffix("\n").removesuffix("\r")
        return _checked(name, text, path, (form, otherwise))


class SecretReading:
    """The secrets that one reading of the configuration asked for, and what their files were."""

    def __init__(self, files: SecretFiles) -> None:
        self._files = files
        self._stamps: dict[str, FileStamp] = {}
        self.texts: dict[str, SecretText] = {}

    def read(self, name: str) -> SecretText | str:
        self._stamp(name)
        return self._noted(name, self._files.read(name))

    def read_pem(self, name: str) -> SecretText | str:
        self._stamp(name)
        return self._noted(name, self._files.read_pem(name))

    def _stamp(self, name: str) -> None:
        path = self._files.path(name)
        if path is not None and path not in self._stamps:
            # Before it is read: what is written meanwhile is another stamp.
            self._stamps[path] = file_stamp((path,))

    def _noted(self, name: str, text: SecretText | str) -> SecretText | str:
        if isinstance(text, SecretText):
            self.texts[name] = text
        return text

    @property
    def outdated(self) -> bool:
        """Whether a file was written, replaced, added or taken away since."""
        return any(file_stamp((path,)) != stamp for path, stamp in self._stamps.items())


def _checked(
    name: str, text: str, where: str, form: tuple[re.Pattern[str], str]
) -> SecretText | str:
    """`form`: what it must look like, and what is said of it otherwise."""
    if not text:
        return f"the secret `{name}` is empty: {where}"
    if len(text) > MAX_BYTES:
        return f"the secret `{name}` is longer than {MAX_BYTES} bytes: {where}"
    pattern, otherwise = form
    if not pattern.match(text):
        return f"the secret `{name}` is {otherwise}: {where}"
    return SecretText(text)
