"""What the demo backend shows to browsers: a small application that knows nothing of signing in.

It greets whom the gateway names, links to what its visitor may do and may not, and shows each call
as it arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

from gateway.access.routing.own_paths import OwnPaths

_IDENTITY = "x-auth-"

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }} – demo application</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; font-weight: 400; }
td { font-family: ui-monospace, monospace; font-size: .9em; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if email %}
<p id="who">Signed in as {{ email }}.</p>
{% else %}
<p id="who">Nobody is signed in.</p>
{% endif %}
{% if home %}
<p>This is the demo backend. It knows nothing of signing in: the gateway asked who you are, and
tells it with every call.</p>
<ul>
<li><a href="/v1/users/{{ user_id | urlencode }}/orders/42">An order of your own</a></li>
<li><a href="/v1/users/someone-else/orders/42">An order of someone else</a>: managers may</li>
<li><a href="/catalogue/shoes">The catalogue</a>: nobody is asked who they are</li>
<li><a href="{{ account }}">Your account</a></li>
<li><a href="{{ sign_out }}">Sign out</a></li>
</ul>
{% else %}
<p><a href="/">Start page</a></p>
{% endif %}
{% if order %}
<h2>Order {{ order.id }}</h2>
<p>{{ order.total }}, of {{ order.owner }}</p>
{% endif %}
<h2>What the backend received</h2>
<table>
<tr><th scope="row">{{ call.method }}</th><td>{{ call.path }}</td></tr>
{% for name, value in fields %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</table>
</body>
</html>
"""


class DemoPage:
    def __init__(self, own_paths: OwnPaths) -> None:
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._template = environment.from_string(_PAGE)
        self._account = own_paths.endpoint("ui", "account")
        self._sign_out = own_paths.endpoint("ui", "sign-out")

    def render(self, call: Mapping[str, Any]) -> str:
        """`call` is what a program is answered: the method, the path, the header fields."""
        headers: Mapping[str, str | list[str]] = call["headers"]
        named = {name.lower(): value for name, value in headers.items()}
        home, order = call["path"] == "/", call.get("order")
        title = "Welcome" if home else f"Order {order['id']}" if order else call["path"]
        return self._template.render(
            call=call,
            title=title,
            home=home,
            order=order,
            email=named.get("x-auth-email"),
            user_id=named.get("x-auth-user-id", ""),
            account=self._account,
            sign_out=self._sign_out,
            fields=sorted(headers.items(), key=_identity_first),
        )


def _identity_first(field: tuple[str, object]) -> bool:
    """Who calls is what the page is about; the rest stays in the order in which it came."""
    return not field[0].lower().startswith(_IDENTITY)
