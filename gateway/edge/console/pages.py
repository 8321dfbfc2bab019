"""What a page of the console is, what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from gateway.access.console import HOME, ConsolePermission
from gateway.access.routing.request_values import query_parameter
from gateway.access.step_up import StepUp, signed_in_within
from gateway.audit.log import AuditEvent
from gateway.edge.endpoints.factor_changes import FRESH_S
from gateway.model import Call, Change, Principal

PENDING = (
    "It is done and kept, but not yet confirmed by every worker.  It goes on by itself; until then"
    " a worker that is not reached refuses every call with a credential, or still has what was."
)
UNCONFIRMED = "unconfirmed"
"""The notice of PENDING, which every page has."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who looks at the console."""

    actor: str
    """As the audit log names them: the id of the account, or `local-token`."""
    name: str
    """As the page greets them."""
    permissions: frozenset[ConsolePermission]
    csrf_token: str = field(default="", repr=False)
    """Of the cookie that came; empty where none did, and none is needed."""
    auth_time: int | None = None
    """When they signed in, or proved again who they are; None of the local token, whose cookie
    counts for an hour."""
    step_ups: Mapping[ConsolePermission, StepUp] = field(default_factory=dict)
    """What the policy asks of a sign-in for what they may not do with theirs."""
    caller: Principal | None = field(default=None, repr=False)
    """What they call with, as it is asked again where something is written; None of the local token
    itself."""

    def may(self, permission: ConsolePermission) -> bool:
        return permission in self.permissions

    def is_fresh(self, now: float) -> bool:
        return self.auth_time is None or signed_in_within(FRESH_S, self.auth_time, now)


