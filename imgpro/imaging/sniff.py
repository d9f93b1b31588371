"""Tells what kind of picture a file is from its first bytes, and refuses everything that is not on the list.

Knows nothing of names, declared types, limits or what stands further in the file.
"""

import re
import struct
from typing import Final

from imgpro.errors import UnsupportedFormat
from imgpro.model import StoredFormat

_HEAD_BYTES: Final = 64 * 1024  # enough for any licence comment ahead of an SVG's root element

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_BMP_HEADER_BYTES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})

# Only there to give a clearer sentence than "unknown": all of these are refused either way.
_REFUSED: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF-", "PDF documents are not accepted."),
    (b"%!", "PostScript files are not accepted."),
    (b"\xc5\xd0\xd3\xc6", "PostScript files are not accepted."),
    (b"II*\x00", "TIFF and camera raw files are not accepted."),
    (b"MM\x00*", "TIFF and camera raw files are not accepted."),
    (b"II+\x00", "TIFF and camera raw files are not accepted."),
    (b"MM\x00+", "TIFF and camera raw files are not accepted."),
    (b"IIRO", "TIFF and camera raw files are not accepted."),
    (b"IIU\x00", "TIFF and camera raw files are not accepted."),
    (b"FUJIFILMCCD-RAW", "TIFF and camera raw files are not accepted."),
    (b"8BPS", "Photoshop documents are not accepted."),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000 pictures are not accepted."),
    (b"\xff\x4f\xff\x51", "JPEG 2000 pictures are not accepted."),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL pictures are not accepted."),
    (b"\xff\x0a", "JPEG XL pictures are not accepted."),
    (b"SIMPLE  =", "FITS files are not accepted."),
    (b"\x00\x00\x02\x00", "Cursor files are not accepted."),
    (b"\x1f\x8b", "Compressed files, SVGZ among them, are not accepted."),
    (b"PK\x03\x04", "ZIP archives are not accepted."),
    (b"gimp xcf", "GIMP documents are not accepted."),
    (b"\x8aMNG", "MNG animations are not accepted."),
)

_SVG_PROLOGUE: Final = re.compile(
    rb"(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+(?:[\w.-]+:)?svg\b[^\[>]*(?:\[[^\]]*\]\s*)?>)", re.DOTALL
)
_SVG_ROOT: Final = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?svg[\s>/]")


def sniff(data: memoryview) -> StoredFormat:
    """Return the format that the content itself shows. Raises UnsupportedFormat for everything else."""
    if not len(data):
        raise UnsupportedFormat("The file is empty.")
    head = bytes(data[:64])
    found = _by_magic(head) or _by_brand(data) or _by_text(data)
    if found is None:
        raise UnsupportedFormat(_refusal(head))
    return found


def _by_magic(head: bytes) -> StoredFormat | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(_PNG):
        return "png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_BYTES:
        return "bmp"
    if head.startswith(b"\x00\x00\x01\x00") and len(head) >= 6 and head[4:6] != b"\x00\x00":
        return "ico"
    return None


def _by_brand(data: memoryview) -> StoredFormat | None:
    """Read an ISO base media `ftyp` box. The major brand decides; a neutral one leaves it to the compatible ones."""
    if len(data) < 16 or bytes(data[4:8]) != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    major = bytes(data[8:12])
    compatible = {bytes(data[at : at + 4]) for at in range(16, size - 3, 4)}
    for brands in ({major}, compatible):
        if brands & _AVIF_BRANDS:
            return "avif"
        if brands & _HEIC_BRANDS:
            return "heic"
    return None


def _by_text(data: memoryview) -> StoredFormat | None:
    """Look for an `svg` root element behind an XML prologue."""
    text = bytes(data[:_HEAD_BYTES])
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        codec = "utf-16-le" if text.startswith(b"\xff\xfe") else "utf-16-be"
        text = text[2:].decode(codec, "replace").encode("ascii", "replace")
    text = text.removeprefix(b"\xef\xbb\xbf")
    at = 0
    while found := _SVG_PROLOGUE.match(text, at):
        at = found.end()
    return "svg" if _SVG_ROOT.match(text, at) else None


def _refusal(head: bytes) -> str | None:
    for magic, sentence in _REFUSED:
        if head.startswith(magic):
            return sentence
    return None
