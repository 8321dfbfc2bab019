"""`providers:` read: by whom people sign in besides ourselves, and what of it counts here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import yaml

from gateway.access.attributes import Attribute, SetBy
from gateway.access.conditions.engine_types import EngineTypes
from gateway.access.issuers import (
    ABSENT,
    SUBJECT,
    ClaimPath,
    ClaimReader,
    ClientAssertionKey,
    Issuer,
    RequiredClaim,
    TokenUse,
)
from gateway.access.providers import AccountRule, ClientAuthMethod, Provider, ProviderKind
from gateway.access.secret_text import SecretText
from gateway.access.suggestions import suggestion
from gateway.config.introspection import read_client_secret, read_private_key
from gateway.config.provider_presets import MICROSOFT_ISSUER, PRESETS, Preset
from gateway.config.secrets import SecretSource
from gateway.config.token_options import TokenOptionReader
from gateway.config.urls import read_url
from gateway.config.yaml_reader import Node, Reader

PROVIDER_KEYS = (
    "preset", "label", "issuer", "tenant", "team", "client_id", "client_secret", "private_key",
    "client_auth", "scopes", "parameters", "form_post", "discovery", "origins", "algorithms",
    "leeway", "ca", "userinfo", "subject", "email", "email_verified", "roles", "attributes",
    "require", "groups", "domains", "accounts", "trust_email", "trust_mfa", "backchannel_logout",
    "sign_out",
    "after_sign_out",
)  # fmt: skip
OWN_PARAMETERS = (
    "client_id", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "request",
    "request_uri", "response_mode", "response_type", "scope", "state",
)  # fmt: skip
"""Of the authorization request: what the gateway itself says."""
KEYS_BELIEVED_S = 3_600
"""For so long keys are believed after they were fetched: people sign in now and then."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_TEAM = re.compile(r"[A-Z0-9]{10}\Z")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,256}\Z")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")
_VISIBLE = re.compile(r"[!-~]{1,512}\Z")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+\Z")
_LABEL_MAX = 64
_GROUPS = ClaimPath("claims.groups", ("groups",))
_EMAIL = ClaimPath("claims.email", ("email",))


@dataclass(frozen=True, slots=True)
class _Credential:
    """How we prove to the provider who asks."""

    auth: ClientAuthMethod | None = None
    secret: SecretText | None = None
    key: ClientAssertionKey | None = None
    team: str | None = None


