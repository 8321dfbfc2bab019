"""oidc-provider of npm, a certified OpenID provider, as a process of its own.

    with oidc_provider.started(folder, Setup(clients=(...,))) as provider:
        token = provider.client_token("machine", resource="https://api.example.com/")

What it is asked for, its keys and its failures are in the test's hand; what it answers is its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.kept import kept
from tests.node_packages import lacking
from tests.ports import free_port
from tests.providers.visitor import SECRET, Visitor, fetch, post_as
from tests.servers import end_with_parent, wait_until

HERE = Path(__file__).parent / "node"
INSTALLED = kept("providers")
WITHIN_S = 60.0

MACHINE = "machine"
Spoilt = Literal["garbage", "empty", "failing", "redirecting", "endless", "hanging"]


@dataclass(frozen=True)
class Setup:
    """What the provider knows.  A client is its metadata (OpenID Connect Registration)."""

    clients: Sequence[Mapping[str, Any]] = ()
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By their URL: `scope`, `audience` (the URL), `format` (`jwt` or `opaque`), `lifeS`, `alg`."""
    default_resource: str | None = None
    """Whose a token is if it was asked for without `resource`; None: only `/me` of the provider."""
    accounts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By their subject: claims of tokens.  Another subject can sign in as well."""
    algorithms: Sequence[str] = ("RS256",)
    """RS256, PS256, ES256, EdDSA: a key for each; the first signs ID tokens."""
    cache_control: str | None = None
    """Of its key set."""
    claims_in_id_token: bool = False
    """Else they are at its userinfo endpoint alone."""


def machine(client_id: str = MACHINE, **more: Any) -> dict[str, Any]:
    """A client that asks for tokens of its own, and may introspect."""
    return {
        "client_id": client_id,
        "client_secret": SECRET,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
        **more,
    }


def application(client_id: str, redirect_uri: str, **more: Any) -> dict[str, Any]:
    """A client in which people sign in, with `backchannel_logout_uri` if it names one."""
    return {
        "client_id": client_id,
        "client_secret": SECRET,
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [redirect_uri],
        "backchannel_logout_session_required": "backchannel_logout_uri" in more,
        **more,
    }


@dataclass
class OidcProvider:
    """A started one."""

    port: int
    control_port: int
    folder: Path
    setup: Setup
    process: subprocess.Popen[bytes]

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def discovery(self) -> dict[str, Any]:
        return dict(fetch(f"{self.issuer}/.well-known/openid-configuration").json)

    def jwks(self) -> dict[str, Any]:
        return dict(fetch(f"{self.issuer}/jwks").json)

    # --- tokens

    def client_token(
        self, client_id: str = MACHINE, *, resource: str | None = None, scope: str = ""
    ) -> str:
        """An access token of the client's own (client_credentials)."""
        words = {"grant_type": "client_credentials", "scope": scope}
        if resource is not None:
            words["resource"] = resource
        return str(self.token(client_id, words)["access_token"])

    def token(self, client_id: str, words: Mapping[str, str]) -> dict[str, Any]:
        """The token endpoint's answer; what is no success fails."""
        answer = post_as(f"{self.issuer}/token", client_id, words)
        assert answer.status == 200, (answer.status, answer.body)
        return dict(answer.json)

    def introspect(self, token: str, client_id: str = MACHINE) -> dict[str, Any]:
        url = f"{self.issuer}/token/introspection"
        return dict(post_as(url, client_id, {"token": token}).json)

    def visitor(self) -> Visitor:
        """Somebody with a browser of their own, in which they sign in and out."""
        return Visitor(self.issuer)

    # --- its keys and its failures

    def rotate(self, *, keep_old: bool = False) -> list[str]:
        """New keys sign from now on; the old ones leave the set unless they are kept.

        The new set's kids, newest first.
        """
        return list(self._control("rotate", {"keepOld": keep_old})["kids"])

    def answer_with(self, spoilt: Spoilt) -> None:
        """Whatever it is asked, until `answer_again`."""
        self._control("answer", {"with": spoilt})

    def answer_again(self) -> None:
        self._control("answer", {"with": "itself"})

    def asked(self) -> dict[str, int]:
        """How often it was asked for each path since it started, or since `forget`."""
        return dict(self._control("status")["asked"])

    def logouts(self) -> list[str]:
        """What came of each logout token it sent: `CLIENT: done`, or what was wrong."""
        return list(self._control("status")["logouts"])

    def describe(self, account: str, **claims: Any) -> None:
        """What it says of the account from now on."""
        self._control("account", {"id": account, "claims": claims})

    def forget(self) -> None:
        self._control("forget")

    def suspend(self) -> None:
        """It keeps its connections and answers nothing, until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Its port refuses connections from then on; `start` serves there again."""
        self.process.kill()
        self.process.wait()

    def start(self, *, new_keys: bool = False) -> None:
        """After `stop`: the same issuer, with the same keys unless told; it has forgotten the rest."""
        if new_keys:
            (self.folder / "keys.json").unlink()
        self.process = _process(self.folder, self.setup, self.port, self.control_port)

    def _control(self, word: str, words: Mapping[str, Any] | None = None) -> Any:
        url = f"http://127.0.0.1:{self.control_port}/{word}"
        return fetch(url, json.dumps(words or {}).encode(), {}).json


@contextmanager
def started(
    folder: Path, setup: Setup | None = None, *, port: int | None = None
) -> Iterator[OidcProvider]:
    """On free ports, or on `port`, until the block ends.  Skips where node or its packages cannot be had."""
    if lacks := lacking(HERE, INSTALLED):
        pytest.skip(f"oidc-provider is not here: {lacks}")
    folder.mkdir(parents=True, exist_ok=True)
    port, control_port = port or free_port(), free_port()
    setup = setup or Setup(clients=(machine(),))
    process = _process(folder, setup, port, control_port)
    provider = OidcProvider(port, control_port, folder, setup, process)
    try:
        yield provider
    finally:
        provider.stop()


def _process(folder: Path, setup: Setup, port: int, control_port: int) -> subprocess.Popen[bytes]:
    options = {
        "port": port,
        "controlPort": control_port,
        "issuer": f"http://127.0.0.1:{port}",
        "clients": list(setup.clients),
        "resources": setup.resources,
        "defaultResource": setup.default_resource,
        "accounts": setup.accounts,
        "algorithms": list(setup.algorithms),
        "cacheControl": setup.cache_control,
        "claimsInIdToken": setup.claims_in_id_token,
        "keysFile": str(folder / "keys.json"),
    }
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["node", "provider.js"],
            cwd=INSTALLED,
            env={**os.environ, "OPTIONS": json.dumps(options)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
    wait_until(partial(_serves, process, control_port, log), WITHIN_S, f"oidc-provider: {log}")
    return process


def _serves(process: subprocess.Popen[bytes], control_port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
    try:
        return bool(fetch(f"http://127.0.0.1:{control_port}/status", b"{}", {}).status == 200)
    except OSError:
        return False
