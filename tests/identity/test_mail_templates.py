from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.mail.templates import FIELDS, InvalidMail, MailTemplate, MailTemplates

VALUES = {
    "link": "https://x.example/verify-email#token=abc",
    "token": "abc",
    "expires": "2026-11-25 13:00 UTC",
    "time": "2026-11-25 12:00 UTC",
    "address": "192.0.2.1",
    "device": "Firefox",
    "key": "laptop",
    "passkey": "laptop",
    "provider": "Example Inc.",
    "factor": "an authenticator app",
    "left": "7",
    "ways": "its password, 2 passkeys",
}


def shipped(*folders: Path) -> MailTemplates:
    return MailTemplates.load(folders, site="x.example", public_url="https://x.example")


@pytest.mark.parametrize("template", list(MailTemplate))
def test_every_shipped_letter_has_text_and_html_with_each_of_its_values(
    template: MailTemplate,
) -> None:
    letter = shipped().render(template, VALUES)
    assert "x.example" in letter.subject
    assert letter.html is not None
    for name in FIELDS[template] - {"site", "public_url", "token"}:
        assert VALUES[name] in letter.text, name
        assert VALUES[name] in letter.html, name


def test_an_operator_replaces_a_letter_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "verify.txt").write_text("Subject: Adresse bestätigen\n\n$link\n")
    letters = shipped(tmp_path)
    letter = letters.render(MailTemplate.VERIFY, VALUES)
    assert (letter.subject, letter.html) == ("Adresse bestätigen", None)
    assert "Choose" in letters.render(MailTemplate.RESET, VALUES).subject


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no subject\n\nx\n", "verify.txt:1: the first line"),
        ("Subject:\n\nx\n", "verify.txt:1: the first line"),
        ("Subject: a\nx\n", "verify.txt:2: an empty line"),
        ("Subject: a\n\n", "verify.txt:2: an empty line"),
        ("Subject: a\n\n$pasword\n", r"verify.txt: \$pasword is unknown here"),
        ("Subject: a\n\n$time\n", r"\$time is unknown here; known: \$expires"),
        ("Subject: a\n\n5 $ each\n", "begins no name"),
    ],
)
def test_a_wrong_template_is_refused_with_its_place(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "verify.txt").write_text(text)
    with pytest.raises(InvalidMail, match=problem):
        shipped(tmp_path)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "verify.txt").write_text("x")
    (tmp_path / "reset.txt").write_text("x")
    with pytest.raises(InvalidMail) as problem:
        shipped(tmp_path)
    assert "verify.txt" in str(problem.value)
    assert "reset.txt" in str(problem.value)


def test_a_value_is_never_read_as_a_template() -> None:
    letter = shipped().render(
        MailTemplate.NEW_DEVICE, {**VALUES, "device": "$address $site ${time}"}
    )
    assert "($address $site ${time})" in letter.text


def test_a_value_cannot_bring_markup_into_the_html_part() -> None:
    letter = shipped().render(MailTemplate.NEW_DEVICE, {**VALUES, "device": '<img src="//e">'})
    assert letter.html is not None
    assert "<img" not in letter.html
    assert "&lt;img" in letter.html


@pytest.mark.parametrize(
    "device", ["a\r\nBcc: b@c.example", "a\nb", "a\x00b", "a\u2028b", "x" * 3000]
)
def test_a_value_that_could_end_a_line_is_refused(device: str) -> None:
    with pytest.raises(InvalidMail, match="device"):
        shipped().render(MailTemplate.NEW_DEVICE, {**VALUES, "device": device})


def test_a_letter_with_a_missing_value_is_refused() -> None:
    with pytest.raises(InvalidMail, match="no value for expires, link, token"):
        shipped().render(MailTemplate.VERIFY, {})


def test_a_mail_that_an_earlier_version_wrote_down_is_sent() -> None:
    letter = shipped().render(MailTemplate.PASSWORD_CHANGED, {"time": VALUES["time"]})
    assert "opens the account now: what the account page lists." in letter.text


@given(st.text())
def test_a_subject_is_always_one_line(device: str) -> None:
    try:
        letter = shipped().render(MailTemplate.NEW_DEVICE, {**VALUES, "device": device})
    except InvalidMail:
        return
    assert len(letter.subject.splitlines()) == 1