class ProviderReader:
    """Reads the block of one configuration; `attributes` are those that accounts may have."""

    def __init__(
        self,
        reader: Reader,
        secrets: SecretSource,
        types: EngineTypes,
        attributes: Mapping[str, Attribute],
    ) -> None:
        self._reader = reader
        self._secrets = secrets
        self._attributes = attributes
        self._tokens = TokenOptionReader(reader, types)

    def read(self, node: Node | None) -> dict[str, Provider]:
        reader = self._reader
        providers: dict[str, Provider] = {}
        by_issuer: dict[str, str] = {}
        for name, value in reader.entries(node, "`providers`").items():
            if not _NAME.match(name):
                reader.error(
                    reader.name_of(value),
                    "the name of a provider is a lower-case letter, then up to 31 lower-case "
                    "letters, digits and `-`: it stands in the URLs that the provider knows",
                )
            provider = self._provider(name, value)
            providers[name] = provider
            issuer = provider.issuer.issuer
            first = by_issuer.setdefault(issuer, name) if issuer else name
            if first != name:
                reader.error(
                    reader.name_of(value),
                    f"`{issuer}` is the `issuer` of `{first}` already: whom it names would be "
                    "two people",
                )
        return providers

    def _provider(self, name: str, node: Node) -> Provider:
        reader = self._reader
        fields = reader.block(node, f"provider `{name}`", PROVIDER_KEYS)
        at = reader.name_of(node)
        word = reader.choice(fields.get("preset"), "`preset`", tuple(PRESETS))
        preset = PRESETS.get(word or "", Preset(name))
        client_id = self._client_id(fields, at, name)
        credential = self._credential(fields, at, name, word)
        logout = reader.flag(fields.get("backchannel_logout"), "`backchannel_logout`", False)
        trust_email = reader.flag(fields.get("trust_email"), "`trust_email`", False)
        accounts = self._accounts(fields.get("accounts"), trust_email=trust_email)
        provider = Provider(
            name=name,
            label=self._label(fields.get("label")) or preset.label,
            kind=preset.kind,
            issuer=self._issuer(name, fields, at, preset, client_id),
            client_id=client_id,
            client_auth=credential.auth or preset.client_auth,
            secret=credential.secret,
            key=credential.key,
            team=credential.team,
            scopes=self._scopes(fields.get("scopes"), preset),
            origins=(*preset.origins, *self._origins(fields.get("origins"))),
            userinfo=reader.flag(fields.get("userinfo"), "`userinfo`", preset.userinfo),
            form_post=reader.flag(fields.get("form_post"), "`form_post`", preset.form_post),
            parameters=self._parameters(fields.get("parameters")),
            accounts=accounts,
            trust_email=trust_email,
            trust_mfa=reader.flag(fields.get("trust_mfa"), "`trust_mfa`", False),
            attributes=tuple(self._mapped(fields.get("attributes"))),
            domains=self._domains(fields.get("domains")),
            backchannel_logout=logout,
            sign_out=reader.flag(fields.get("sign_out"), "`sign_out`", True),
            after_sign_out=read_url(
                reader, fields.get("after_sign_out"), "`after_sign_out`", query=True
            ),
            location=reader.location(at),
        )
        if provider.kind is ProviderKind.GITHUB:
            self._only_of_openid(fields)
        return provider

    # Who it is, and how we ask

    def _issuer(
        self, name: str, fields: Mapping[str, Node], at: Node, preset: Preset, client_id: str
    ) -> Issuer:
        reader, tokens = self._reader, self._tokens
        email = tokens.claim(fields, "email") or _EMAIL
        return Issuer(
            name=name,
            issuer=self._issuer_url(name, fields, at, preset),
            audience=(client_id,),
            use=TokenUse.ID,
            algorithms=tokens.algorithms(fields.get("algorithms")),
            typ=("jwt", ABSENT),
            subject=tokens.path(fields.get("subject"), "subject", SUBJECT),
            roles=tokens.claim(fields, "roles"),
            email=email,
            email_verified=self._email_verified(fields, preset, email),
            require=(*tokens.require(fields.get("require")), *self._groups(fields)),
            leeway_s=tokens.leeway_s(fields.get("leeway")),
            discovery=read_url(reader, fields.get("discovery"), "`discovery`", query=True),
            ca=tokens.ca(fields.get("ca")),
            max_stale_s=KEYS_BELIEVED_S,
            backchannel_logout=True,
            location=reader.location(at),
            ca_location=reader.location(fields.get("ca", at)),
        )

    def _issuer_url(self, name: str, fields: Mapping[str, Node], at: Node, preset: Preset) -> str:
        reader = self._reader
        tenant = reader.text(fields.get("tenant"), "`tenant`")
        written = read_url(reader, fields.get("issuer"), "`issuer`")
        if preset is PRESETS["microsoft"] and "issuer" not in fields:
            if tenant is None and "tenant" not in fields:
                reader.error(at, f"provider `{name}` has no `tenant:`, the id of the directory")
            elif tenant is not None and not _GUID.match(tenant):
                reader.error(
                    fields["tenant"],
                    f"`{tenant}` is no id of a directory (8-4-4-4-12 lower-case hex digits): "
                    "`common` and `organizations` would let anybody's directory say who somebody "
                    "is",
                )
            return MICROSOFT_ISSUER.format(tenant=tenant or "")
        if "tenant" in fields:
            reader.error(
                reader.name_of(fields["tenant"]),
                "`tenant` is of `preset: microsoft` without an `issuer`",
            )
        if written is None and preset.issuer is None and "issuer" not in fields:
            reader.error(
                at, f"provider `{name}` has no `issuer: https://…`, the `iss` of its ID tokens"
            )
        return written or preset.issuer or ""

    def _client_id(self, fields: Mapping[str, Node], at: Node, name: str) -> str:
        client_id = self._reader.text(fields.get("client_id"), "`client_id`")
        if "client_id" not in fields:
            self._reader.error(
                at, f"provider `{name}` has no `client_id:`, by which it knows the gateway"
            )
        elif client_id is not None and not _VISIBLE.match(client_id):
            self._reader.error(fields["client_id"], "`client_id` is visible ASCII without spaces")
        return client_id or ""

    def _credential(
        self, fields: Mapping[str, Node], at: Node, name: str, preset: str | None
    ) -> _Credential:
        if preset == "apple":
            return self._apple(fields, at, name)
        reader = self._reader
        if "team" in fields:
            reader.error(reader.name_of(fields["team"]), "`team` is of `preset: apple`")
        auth = reader.choice(
            fields.get("client_auth"),
            "`client_auth`",
            (ClientAuthMethod.BASIC, ClientAuthMethod.POST),
        )
        has_key = "private_key" in fields
        if has_key == ("client_secret" in fields):
            reader.error(
                at,
                f"provider `{name}` has one of `client_secret: {{secret: NAME}}` and "
                "`private_key:`",
            )
        if has_key and "client_auth" in fields:
            reader.error(
                reader.name_of(fields["client_auth"]),
                "`client_auth` is of a `client_secret`: a key proves itself by `private_key_jwt`",
            )
        return _Credential(
            ClientAuthMethod.KEY
            if has_key
            else ClientAuthMethod(auth)
            if auth is not None
            else None,
            read_client_secret(reader, fields.get("client_secret"), self._secrets),
            read_private_key(reader, fields.get("private_key"), self._secrets),
        )

    def _apple(self, fields: Mapping[str, Node], at: Node, name: str) -> _Credential:
        """Its secret is a JWT that a key of the developer's team signs."""
        reader = self._reader
        team = reader.text(fields.get("team"), "`team`")
        if "team" not in fields or "private_key" not in fields:
            reader.error(
                at,
                f"provider `{name}` needs `team:` and `private_key: {{secret: NAME, kid: ID}}`, as "
                "Apple gives keys in the place of secrets",
            )
        if team is not None and not _TEAM.match(team):
            reader.error(fields["team"], "`team` is the ten letters and digits of your team")
        for word in ("client_secret", "client_auth"):
            if word in fields:
                reader.error(
                    reader.name_of(fields[word]),
                    f"Apple knows no `{word}`: `private_key` is enough",
                )
        key_at = fields.get("private_key")
        key = read_private_key(reader, key_at, self._secrets, only_alg="ES256")
        if key_at is not None and key is not None and key.kid is None:
            reader.error(reader.name_of(key_at), "`private_key` has no `kid:`, the id of the key")
        return _Credential(ClientAuthMethod.APPLE, None, key, team)

    def _scopes(self, node: Node | None, preset: Preset) -> tuple[str, ...]:
        reader = self._reader
        scopes: list[str] = []
        for text, item in reader.texts(node, "`scopes`") or []:
            if not _SCOPE.match(text):
                reader.error(item, 'a scope is visible ASCII without spaces, `"` and `\\`')
            scopes.append(text)
        if node is None:
            return preset.scopes
        if preset.kind is ProviderKind.OPENID and "openid" not in scopes:
            reader.error(node, "`scopes` lacks `openid`: without it there is no ID token")
        return tuple(dict.fromkeys(scopes))

    def _origins(self, node: Node | None) -> tuple[str, ...]:
        reader = self._reader
        origins: list[str] = []
        for text, item in reader.texts(node, "`origins`") or []:
            url = read_url(reader, item, "an entry of `origins`")
            if url is not None and urlsplit(url).path not in ("", "/"):
                reader.error(item, f"`{text}` is no origin: leave its path out")
            elif url is not None:
                origins.append(url.removesuffix("/"))
        return tuple(dict.fromkeys(origins))

    def _parameters(self, node: Node | None) -> tuple[tuple[str, str], ...]:
        reader = self._reader
        parameters: list[tuple[str, str]] = []
        for name, value in reader.entries(node, "`parameters`").items():
            text = reader.text(value, f"`{name}`")
            if name in OWN_PARAMETERS:
                reader.error(reader.name_of(value), f"`{name}` is what the gateway itself says")
            elif not _PARAMETER.match(name):
                reader.error(reader.name_of(value), f"`{name}` is no name of a parameter")
            elif text is not None:
                parameters.append((name, text))
        return tuple(parameters)

    def _label(self, node: Node | None) -> str | None:
        label = self._reader.text(node, "`label`")
        if label is None or node is None:
            return None
        if not label.strip() or len(label) > _LABEL_MAX or not label.isprintable():
            self._reader.error(node, f"`label` is 1 to {_LABEL_MAX} printable characters")
            return None
        return label

    def _only_of_openid(self, fields: Mapping[str, Node]) -> None:
        for key in (
            "discovery", "algorithms", "form_post", "userinfo", "trust_mfa", "backchannel_logout",
            "sign_out", "after_sign_out", "private_key",
        ):  # fmt: skip
            if key in fields:
                self._reader.error(
                    self._reader.name_of(fields[key]),
                    f"`{key}` is of OpenID Connect, which GitHub does not speak to people's "
                    "applications",
                )

    # What of it counts here

    def _email_verified(
        self, fields: Mapping[str, Node], preset: Preset, email: ClaimReader
    ) -> ClaimReader | None:
        if "email_verified" in fields:
            return self._tokens.claim(fields, "email_verified", truth=True)
        if "email" in fields and not isinstance(email, ClaimPath):
            return None
        return self._tokens.known_claim(preset.email_verified)

    def _groups(self, fields: Mapping[str, Node]) -> tuple[RequiredClaim, ...]:
        node = fields.get("groups")
        names = tuple(text for text, _ in self._reader.texts(node, "`groups`") or [])
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._reader.error(node, "`groups` is empty: nobody could sign in")
        return (RequiredClaim(_GROUPS, names),) if names else ()

    def _mapped(self, node: Node | None) -> Iterator[tuple[Attribute, ClaimReader]]:
        """`attributes: {department: claims.department}`."""
        reader = self._reader
        entries = reader.entries(node, "`attributes`")
        for name, value in entries.items():
            attribute = self._attributes.get(name)
            claim = self._tokens.claim(entries, name)
            if attribute is None:
                hint = suggestion(name, self._attributes)
                reader.error(
                    reader.name_of(value), f"`attributes:` of routes.yaml has no `{name}`{hint}"
                )
            elif SetBy.PROVIDER not in attribute.set_by:
                reader.error(
                    reader.name_of(value),
                    f"`{name}` is not set by providers: add `provider` to its `set_by`"
                    f" ({attribute.location})",
                )
            elif claim is not None:
                yield attribute, claim

    def _domains(self, node: Node | None) -> tuple[str, ...]:
        reader = self._reader
        domains: list[str] = []
        for text, item in reader.texts(node, "`domains`") or []:
            if not _DOMAIN.match(text):
                reader.error(item, f"`{text}` is no domain such as `example.com`, in lower case")
            domains.append(text)
        if isinstance(node, yaml.SequenceNode) and not node.value:
            reader.error(node, "`domains` is empty: nobody could sign in")
        return tuple(dict.fromkeys(domains))

    def _accounts(self, node: Node | None, *, trust_email: bool) -> AccountRule:
        word = self._reader.choice(node, "`accounts`", tuple(AccountRule))
        rule = AccountRule(word) if word is not None else AccountRule.LINK
        if rule is AccountRule.CREATE and node is not None and not trust_email:
            self._reader.error(
                node,
                "`accounts: create` needs `trust_email: true`: an account is its address, and the "
                "provider would name it",
            )
        return rule
