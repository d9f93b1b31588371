"""QR codes of links, for phones to read off a screen: dark on light with a quiet zone, whatever the page looks like."""

import io
from typing import Any, Final

import segno
from markupsafe import Markup

_LOOK: Final[dict[str, Any]] = {"border": 4, "dark": "#000", "light": "#fff", "omitsize": True}


def as_file(link: str) -> bytes:
    """Return the code as an SVG file."""
    drawn = io.BytesIO()
    _code(link).save(drawn, kind="svg", xmldecl=False, **_LOOK)
    return drawn.getvalue()


def as_address(link: str) -> str:
    """Return the code as a `data:` address, for a picture in a page that nobody may keep."""
    return _code(link).svg_data_uri(**_LOOK)


def inline(link: str) -> Markup:
    """Return the code as SVG for the middle of a page."""
    return Markup(_code(link).svg_inline(**_LOOK))  # noqa: S704 - drawn here


def _code(link: str) -> segno.QRCode:
    return segno.make_qr(link, error="m")