@dataclass(frozen=True, slots=True)
class ConsoleRequest:
    """One call of a page by an operator who may make it."""

    call: Call
    operator: Operator
    request_id: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the page's address: `{id}`."""
    form: Mapping[str, str] = field(default_factory=dict)
    """Of a POST: fields that were left empty are not in it."""
    record: Callable[[AuditEvent], None] = field(default=lambda _: None, repr=False)
    """For an action that goes on once it has written: tells the audit log at once, as it tells
    the events of `Acted`."""

    def query(self, name: str, longest: int = 200) -> str:
        """The one value of a parameter; "" where there is none, or one that nobody typed."""
        value = query_parameter(self.call.query, name) or ""
        return value.strip() if len(value) <= longest else ""


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: a template of `templates/`, and its values."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    title: str = ""
    """In the place of the page's own."""
    events: Sequence[AuditEvent] = ()
    """That it was looked at, of a page that holds what takes an account over; filled in as those
    of an action."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that the browser keeps."""

    name: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Acted:
    """An action was done.  The browser is led to `location` (the page itself where it is empty),
    which says `notice`; or sees `view` at once, for what is shown once; or keeps a file.

    Behind what it has written an action reads nothing more of a store: what is read for a page is
    read by `view`, once the events are told.
    """

    events: Sequence[AuditEvent]
    """At least one, but of an action that only reads, or that told it by `ConsoleRequest.record`;
    `actor`, `address` and `request_id` are filled in by who asked."""
    changes: Sequence[Change] = ()
    """What every live worker has to know: the browser is answered once they have it, or a page
    says that it is not confirmed yet."""
    confirmed: bool = True
    """False where what was done has told the workers itself, and not all have confirmed it."""
    notice: str = ""
    """A key of the `notices` of the page that is led to."""
    location: str = ""
    view: Callable[[], Awaitable[View]] | None = None
    """May raise StoreUnavailable: the operator is told that it was done."""
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """An action was not done; the page is shown again, and says why."""

    sentence: str
    status: int = 422
    fields: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with which field of the form."""
    events: Sequence[AuditEvent] = ()


@dataclass(frozen=True, slots=True)
class NotFound:
    """What the address names is not there."""

    sentence: str = "There is nothing at this address."


Show = Callable[[ConsoleRequest], Awaitable[View | NotFound]]
Stream = Callable[[ConsoleRequest], AsyncGenerator[str, None]]
"""Gives something every few seconds: before it is sent it is asked whether the operator may see
it."""
Act = Callable[[ConsoleRequest], Awaitable[Acted | NotDone | NotFound]]
T = TypeVar("T")


def of_found(
    find: Callable[[ConsoleRequest], Awaitable[T | None]],
    missing: NotFound,
    act: Callable[[ConsoleRequest, T], Awaitable[Acted | NotDone | NotFound]],
) -> Act:
    """An action on what the address names; `missing` where it is not there (any more)."""

    async def acted(request: ConsoleRequest) -> Acted | NotDone | NotFound:
        found = await find(request)
        return missing if found is None else await act(request, found)

    return acted


@dataclass(frozen=True, slots=True)
class ConsoleAction:
    act: Act
    permission: ConsolePermission = ConsolePermission.WRITE
    fresh: bool = True
    """Whether it asks for a sign-in of the last minutes."""
    writes: bool = True
    """False of what writes nothing: it ends with its client, and keeps no worker that stops."""


@dataclass(frozen=True, slots=True)
class ConsolePage:
    path: str
    """`/admin/users`, or `/admin/users/{id}`: a `{name}` is one segment."""
    title: str
    show: Show
    section: str = ""
    """The path of the entry of the navigation under which it stands; empty: its own."""
    actions: Mapping[str, ConsoleAction] = field(default_factory=dict)
    permission: ConsolePermission = ConsolePermission.READ
    notices: Mapping[str, str] = field(default_factory=dict)
    """What `?done=KEY` says."""
    stream: Stream | None = None
    """In the place of `show`: a stream of events that goes on (`text/event-stream`)."""
    stream_type: str = "text/event-stream"
    stream_file: str = ""
    """The name under which a browser keeps the stream, where it is a file."""
    form_bytes: int = 65_536
    """Of a form that is sent to it, at most."""


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    path: str
    label: str


class PageRegistry:
    """The pages of the console by their addresses, and the navigation over them."""

    def __init__(self, pages: Sequence[ConsolePage], navigation: Sequence[NavigationEntry]) -> None:
        """ValueError where two pages have one address, or an entry leads nowhere."""
        self.navigation = tuple(navigation)
        self.every = tuple(pages)
        self._pages = {_shape(page.path): page for page in pages}
        if len(self._pages) != len(pages):
            raise ValueError("two pages of the console have one address")
        dead = [entry.path for entry in navigation if _shape(entry.path) not in self._pages]
        if dead:
            raise ValueError(f"the navigation of the console leads nowhere: {dead}")

    def match(self, segments: tuple[str, ...]) -> tuple[ConsolePage, Mapping[str, str]] | None:
        """The page of these segments, and the values of its `{name}`s; a word before a name."""
        for shape in _shapes(segments):
            page = self._pages.get(shape)
            if page is not None:
                names = page.path.strip("/").split("/")
                pairs = zip(names, segments, strict=True)
                return page, {name[1:-1]: value for name, value in pairs if name[:1] == "{"}
        return None


def page_path(*segments: str) -> str:
    """The address of these segments, each escaped: `page_path("users", id)`."""
    return "/".join((HOME, *(quote(segment, safe="@:") for segment in segments)))


def _shape(path: str) -> tuple[str, ...]:
    return tuple("*" if s[:1] == "{" else s for s in path.strip("/").split("/"))


def _shapes(segments: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The segments as they are, and with a name in the place of the second, the third, both."""
    first, rest = segments[:1], segments[1:]
    if len(rest) > 4 or not all(segments):
        return []
    shapes: list[tuple[str, ...]] = [first]
    for segment in rest:
        shapes = [(*shape, word) for shape in shapes for word in (segment, "*")]
    return shapes
