"""`/admin/clients` and `/admin/clients/{id}`: machine clients, their secrets and their API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway.audit.log import AuditKind
from gateway.audit.operator_events import operator_event
from gateway.edge.console.keyset import PAGE_ROWS, listing, position
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    NotFound,
    View,
    of_found,
    page_path,
)
from gateway.identity.accounts.account_search import ACCOUNT_ID
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_search import ClientSearch
from gateway.identity.clients.clients import Client, Clients
from gateway.stores.protocols import StoreUnavailable

CLIENTS = "/admin/clients"
_DAY_S = 86_400
_LONGEST_DAYS = 3_650
_KEYS_SHOWN = 200
_NO_CLIENT = NotFound("There is no client with this id; it may have been deleted.")


@dataclass(frozen=True, slots=True)
class ClientPageDependencies:
    search: ClientSearch
    clients: Clients
    api_keys: ApiKeys


class ClientsPage:
    def __init__(self, dependencies: ClientPageDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        actions = {
            "rotate": self.rotate,
            "make-key": self.make_key,
            "end-key": self.end_key,
            "revoke": self.revoke,
            "delete": self.delete,
        }
        return [
            ConsolePage(
                CLIENTS,
                "Clients",
                self.show_all,
                actions={"create": ConsoleAction(self.create)},
                notices={"delete": "The client is deleted: its secrets, keys and tokens ended."},
            ),
            ConsolePage(
                f"{CLIENTS}/{{id}}",
                "Client",
                self.show,
                section=CLIENTS,
                actions={
                    name: ConsoleAction(of_found(self._client, _NO_CLIENT, act))
                    for name, act in actions.items()
                },
                notices={
                    "end-key": "The key has ended.",
                    "revoke": "What the client had been given is refused; its secrets stay good.",
                },
            ),
        ]

    async def _client(self, request: ConsoleRequest) -> Client | None:
        client_id = request.parameters["id"]
        if not ACCOUNT_ID.fullmatch(client_id):
            return None
        client = await self._deps.clients.find(client_id)
        # A name is no address of a page: another client may bear it one day.
        return client if client is not None and client.id == client_id else None

    async def show_all(self, request: ConsoleRequest) -> View:
        text, after = request.query("q"), request.query("after", 2_000)
        key = position(after, str)
        rows = await self._deps.search.page(text, str(key[0]) if key else "", PAGE_ROWS + 1)
        values = {
            "clients": listing(rows, lambda client: [client.name], after if key else ""),
            "words": {"q": text} if text else {},
            "path": CLIENTS,
            "form": request.form,
        }
        return View("clients.html", values)

    async def show(self, request: ConsoleRequest) -> View | NotFound:
        client = await self._client(request)
        return _NO_CLIENT if client is None else await self._view(request, client)

    async def _view(
        self, request: ConsoleRequest, client: Client, made: Sequence[tuple[str, str]] = ()
    ) -> View:
        """`made` is what is shown only now."""
        keys = await self._deps.api_keys.of_client(client.id)
        values = {
            "client": client,
            "secrets": len(client.secret_hashes),
            "kids": [key.kid for key in client.public_keys],
            "keys": keys[-_KEYS_SHOWN:][::-1],
            "key_count": len(keys),
            "made": made,
            "here": page_path("clients", client.id),
            "form": {} if made else request.form,
        }
        return View("client.html", values, title=client.name)

    def _made(
        self, request: ConsoleRequest, client_id: str, name: str, *made: tuple[str, str]
    ) -> Callable[[], Awaitable[View]]:
        """The client as it stands now, with what is shown only now: that alone where the store
        lets nothing be read, as it would be lost."""

        async def view() -> View:
            with suppress(StoreUnavailable):
                client = await self._deps.clients.find(client_id)
                if client is not None:
                    return await self._view(request, client, made)
            values = {"client": None, "made": made, "here": page_path("clients", client_id)}
            return View("client.html", values, title=name)

        return view

    async def create(self, request: ConsoleRequest) -> Acted | NotDone:
        name = request.form.get("name", "").strip()
        roles = request.form.get("roles", "").replace(",", " ").split()
        try:
            made = await self._deps.clients.create(name, roles)
        except ValueError as error:
            field = "roles" if "role" in str(error) else "name"
            return NotDone(f"{error}.", fields={field: str(error)})
        if made is None:
            told = "There is a client with this name already."
            return NotDone(told, fields={"name": told})
        shown = [("client_id", made.client_id), ("client_secret", made.client_secret)]
        event = operator_event(AuditKind.CLIENT_CHANGED, made.client_id, "created", name=name)
        return Acted([event], view=self._made(request, made.client_id, name, *shown))

    async def rotate(self, request: ConsoleRequest, client: Client) -> Acted | NotFound:
        at_once = "at-once" in request.form
        rotated = await self._deps.clients.rotate(client.id, at_once=at_once)
        if rotated is None:
            return _NO_CLIENT
        made, changes = rotated
        change = "secret rotated at once" if at_once else "secret rotated"
        event = operator_event(AuditKind.CLIENT_CHANGED, client.id, change)
        shown = [("client_id", client.id), ("client_secret", made.client_secret)]
        return Acted([event], changes, view=self._made(request, client.id, client.name, *shown))

    async def make_key(self, request: ConsoleRequest, client: Client) -> Acted | NotDone | NotFound:
        form = request.form
        days = form.get("days", "0").strip()
        is_number = days.isascii() and days.isdecimal() and len(days) <= len(str(_LONGEST_DAYS))
        if not is_number or int(days) > _LONGEST_DAYS:
            told = f"It is a number of days up to {_LONGEST_DAYS}; 0 is without end."
            return NotDone(told, fields={"days": told})
        try:
            made = await self._deps.api_keys.create(
                client.id,
                roles=form.get("key-roles", "").replace(",", " ").split() or None,
                scopes=form.get("scopes", "").replace(",", " ").split() or None,
                life_s=int(days) * _DAY_S or None,
            )
        except ValueError as error:
            field = "scopes" if "scope" in str(error) else "key-roles"
            return NotDone(f"{error}.", fields={field: str(error)})
        if made is None:
            return _NO_CLIENT
        event = operator_event(AuditKind.CLIENT_CHANGED, client.id, "key made", key_id=made.id)
        shown = [("key_id", made.id), ("api_key", made.text)]
        return Acted([event], view=self._made(request, client.id, client.name, *shown))

    async def end_key(self, request: ConsoleRequest, client: Client) -> Acted | NotDone:
        key_id = request.form.get("key", "")
        own = {key.id for key in await self._deps.api_keys.of_client(client.id)}
        changes = await self._deps.api_keys.end(key_id) if key_id in own else None
        if changes is None:
            return NotDone("The client has no key with this id.")
        event = operator_event(AuditKind.REVOKED, None, "key ended", key_id=key_id)
        return Acted([event], changes, notice="end-key")

    async def revoke(self, request: ConsoleRequest, client: Client) -> Acted | NotFound:
        changes = await self._deps.clients.revoke(client.id)
        if changes is None:
            return _NO_CLIENT
        events = [
            operator_event(AuditKind.REVOKED, None, str(one.kind), target=one.target)
            for one in changes
        ]
        return Acted(events, changes, notice="revoke")

    async def delete(self, request: ConsoleRequest, client: Client) -> Acted | NotDone | NotFound:
        if request.form.get("name", "").strip() != client.name:
            told = "Type the name of the client, and it is deleted."
            return NotDone(told, fields={"name": told})
        changes = await self._deps.clients.delete(client.id)
        if changes is None:
            return _NO_CLIENT
        event = operator_event(AuditKind.CLIENT_CHANGED, client.id, "deleted", name=client.name)
        return Acted([event], changes, notice="delete", location=CLIENTS)
