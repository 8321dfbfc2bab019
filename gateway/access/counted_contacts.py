"""Addresses of e-mail, as limits count them: without what stands around them.

Many backends read a text by a parser of such (`EmailStr` of Pydantic, `parseaddr` of Python,
`MailAddress` of .NET), and look up what it found: `ann <a@example.com>` is `a@example.com` to them.
Law: where those read different addresses, none is told; what has no form of one stays as it is.

Every text here is in small letters, without control characters, and with single blanks.
"""

from __future__ import annotations

import re

import idna

from gateway.access.counted_letters import counted_letters

LONGEST_ADDRESS = 256
_LONGEST_LABEL = 63
_URL = re.compile(r'[a-z][a-z0-9+.-]*+://[^\s<>"()\\]*+\Z')
_NAMED = re.compile(r'"(?:[^"\\]|\\.)*+" ?(<[^<>"()\\]*+>)\Z')
"""An address behind a name, which may be an address itself."""
_ROUTE = re.compile(r'(\A|<) ?(?:@[^@:<>"()\\]*+)++:')
_SPECIAL = re.compile(r'[ <>()",;:\\\[\]]')
_AROUND = re.compile(r'[<>()"\\\[\]]')
_LITERAL = re.compile(r"\[([^\[\]\\]*+)\] ?>?\Z")
_BLANKS_AT_DOTS = re.compile(r" ?\. ?")
_ODD = "\0"
"""Stands for what a name holds in quotes alone."""
_KEEPS_NO_DOT = re.compile(r"[^.@\x00-,/:-@\[-`{-\x7f]*+\Z")
"""A label that is written in the letters of its `xn--` and nothing else."""

_SUBSCRIPT = "ι"
"""Of Greek: a letter of its own in the name of a domain, and a mark that is left out else."""


def bare_address(text: str) -> str | None:
    """The address that a text with an `@` is to whoever reads one; the text where it is none, and
    None where one reads this address in it and another that."""
    if _URL.match(text):
        return text
    if len(text) > LONGEST_ADDRESS:
        return None
    named = _NAMED.match(text)
    bare = _ROUTE.sub(r"\1", named[1] if named else text, count=1)
    before, _, after = bare.partition("@")
    if "@" in after:
        # `@scope/name@1.2` is the name of a package.
        return text if text[0] == "@" and not _SPECIAL.search(text) else None
    apart = before[-1:] == " " or after[:1] == " "
    local = _local(before, apart)
    domain = _domain(after, apart) if local else ""
    if local is None or domain is None:
        return None
    if not local or not domain or "+" in domain:
        return None if _AROUND.search(before) else text
    return f"{local}@{domain}"


def _local(text: str, apart: bool) -> str | None:
    """What names somebody within a domain; empty for nothing."""
    if _SPECIAL.search(text):
        inner = _outside_comments(text.rpartition("<")[2])
        # Of `"a" (" <b` some read the quotes as one name, and some as two.
        outer = _outside_comments(text) if "<" in text else inner
        if inner is not None and outer is not None and inner != outer:
            return None
        local = outer if inner is None else inner
        if local is None:
            return None
        text = local.strip()
        if " " in text:
            joined = _BLANKS_AT_DOTS.sub(".", text)
            if joined != text and not apart:
                return None
            text = joined.rpartition(" ")[2]
    return None if _ODD in text else text


def _outside_comments(text: str) -> str | None:
    """The last name of a text, without comments and quotes; None where some do not end."""
    kept: list[str] = []
    depth, is_quoted, is_odd, at = 0, False, False, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
            if is_quoted:
                char = text[at : at + 1]
                kept.append(_ODD if _SPECIAL.match(char) else char)
            elif not depth:
                is_odd = True
        elif depth:
            depth += {"(": 1, ")": -1}.get(char, 0)
            if not depth and "".join(kept[-1:]).strip() and text[at + 1 : at + 2].strip(" .@<,;:"):
                is_odd = True  # `a(b)c` is `ac`, or `c`
        elif char == '"':
            is_quoted = not is_quoted
        elif is_quoted:
            kept.append(_ODD if _SPECIAL.match(char) else char)
        elif char == "(":
            depth = 1
        elif char in "<,;:":
            kept.clear()
            is_odd = False
        elif char in ")>[]":
            is_odd = True
        else:
            kept.append(char)
        at += 1
    return None if depth or is_quoted or is_odd else "".join(kept)


def _domain(text: str, apart: bool) -> str | None:
    if _SPECIAL.search(text):
        literal = _LITERAL.match(text)
        if literal is not None:
            return f"[{literal[1].replace(' ', '')}]"
        host = _host(text)
        if host is None:
            return None
        text = host.strip()
        if " " in text:
            if not apart:
                return None
            text = text.replace(" ", "")
    text = text.replace("\u3002", ".").rstrip(".")
    if "xn--" in text:
        text = ".".join(map(_label, text.split(".")))
    return text if text.isascii() else _mapped(text)


def _host(text: str) -> str | None:
    """A domain without comments and without what follows it."""
    kept: list[str] = []
    depth, at = 0, 0
    while at < len(text):
        char = text[at]
        if depth:
            if char == "\\":
                at += 1
            depth += {"(": 1, ")": -1}.get(char, 0)
            if not depth and "".join(kept).strip() and text[at + 1 : at + 2].strip(" <>,;"):
                return None  # `a(b).c` is `a.c`, or `a`
        elif char in "<>,;":
            break
        elif char == "(":
            depth = 1
        elif char in ')":\\[]':
            return None
        else:
            kept.append(char)
        at += 1
    return None if depth else "".join(kept)


def _mapped(domain: str) -> str:
    """As it is looked for: `idna` knows letters that the Unicode of this Python does not."""
    try:
        mapped = counted_letters(idna.uts46_remap(domain, std3_rules=False))
    except idna.IDNAError:
        mapped = domain
    return (domain if _SPECIAL.search(mapped) or "@" in mapped else mapped).replace(_SUBSCRIPT, "")


def _label(label: str) -> str:
    """In the letters that its `xn--` stands for."""
    if not label.startswith("xn--") or not 4 < len(label) <= _LONGEST_LABEL:
        return label
    try:
        letters = counted_letters(label[4:].encode().decode("punycode"))
    except UnicodeError:
        return label
    return letters if _KEEPS_NO_DOT.match(letters) and not letters.startswith("xn--") else label
