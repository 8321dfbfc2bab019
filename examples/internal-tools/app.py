"""Dashboards, deploys and payroll: pages made on the server, for the gateway in front of them.

    flask --app examples/internal-tools/app.py run --port 9200

They know nothing of signing in: who calls is what the gateway says.  One program stands in for
three; Grafana itself takes its visitor from the same fields (`[auth.proxy]`).
"""

from __future__ import annotations

from flask import Flask, redirect, render_template_string, request
from werkzeug.wrappers import Response

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
</head>
<body>
<p id="who">{{ who }}</p>
<nav>
<a href="/">Tools</a> · <a href="/auth/ui/account">Your account</a> ·
<a href="/auth/ui/sign-out">Sign out</a>
</nav>
<h1>{{ title }}</h1>
{% if text %}<p id="text">{{ text }}</p>{% endif %}
{% if links %}
<ul>
{% for target, name in links %}<li><a href="{{ target }}">{{ name }}</a></li>{% endfor %}
</ul>
{% endif %}
{% if deploys %}
<form method="post"><button>Deploy</button></form>
{% endif %}
</body>
</html>
"""
LINKS = (
    ("/grafana/d/1", "Dashboards"),
    ("/deploys/checkout", "Deploys of checkout"),
    ("/payroll/june", "Payroll of June"),
)

app = Flask(__name__)
deployed_by: dict[str, str] = {}


def caller(name: str = "X-Auth-Email") -> str:
    """Whom the gateway names.  Nobody else can: it removes these fields from what clients send."""
    return request.headers.get(name) or request.headers.get("X-Auth-User-Id", "nobody")


@app.get("/")
def tools() -> str:
    return render_template_string(PAGE, title="Tools", who=caller(), links=LINKS)


@app.get("/d/<int:number>")
def dashboard(number: int) -> str:
    """As Grafana is called: its prefix is gone, and its own fields are there."""
    role = request.headers.get("X-WEBAUTH-ROLE", "")
    return render_template_string(
        PAGE,
        title=f"Dashboard {number}",
        who=caller("X-WEBAUTH-USER"),
        text=f"Your role is {role}.",
    )


@app.get("/deploys/<service>")
def deploys(service: str) -> str:
    by = deployed_by.get(service)
    text = f"Deployed by {by}." if by else "Not deployed yet."
    return render_template_string(
        PAGE, title=f"Deploys of {service}", who=caller(), text=text, deploys=True
    )


@app.post("/deploys/<service>")
def deploy(service: str) -> Response:
    """Nothing here asks where the form came from: the gateway has, before it let it through."""
    deployed_by[service] = caller()
    return redirect(f"/deploys/{service}", 303)


@app.get("/payroll/<month>")
def payroll(month: str) -> str:
    return render_template_string(
        PAGE, title=f"Payroll of {month}", who=caller(), text="Everybody is paid."
    )
