"""The operator's console as routes, so that what explains and compares routes does so with it.

Who calls a page is judged for `admin:read`, and who acts on one (a POST) for `admin:write`, by the
policy that `console:` names (`gateway.edge.console.operators`).  Whether there is a console at all
say the settings; and the local token is asked no policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gateway.access.console import HOME, ConsolePermission, admin_policy
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import BELOW, PatternSegment, Route, SegmentKind
from gateway.access.snapshot import Snapshot
from gateway.model import CredentialKind
from gateway.review.changes import AccessChange
from gateway.review.diff import Report, compare

_METHODS = {ConsolePermission.READ: "GET", ConsolePermission.WRITE: "POST"}
"""HEAD goes with GET."""


def console_of(snapshot: Snapshot) -> Snapshot:
    """A configuration whose routes are those of the console alone."""
    policy = snapshot.console_policy or admin_policy()
    routes = (
        Route(
            f"console-{permission.name.lower()}",
            (),
            f"{HOME}/{BELOW}",
            (PatternSegment(SegmentKind.LITERAL, HOME.removeprefix("/")),),
            (method,),
            accept=frozenset({CredentialKind.COOKIE, CredentialKind.BEARER}),
            policy=policy,
            action=permission,
            is_prefix=True,
            location=policy.location,
        )
        for permission, method in _METHODS.items()
    )
    return dataclasses.replace(
        snapshot, routes=RouteTable(routes, OwnPaths()), policies={policy.name: policy}
    )


def compare_all(old: Snapshot, new: Snapshot) -> Report:
    """What changes on the routes, and then in the console."""
    report = compare(old, new)
    of_console = compare(console_of(old), console_of(new))
    report.changes += _permitted(of_console)
    report.definitions += [
        one for one in of_console.definitions if one.routes and one not in report.definitions
    ]
    report.decisions += of_console.decisions
    report.inexact += [f"the console, {kind}" for kind in of_console.inexact]
    return report


def _permitted(report: Report) -> Iterator[AccessChange]:
    for change in report.changes:
        permissions = tuple(one for one, method in _METHODS.items() if method in change.methods)
        yield dataclasses.replace(change, permissions=permissions)
