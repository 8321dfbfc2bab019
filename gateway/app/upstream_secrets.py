"""Where the secrets are that routes send to upstreams."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gateway.access.secret_text import SecretText
from gateway.app.env_file import given_settings
from gateway.config.secrets import SecretFiles, is_secret_name

DEFAULT_FOLDER = "/run/secrets"
"""Where Docker and Podman put them."""


def load_secrets(
    environ: Mapping[str, str] | None = None, *, env_file: Path | None = Path(".env")
) -> SecretFiles:
    """The variables `GATEWAY_SECRET_NAME`, and the folder of files: `GATEWAY_SECRETS_DIR`, else
    what systemd made of `LoadCredential=`, else DEFAULT_FOLDER."""
    around = os.environ if environ is None else environ
    given, _ = given_settings(environ, env_file)
    folder = given.get("GATEWAY_SECRETS_DIR") or around.get("CREDENTIALS_DIRECTORY")
    secrets = {name: SecretText(value) for name, value in given.items() if is_secret_name(name)}
    return SecretFiles(Path(folder or DEFAULT_FOLDER), secrets)
