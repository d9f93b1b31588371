"""The kind of a file is told from its bytes alone, and everything not on the list is refused."""

import gzip
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import UnsupportedFormat
from imgpro.imaging.sniff import sniff
from imgpro.model import StoredFormat
from tests.containers import encode, picture

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\0\x10meta" + bytes(8)


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "bmp", "ico"])
def test_what_pillow_writes(kind: str) -> None:
    assert (
        sniff(memoryview(encode(picture(), kind.upper(), **({"sizes": [(16, 16)]} if kind == "ico" else {})))) == kind
    )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ftyp(b"avif", b"mif1"), "avif"),
        (ftyp(b"avis"), "avif"),
        (ftyp(b"mif1", b"miaf", b"avif"), "avif"),
        (ftyp(b"heic", b"mif1"), "heic"),
        (ftyp(b"heix"), "heic"),
        (ftyp(b"msf1", b"hevc"), "heic"),
        (ftyp(b"mif1", b"heic"), "heic"),
        (SVG, "svg"),
        (b"\xef\xbb\xbf \n" + SVG, "svg"),
        (b'<?xml version="1.0"?>\n<!-- > made -- by --><!DOCTYPE svg PUBLIC "-//W3C" "x.dtd">' + SVG, "svg"),
        (b'<!DOCTYPE svg [ <!ENTITY a "b"> ] >\n' + SVG, "svg"),
        (b"<!--" + b"licence " * 5_000 + b"-->" + SVG, "svg"),
        (b'<s:svg xmlns:s="http://www.w3.org/2000/svg"></s:svg>', "svg"),
        (b"\xff\xfe" + SVG.decode().encode("utf-16-le"), "svg"),
        (b"\xfe\xff" + SVG.decode().encode("utf-16-be"), "svg"),
    ],
)
def test_accepted(data: bytes, kind: str) -> None:
    assert sniff(memoryview(data)) == kind


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(30), "PostScript"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\0\0\x02\0\x01\0", "Cursor"),
        (b"PK\x03\x04", "ZIP"),
        (gzip.compress(SVG, mtime=0), "SVGZ"),
        (ftyp(b"isom", b"mp42"), "not a picture format"),
        (ftyp(b"mif1"), "not a picture format"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not a picture format"),
        (b"BM" + bytes(40), "not a picture format"),
        (b"\0\0\x01\0\0\0", "not a picture format"),
        (b"<!DOCTYPE html><svg>", "not a picture format"),
        (b"<html><svg/></html>", "not a picture format"),
        (b"<svgx/>", "not a picture format"),
        (b"<!-- no end " + SVG, "not a picture format"),
        (b"<!--" + b" " * 70_000 + b"-->" + SVG, "not a picture format"),
        (b"plain text", "not a picture format"),
        (b"\x89PNG", "not a picture format"),
    ],
)
def test_refused(data: bytes, word: str) -> None:
    with pytest.raises(UnsupportedFormat, match=word):
        sniff(memoryview(data))


@given(st.binary(max_size=200), st.sampled_from([b"", b"<?", b"<!--", b"<!DOCTYPE[", b"\xff\xfe<", b"\0\0\0\x18ftyp"]))
def test_never_anything_but_a_clean_refusal(rest: bytes, start: bytes) -> None:
    with suppress(UnsupportedFormat):
        assert sniff(memoryview(start + rest)) in get_args(StoredFormat)
