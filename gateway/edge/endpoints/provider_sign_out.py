"""Where somebody signs out at the provider that began their session (OpenID Connect RP-Initiated
Logout 1.0), once they have signed out here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from gateway.access.providers import Provider, provider_of
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.id_tokens import ProviderUnavailable
from gateway.identity.providers.identities import IdentityRefused
from gateway.identity.providers.provider_sessions import ProviderSessions

HINT_MAX = 4_096
"""Characters of an ID token that a URL may hold: servers refuse longer ones."""


class ProviderSignOut:
    def __init__(
        self,
        providers: Callable[[], Mapping[str, Provider]],
        sessions: ProviderSessions,
        client: ProviderClient,
    ) -> None:
        """`providers` are those of the running configuration."""
        self._providers = providers
        self._sessions = sessions
        self._client = client

    async def offer(self, session_id: str, *, names_session: bool) -> dict[str, str] | None:
        """`label` and `location`; None where no provider began the session, the configuration does
        not name it any more, or it has no sign-out, or cannot be asked now.  `names_session`: by
        its ID token (OpenID Connect RP-Initiated Logout section 2: recommended); without it the
        provider asks the person."""
        session = await self._sessions.of_session(session_id)
        if session is None:
            return None
        provider = provider_of(self._providers(), session.issuer)
        if provider is None or not provider.sign_out:
            return None
        try:
            metadata = await self._client.metadata(provider)
        except (ProviderUnavailable, IdentityRefused):
            return None
        if metadata.end_session is None:
            return None
        words = {"client_id": provider.client_id}
        if names_session and session.id_token is not None and len(session.id_token) <= HINT_MAX:
            words["id_token_hint"] = session.id_token
        if provider.after_sign_out is not None:
            words["post_logout_redirect_uri"] = provider.after_sign_out
        mark = "&" if "?" in metadata.end_session else "?"
        location = f"{metadata.end_session}{mark}{urlencode(words)}"
        return {"label": provider.label, "location": location}
