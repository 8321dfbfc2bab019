"""What the page of a refusal says of the reason that a rule of a policy gives."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.access.routing.own_paths import OwnPaths
from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.pages.assets import Assets, shipped_files
from gateway.edge.pages.refusals import RefusalPage
from gateway.edge.pages.renderer import PageRenderer
from gateway.edge.pages.shipped_texts import shipped_texts
from gateway.edge.pages.texts import Catalogue
from gateway.model import Call, Reason

CALL = Call(
    "GET", "gate.example", "/desk", ("desk",), "", headers=(), client_ip="192.0.2.1", scheme="https"
)


def page_saying(rule_reason: str, **texts: str) -> str:
    shipped = shipped_texts()
    catalogue = Catalogue({**shipped, "en": {**shipped["en"], **texts}})
    environment = Environment(
        loader=PackageLoader("gateway.edge.pages"), autoescape=True, undefined=StrictUndefined
    )
    renderer = PageRenderer(
        environment, catalogue, Assets(shipped_files()), OwnPaths(), site="gate.example", https=True
    )
    page = RefusalPage(renderer, catalogue, OwnPaths()).page(
        CALL, ProblemReply(Reason.NO_RULE), "request-1", rule_reason
    )
    assert page.status == 403
    return page.document.decode()


def test_the_operators_text_for_it_is_shown() -> None:
    texts = {"denied.account_suspended": "Your account rests. Call <the desk>."}
    document = page_saying("account_suspended", **texts)
    assert "Your account rests. Call &lt;the desk&gt;." in document
    assert "request-1" in document


def test_without_one_the_plain_sentence_is() -> None:
    document = page_saying("account_suspended")
    assert "You have no access to this page." in document
    assert "account_suspended" not in document
