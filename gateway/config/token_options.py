"""What `issuers:` and `providers:` say alike of tokens: whom they name, by what they are signed,
and where in their claims something stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from gateway.access.conditions.claims import claim_path, compile_claims
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.issuers import ABSENT, ClaimPath, ClaimReader, RequiredClaim
from gateway.access.suggestions import suggestion
from gateway.config.yaml_reader import Node, Reader

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
MAX_LEEWAY_S = 300

_CLAIM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VISIBLE = re.compile(r"[!-~]{1,512}\Z")
_TYP = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}\Z")
_NEVER_ACCESS_TOKENS = {
    "logout+jwt": "a logout token ends sessions, and gives access to nothing",
    "secevent+jwt": "an event gives access to nothing",
    "authgate-assertion+jwt": "what we assert to backends is no access token",
}


class TokenOptionReader:
    """Reads keys of a block, each by its own rule."""

    def __init__(self, reader: Reader, types: EngineTypes) -> None:
        self._reader = reader
        self._types = types

    def names(self, fields: Mapping[str, Node], key: str) -> tuple[str, ...]:
        reader, node = self._reader, fields.get(key)
        names = []
        for text, item in reader.texts(node, f"`{key}`") or []:
            if not _VISIBLE.match(text):
                reader.error(item, f"an entry of `{key}` is visible ASCII without spaces")
            names.append(text)
        self._filled(node, key)
        return tuple(dict.fromkeys(names))

    def algorithms(self, node: Node | None) -> tuple[str, ...]:
        reader = self._reader
        names: list[str] = []
        for text, item in reader.texts(node, "`algorithms`") or []:
            if text in ALGORITHMS:
                names.append(text)
            elif text.upper().startswith("HS"):
                reader.error(
                    item,
                    f"`{text}` is symmetric: who can check such a token could make one; have the "
                    "provider sign with RS256, ES256 or EdDSA",
                )
            elif text.lower() == "none":
                reader.error(item, f"`{text}` is no signature: anybody could make such a token")
            else:
                reader.error(
                    item, f"`algorithms` cannot hold `{text}`{suggestion(text, ALGORITHMS)}"
                )
        self._filled(node, "algorithms")
        return tuple(dict.fromkeys(names)) if node is not None else ("RS256",)

    def typ(self, node: Node | None) -> tuple[str, ...]:
        reader = self._reader
        types: list[str] = []
        for text, item in reader.texts(node, "`typ`") or []:
            known = text.lower().removeprefix("application/")
            if known in _NEVER_ACCESS_TOKENS:
                reader.error(item, f"`typ` cannot hold `{text}`: {_NEVER_ACCESS_TOKENS[known]}")
            elif not _TYP.match(known):
                reader.error(
                    item, f"`{text}` is no `typ` such as `at+jwt`, `JWT` or `{ABSENT}` (none)"
                )
            types.append(known)
        self._filled(node, "typ")
        return tuple(dict.fromkeys(types)) if node is not None else ("at+jwt", "jwt")

    def path(self, node: Node | None, key: str, default: ClaimPath) -> ClaimReader:
        text = self._reader.text(node, f"`{key}`")
        if text is None or node is None:
            return default
        path = claim_path(text)
        if path is None and _CLAIM_NAME.match(text) and text != "claims":
            path = ClaimPath(f"claims.{text}", (text,))
        if path is None:
            self._reader.error(
                node,
                f"`{key}` is one claim, such as `{default.keys[0]}`, `claims.oid` or "
                '`claims["https://example.com/id"]`: what ends a session names it too',
            )
            return default
        return path

    def claim(
        self, fields: Mapping[str, Node], key: str, *, truth: bool = False
    ) -> ClaimReader | None:
        node = fields.get(key)
        text = self._reader.text(node, f"`{key}`")
        if text is None or node is None:
            return None
        compiled = compile_claims(text, self._types, truth=truth)
        if isinstance(compiled, list):
            for at, problem in compiled:
                self._reader.error(node, problem, at=at)
            return None
        return compiled

    def known_claim(self, text: str) -> ClaimReader:
        """What reads an expression of our own."""
        compiled = compile_claims(text, self._types)
        assert not isinstance(compiled, list), compiled
        return compiled

    def require(self, node: Node | None) -> tuple[RequiredClaim, ...]:
        reader = self._reader
        required = []
        for name, value in reader.entries(node, "`require`").items():
            path = claim_path(name) or ClaimPath(name, (name,))
            if name.startswith(("claims.", "claims[")) and path.keys == (name,):
                reader.error(
                    reader.name_of(value),
                    f"`{name}` is no path such as `claims.realm_access.roles`; the name of a claim "
                    "stands alone",
                )
            values = self._values(name, value)
            if values:
                required.append(RequiredClaim(path, values))
        return tuple(required)

    def _values(self, name: str, node: Node) -> tuple[str | int | float | bool, ...]:
        reader = self._reader
        if isinstance(node, yaml.MappingNode):
            reader.error(
                node,
                f"`{name}` is compared with values: name what is inside it by its path, such as "
                f"`claims.{name}.roles`",
            )
            return ()
        items = [node] if isinstance(node, yaml.ScalarNode) else reader.items(node, f"`{name}`")
        values: list[Any] = []
        for item in items:
            value = reader.plain(item)
            if isinstance(value, str | int | float):
                values.append(value)
            else:
                reader.error(item, f"a value of `{name}` is a text, a number, true or false")
        self._filled(node, name)
        return tuple(values)

    # Numbers and files

    def leeway_s(self, node: Node | None) -> int:
        seconds = self._reader.duration_s(node, "`leeway`", least=0)
        if seconds is None or node is None:
            return 10
        if seconds > MAX_LEEWAY_S or seconds != int(seconds):
            self._reader.error(
                node, f"`leeway` is whole seconds, `{MAX_LEEWAY_S // 60}m` at most: set the clocks"
            )
            return 10
        return int(seconds)

    def seconds(self, fields: Mapping[str, Node], key: str, default: int | None) -> int | None:
        seconds = self._reader.duration_s(fields.get(key), f"`{key}`", least=1)
        return default if seconds is None else int(seconds)

    def ca(self, node: Node | None) -> str | None:
        path = self._reader.text(node, "`ca`")
        if path is not None and node is not None and not path.startswith("/"):
            self._reader.error(node, "`ca` is the whole path of a PEM file: begin it with `/`")
            return None
        return path

    def _filled(self, node: Node | None, key: str) -> None:
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._reader.error(node, f"`{key}` is empty: nothing could meet it")
