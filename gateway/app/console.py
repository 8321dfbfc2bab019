"""The operator's console: its pages, put together over what a worker is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.app.components import Components
from gateway.app.status import WorkerStatus
from gateway.edge.console.console import Console, ConsoleDependencies
from gateway.edge.console.local_sign_in import LocalSignIn
from gateway.edge.console.operators import OperatorDependencies, Operators
from gateway.edge.console.overview_page import OverviewPage
from gateway.edge.console.pages import HOME, ConsolePage, NavigationEntry, PageRegistry
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.edge.console.sign_in_page import ConsoleSignIn, ConsoleSignInDependencies
from gateway.edge.console.static_files import StaticFiles
from gateway.identity.key_derivation import KeyPurpose, derived_key

NAVIGATION = (NavigationEntry(HOME, "Overview"),)


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    console: Console
    operators: Operators


def build_console(components: Components, status: WorkerStatus) -> ConsoleParts:
    plan = components.plan
    key = derived_key(plan.key_secret(), KeyPurpose.CONSOLE)
    local = LocalSignIn(plan.folder.admin_token(), key, components.clock)
    operators = Operators(OperatorDependencies(local, components.authenticator, components.csrf))
    static_files = StaticFiles()
    site = plan.settings.public_url.partition("://")[2]
    renderer = ConsoleRenderer(static_files, NAVIGATION, site=site)
    sign_in = ConsoleSignIn(ConsoleSignInDependencies(local, operators, renderer, components.audit))
    return ConsoleParts(
        Console(
            ConsoleDependencies(
                pages=PageRegistry(_pages(components, status), NAVIGATION),
                renderer=renderer,
                static_files=static_files,
                operators=operators,
                sign_in=sign_in,
                audit=components.audit,
                clock=components.clock,
            )
        ),
        operators,
    )


def _pages(_components: Components, status: WorkerStatus) -> Sequence[ConsolePage]:
    """Each file of pages is a line here."""
    return [
        *OverviewPage(status.socket, status).pages(),
    ]
