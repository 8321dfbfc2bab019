"""The operator's folder `pages/`: what it changes, and how each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.edge.pages.assets import shipped_files
from gateway.edge.pages.overrides import (
    InvalidPages,
    PageOverrides,
    load_overrides,
    read_overrides,
)
from gateway.edge.pages.theme import SHIPPED, contrast
from tests.edge.auth_house import open_house
from tests.edge.pages.visitor import Visitor, document

SIGN_IN = "/auth/ui/sign-in"
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


def folder(tmp_path: Path, **files: str | bytes) -> Path:
    """`texts__en_yaml` is the file `texts/en.yaml`."""
    made = tmp_path / "pages"
    made.mkdir()
    for name, content in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = made / f"{stem.replace('_', '-') if 'texts' in stem else stem}.{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return made


async def test_logo_colours_texts_and_templates_take_the_place_of_the_shipped_ones(
    tmp_path: Path,
) -> None:
    own = load_overrides(
        folder(
            tmp_path,
            logo_svg="<svg xmlns='http://www.w3.org/2000/svg'/>",
            theme_yaml='name: Example Inc.\nlight: {accent: "#0F766E"}\ndark: {accent: "#5eead4"}\n',
            texts__en_yaml="sign_in.title: Welcome back\n",
            texts__fr_yaml="sign_in.title: Connexion\n",
            templates__signed_in_html="{% extends 'layout.html' %}{% block main %}<h1>Ours</h1>{% endblock %}",
        )
    )
    async with open_house(tmp_path, page_overrides=own) as house:
        visitor = Visitor(house)
        page = document(await visitor.get(SIGN_IN))
        assert "<title>Welcome back – Example Inc.</title>" in page.text
        (logo,) = page.all("img")
        assert logo["alt"] == "Example Inc."
        assert (await visitor.get(logo["src"])).values("content-type") == [b"image/svg+xml"]
        links = {given["rel"]: given["href"] for given in page.all("link")}
        assert links["icon"] == logo["src"]
        style = links["stylesheet"]
        css = (await visitor.get(style)).body.decode()
        assert ":root {--accent: #0f766e; --on-accent: #ffffff;}" in css
        assert "--accent: #5eead4; --on-accent: #000000;" in css
        visitor.language = "fr"
        page = document(await visitor.get(SIGN_IN))
        assert ("html", {"lang": "fr"}) in page.attributes
        assert "Connexion" in page.text
        assert "Forgot your password?" in page.text
        await house.register()
        await visitor.post(
            SIGN_IN, {"email": "alice@example.com", "password": "correct horse 7 battery"}
        )
        assert "<h1>Ours</h1>" in document(await visitor.get(SIGN_IN)).text


def test_the_reason_of_a_rule_is_given_words(tmp_path: Path) -> None:
    own = load_overrides(folder(tmp_path, texts__en_yaml="denied.account_suspended: Call us.\n"))
    assert own.texts == {"en": {"denied.account_suspended": "Call us."}}


def test_without_a_folder_the_shipped_pages_stay(tmp_path: Path) -> None:
    assert read_overrides(tmp_path / "none") == PageOverrides()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"theme_yml": ""}, r"theme\.yml:1:1: nothing reads this here.*theme\.yaml"),
        ({"theme_yaml": "nme: x\n"}, r"theme\.yaml:1:1: unknown key `nme`.*`name`"),
        ({"theme_yaml": "light:\n  accent: red\n"}, r'theme\.yaml:2:11: `accent` is a colour'),
        ({"theme_yaml": 'light: {text: "#dddddd"}\n'}, r"theme\.yaml:1:15: `text` on `card` .* 4\.5"),
        ({"theme_yaml": 'dark: {card: "#f0f0f0"}\n'}, r"theme\.yaml:1:14: `text` on `card`"),
        ({"texts__en_yaml": "sign_in.titel: x\n"}, r"en\.yaml:1:1: unknown key .*sign_in\.title"),
        ({"texts__de_yaml": "signed_in.as: Sie, {mail}\n"}, r"de\.yaml:1:15: .*\{mail\}.*\{email\}"),
        ({"texts__en_yaml": "denied.No: x\n"}, r"en\.yaml:1:1: unknown key `denied\.No`"),
        ({"texts__en_yaml": "denied.no: x {wait}\n"}, r"en\.yaml:1:12: .*\{wait\}.*none"),
        ({"texts__de_yaml": "sign_in.title: [a]\n"}, r"de\.yaml:1:16: "),
        ({"texts__klingon9_yaml": "{}\n"}, r"klingon9\.yaml:1:1: the name of the file is no language"),
        ({"templates__sign_in_html": "\n{% if %}\n"}, r"sign_in\.html:2:1: "),
        ({"templates__sign_in_html": "\n\n{{ emial }}"}, r"sign_in\.html:3:1: `emial` is not given.*`email`"),
        ({"logo_png": b"GIF89a"}, r"logo\.png:1:1: is no PNG image"),
        ({"logo_png": PNG, "logo_svg": "<svg/>"}, r"logo\.svg:1:1: there is a logo\.png too"),
        ({"logo_png": PNG + b"0" * 100_000}, r"logo\.png:1:1: holds 100,\d+ bytes"),
        ({"texts__en_yaml": b"\xff"}, r"en\.yaml:1:1: cannot be read as UTF-8 text"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_place(
    tmp_path: Path, files: dict[str, str | bytes], told: str
) -> None:
    with pytest.raises(InvalidPages) as refused:
        load_overrides(folder(tmp_path, **files))
    assert re.search(told, str(refused.value)), refused.value


def test_the_shipped_colours_are_those_of_the_style_and_can_be_read() -> None:
    css = shipped_files()["pages.css"].decode()
    for scheme, colours in SHIPPED.items():
        for name, colour in colours.items():
            assert f"--{name}: {colour};" in css, (scheme, name)
        for front, behind in (("text", "card"), ("quiet", "card"), ("link", "card")):
            assert contrast(colours[front], colours[behind]) >= 4.5


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
