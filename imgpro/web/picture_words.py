"""A picture in words and links, as its page shows it. Times of the model are Unix milliseconds."""

import base64
import datetime
from typing import Final

import msgspec

from imgpro.forms import show_bytes
from imgpro.model import Image
from imgpro.recipes import ANIMATED_OUTPUT, EXTENSIONS, MAX_SIDE_PX, SIZES
from imgpro.web import respond
from imgpro.web.links import Links

_SIZE_NAMES: Final = {"s": "Small", "m": "Medium", "l": "Large"}
_OFFERED: Final = ("jpeg", "png", "webp", "avif")
_FORMAT_NAMES: Final = {"webp": "WebP"}
_SPANS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60))


class Moment(msgspec.Struct, frozen=True):
    """A time for `<time>`: in ISO form and in words."""

    iso: str
    words: str


class Offered(msgspec.Struct, frozen=True):
    """One size of a picture and its links by format."""

    label: str
    width: int
    height: int
    links: list[tuple[str, str]]


def frame(image: Image) -> str:
    """Return an SVG as a data URI: the placeholder drawn in the picture's own size.

    It gives the page its final shape before a byte of the picture is there, without inline style, which the
    content security policy forbids. Transparent pictures get an empty one: nothing may shine through them.
    """
    width, height = image.blob.width, image.blob.height
    size = f'width="{width}" height="{height}"'
    inner = ""
    if image.blob.placeholder and not image.blob.has_alpha:
        inner = f'<image href="{image.blob.placeholder}" {size} preserveAspectRatio="none"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">{inner}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def embeds(image: Image, links: Links) -> list[tuple[str, str, str]]:
    """Return what people paste elsewhere: name, label and text, each text safe in the language it is for."""
    page, src = (link.replace("&", "&amp;") for link in (links.page, links.src))
    size = f'width="{image.blob.width}" height="{image.blob.height}"'
    return [
        ("link", "Link", links.page),
        ("picture", "Picture", links.src),
        ("markdown", "Markdown", f"![{respond.markdown_text(image.name)}]({links.src})"),
        ("html", "HTML", f'<a href="{page}"><img src="{src}" {size} alt=""></a>'),
        ("bbcode", "BBCode", f"[url={links.page}][img]{links.src}[/img][/url]"),
    ]


def facts(image: Image) -> str:
    """Return size, format and weight in one line."""
    blob = image.blob
    return f"{blob.width} × {blob.height} {blob.format.upper()}, {show_bytes(blob.stored_bytes)}"


def cut(text: str, max_bytes: int) -> str:
    """Return text of one line, cut between characters to so many bytes."""
    raw = " ".join(text.split()).encode()
    return raw.decode() if len(raw) <= max_bytes else raw[: max_bytes - 3].decode(errors="ignore") + "…"


def moment(at_ms: int) -> Moment:
    """Return a time of ours."""
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return Moment(at.isoformat(timespec="seconds"), f"{_day(at)}, {at:%H:%M} UTC")


def display_date(raw: str | None) -> Moment | None:
    """Return the date that somebody gave a picture, as exact as it was given."""
    if raw is None:
        return None
    at = datetime.datetime.fromisoformat(raw)
    if at.tzinfo is not None:
        return Moment(at.isoformat(), f"{_day(at)}, {at:%H:%M} {at:%Z}")
    return Moment(raw.replace(" ", "T"), _day(at) if len(raw) == 10 else f"{_day(at)}, {at:%H:%M}")


def ends(image: Image, now_ms: float) -> tuple[str, Moment] | None:
    """Return in how long a picture ends, e.g. `in 3 days`, and when; None for one that is kept."""
    if image.expires_ms is None:
        return None
    left_s = (image.expires_ms - now_ms) / 1000
    words = "in less than a minute"
    for unit, size in _SPANS:
        # Up to two units of one kind the next smaller one says more: 36 hours, not 2 days.
        if left_s >= 2 * size or (left_s >= size and unit == "minute"):
            count = round(left_s / size)
            words = f"in {count} {unit}" if count == 1 else f"in {count} {unit}s"
            break
    return words, moment(image.expires_ms)


def offered_sizes(image: Image, links: Links) -> list[Offered]:
    """Return the sizes that really are smaller than the picture, then the picture itself, each in several formats.

    What moves comes first in those formats that can move. The stored format is always among those of the original.
    """
    blob = image.blob
    offered = []
    formats = [] if blob.format == "svg" else list(_OFFERED)
    if blob.format in EXTENSIONS and blob.format not in formats:
        formats.append(blob.format)
    if blob.frames > 1:
        formats.sort(key=lambda each: each not in ANIMATED_OUTPUT and each != blob.format)
    for size in SIZES:
        entry = links.sizes()[size]
        if entry["width"] < blob.width:
            width, height = entry["width"], entry["height"]
            named = _named(links, [each for each in formats if _holds(each, width, height)], size)
            offered.append(Offered(_SIZE_NAMES[size], width, height, named))
    formats = [each for each in formats if each == blob.format or _holds(each, blob.width, blob.height)]
    if blob.format not in formats:
        formats.append(blob.format)
    offered.append(Offered("Original", blob.width, blob.height, _named(links, formats, "o")))
    return offered


def _named(links: Links, formats: list[str], size: str) -> list[tuple[str, str]]:
    return [(_FORMAT_NAMES.get(each, each.upper()), links.picture(each, size)) for each in formats]


def _holds(extension: str, width: int, height: int) -> bool:
    return max(width, height) <= MAX_SIDE_PX[EXTENSIONS[extension]]


def _day(at: datetime.datetime) -> str:
    return f"{at.day} {at:%B %Y}"
