"""Numbers of telephones, as limits count them: by their digits.

Law: what has a `+` before its first digit, and as many digits as a number, is one in a writing that
people use, or cannot be told.  Readers differ in what they skip, cut off and take for an extension
(libphonenumber reads one number in `+1415555-2671/xq` and in `+1415555-2671;isub=q`); no list of
that is whole, and each other writing would be a bucket of its own.

Every text here is in small letters, without control characters, and with single blanks; `written`
is what it was made of.
"""

from __future__ import annotations

import re

from gateway.access.counted_letters import counted_letters

_BETWEEN = r"\s+\-./()\[\]_~*'\u2010-\u2015\u2053\u2212\u223c\u301c\u30fc"
_FROM_PLUS = re.compile(r"[^0-9+]*+\+++(?=(?:[^0-9a-wyz]*+[0-9]){3})(?=(?:[^0-9a-z]*+[0-9a-z]){7})")
_PHONE = re.compile(
    "(?:[^0-9a-z]*+(?:tel|sms|callto|whatsapp):)?+[^0-9a-wyz]*+"
    f"((?:[0-9]x?+[{_BETWEEN}]*+){{7,15}})[^0-9a-z]*+\\Z"
)
_WORDED = re.compile(f"(?:[{_BETWEEN}]*+[0-9]){{3}}[0-9a-z{_BETWEEN}]*+\\Z")
"""With letters as on the keys of a telephone, too: `+1 800 FLOWERS`."""
_LEFT_OUT = re.compile(r"\A([^0-9]*+[0-9]{1,3}[^0-9a-z]?)\(0\)")
"""The nought that is not dialled from abroad."""
_EXTENSION = re.compile(
    r"(?<![ ,;.-])[ ,;.-]*+("
    r"(?:e?xt(?:ensio)?n?|доб|anexo)[ :.=,-]*+[0-9]{1,20}#?"
    r"|(?:int|[x#~])[ :.=,-]*+[0-9]{1,9}#?)\Z"
)
_USUAL = re.compile(r"[^ :.=,0-9-]++[:.=]?[ ,-]*+[0-9]++#?\Z")
"""An extension that is one to every reader: of `x-.7` some read no more than a 7."""
_PARAMETER = re.compile(r"(?:;[a-z-]++=.*+|,,[0-9]{1,9}#?)\Z")
_HASHED = re.compile("[ -][0-9]{1,6}#\\Z")
"""An extension to some, and the end of the number to others."""
_HASH = re.compile("(?<=[0-9])#\\Z")
_END = re.compile(r"(?<![^0-9a-z#])[^0-9a-z#]++\Z")
_LATER = re.compile("[,;]")
"""Behind a number: what is dialled later."""
_SECOND = re.compile(r"[/\\] ?x")
"""Where a second number begins, to some."""
_CONTEXT = ";phone-context="
"""A number may begin behind it, and the rest stand before it (RFC 3966 section 5.1.5)."""
_NAME = re.compile(r"[^\W_]")
_LETTER = re.compile("[a-z]")
_NO_DIGIT = re.compile("[^0-9]+")
_KEYS = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
_FEWEST, _MOST = 7, 15

_MAY_BE_ONE = re.compile(r"(?:[^0-9]*+[0-9]){7}|(?=[^+]*+\+)(?:[^0-9]*+[0-9]){3}")
_BEGINS = re.compile(r"[+\uff0b\d]")
_OTHER_SIGN = re.compile(r"(?![\0-\x7f])[^\W_]")
"""A letter or a digit, of which some make none beside the letters of keys."""
_NOT_ASCII = re.compile(r"[^\0-\x7f]")
_BLANKS = re.compile("[ \t\u00a0]+")


def phone_number(text: str, written: str) -> str | None:
    """The digits of what has the form of a telephone number, without noughts before them; empty for
    anything else, and None where one reads this number in it and another that."""
    if _CONTEXT in text and _MAY_BE_ONE.match(text):
        return None
    plus = _FROM_PLUS.match(text)
    if plus is not None:
        return _from_plus(_END.sub("", text[plus.end() :]), written)
    text = _END.sub("", text)
    shorter = _without_extension(text, written)
    if shorter is None:
        return None if _PHONE.match(_EXTENSION.sub("", text)) else _digits(text)
    digits = _digits(shorter) or _digits(text)
    if not digits and (second := _SECOND.search(text)) and _PHONE.match(text[: second.start()]):
        return None
    return digits


def is_oddly_written(text: str, written: str) -> bool:
    """Whether a text, of which `text` was made, may be a number with signs that are letters and
    digits to some and nothing to others, such as `①`: they end no number, and are none of its."""
    if not _MAY_BE_ONE.match(text):
        return False
    begins = _BEGINS.search(written)
    start = begins.start() if begins else 0
    for found in _NOT_ASCII.finditer(written):
        char = found[0]
        if char.isalpha() or char.isdecimal() or char == "\uff0b":
            continue
        for one in counted_letters(char):
            if one == "+" or "0" <= one <= "9" or ("a" <= one <= "z" and found.start() > start):
                return True
    return False


def _from_plus(text: str, written: str) -> str | None:
    second = _SECOND.search(text)
    later = _LATER.search(text)
    ends = min(one.start() if one else len(text) for one in (second, later))
    if _NAME.search(text[:ends].partition("@")[2]):
        return ""  # an address
    number = _without_extension(text, written)
    if number is None:
        return None
    number = _END.sub("", _LATER.split(number, maxsplit=1)[0])
    if number != text and _EXTENSION.search(number):
        return None  # of two some take the first, and some the last
    if _SECOND.search(number) or not _WORDED.match(number):
        return None
    number = _LEFT_OUT.sub(r"\1", number, count=1)
    letters = len(_LETTER.findall(number))
    if letters:
        if letters < 3 or _OTHER_SIGN.search(written):
            return None
        number = number.translate(_KEYS)
    digits = _NO_DIGIT.sub("", number).lstrip("0")
    return digits if _FEWEST <= len(digits) <= _MOST else None


def _without_extension(text: str, written: str) -> str | None:
    """None where some find one and others do not."""
    found = _EXTENSION.search(text)
    if found is None:
        if _HASHED.search(text):
            return None
        return _PARAMETER.sub("", _HASH.sub("", text), count=1)
    extension = found[1]
    if not _USUAL.match(extension):
        return None
    _, is_there, behind = _as_read(written).rpartition(extension)
    return text[: found.start()] if is_there and not _NAME.search(behind) else None


def _as_read(written: str) -> str:
    """In small letters, and with single blanks."""
    letters = written.lower().replace("o\u0301", "o").replace("\u00f3", "o")
    return _BLANKS.sub(" ", letters)


def _digits(text: str) -> str:
    found = _PHONE.match(text)
    return "" if found is None else _NO_DIGIT.sub("", found[1]).lstrip("0") or "0"
