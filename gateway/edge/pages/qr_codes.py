"""The QR code by which an authenticator app takes a secret: drawn here, so that no other host and
no script sees it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

_LONGEST = 1_024
_BORDER = 4
"""Modules of quiet around it (ISO/IEC 18004 section 6.3.8)."""
_GROUP = 4
_MASK = 3
"""Of the eight patterns one that is no stripes (section 7.8): to try all, for the one that is a
little easier to read, takes five times as long."""


def qr_code(uri: str, *, drawn: bool = True) -> dict[str, str]:
    """For a template: the path and the side of the drawing, and the secret to be typed by hand;
    all empty for what is no such URI.

    To draw stops the worker for 1 to 13 ms, the longer the URI: a form that anybody may send again
    and again is shown without a drawing.
    """
    if not uri.startswith("otpauth://totp/") or len(uri) > _LONGEST or not uri.isascii():
        return {"qr_path": "", "qr_side": "0", "secret": ""}
    secret = parse_qs(urlsplit(uri).query).get("secret", [""])[0]
    grouped = " ".join(secret[at : at + _GROUP] for at in range(0, len(secret), _GROUP))
    if not drawn:
        return {"qr_path": "", "qr_side": "0", "secret": grouped}
    # Here: once in the life of an account, and it takes its time and 1 MB to import.
    import segno

    code = segno.make(uri, micro=False, error="m", mask=_MASK)
    rows = tuple(code.matrix_iter(border=_BORDER))
    path = "".join(
        f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark
    )
    return {"qr_path": path, "qr_side": str(len(rows)), "secret": grouped}
