"""Writes an AVIF or HEIC file anew with nothing in it but the picture that was found.

Item data is copied byte for byte; only the description is built again. Decides nothing.
"""

import struct
from typing import Final

from imgpro.imaging.containers.bmff_boxes import IN_IDAT, Box, Extent, Item, Meta
from imgpro.imaging.containers.bmff_picture import Picture

SEQUENCE_BRANDS: Final = frozenset({b"avis", b"avio", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"})
_STILL_BRANDS: Final = frozenset(b"mif1 mif2 miaf avif heic heix heim heis MA1A MA1B MiHA MiHB MiHE MiPr MiAB".split())
_OWN_BRAND: Final = {"avif": b"avif", "heic": b"heic"}
_KEPT_REFERENCES: Final = frozenset({b"dimg", b"auxl", b"prem"})


def rewritten(
    data: memoryview, meta: Meta, picture: Picture, brands: tuple[bytes, ...], minor_version: bytes
) -> tuple[bytes | memoryview, ...]:
    """Return the cleaned file in pieces, most of them views into `data`."""
    items = [item for number, item in meta.items.items() if number in picture.kept]
    wide = max(item.id for item in items) > 0xFFFF
    idat, idat_places = _gathered(data, [item for item in items if item.method == IN_IDAT])
    media, media_places = _gathered(data, [item for item in items if item.method != IN_IDAT])
    places = {True: idat_places, False: media_places}
    idat_bytes = b"".join(idat)
    ftyp = _ftyp(picture, brands, minor_version)

    def described(media_at: int) -> bytes:
        located = [
            (item, item.method, *_moved(places[item.method == IN_IDAT].get(item.extents, (0, 0)), item, media_at))
            for item in items
        ]
        return _meta(data, meta, picture, items, _iloc(located, wide), wide, idat_bytes)

    length = len(described(0))  # the places are of fixed width, so the first attempt has the right length
    media_at = len(ftyp) + length + 8
    media_bytes = sum(len(part) for part in media)
    return (ftyp, described(media_at), struct.pack(">I4s", media_bytes + 8, b"mdat"), *media)


def _gathered(
    data: memoryview, items: list[Item]
) -> tuple[list[memoryview], dict[tuple[Extent, ...], tuple[int, int]]]:
    """Put item data one behind the other, in file order, each piece once; return pieces and each item's place."""
    pieces: list[memoryview] = []
    places: dict[tuple[Extent, ...], tuple[int, int]] = {}
    at = 0
    for item in sorted(items, key=lambda item: item.extents):
        if item.extents and item.extents not in places:
            places[item.extents] = (at, item.length)
            pieces += [data[offset : offset + length] for offset, length in item.extents]
            at += item.length
    return pieces, places


def _moved(place: tuple[int, int], item: Item, media_at: int) -> tuple[int, int]:
    return place if item.method == IN_IDAT else (place[0] + media_at, place[1])


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full_box(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *content)


def _ftyp(picture: Picture, brands: tuple[bytes, ...], minor_version: bytes) -> bytes:
    own = _OWN_BRAND[picture.probe.format]
    major = brands[0] if brands[0] in _STILL_BRANDS else own
    compatible = dict.fromkeys([brand for brand in brands if brand in _STILL_BRANDS] + [b"mif1", own])
    return _box(b"ftyp", major, minor_version, *compatible)


def _meta(
    data: memoryview, meta: Meta, picture: Picture, items: list[Item], iloc: bytes, wide: bool, idat: bytes
) -> bytes:
    number = ">I" if wide else ">H"
    entries = [
        _full_box(
            b"infe",
            3 if wide else 2,
            1 if item.hidden else 0,
            struct.pack(number, item.id) + b"\0\0" + item.type + b"\0",
        )
        for item in items
    ]
    return _full_box(
        b"meta",
        0,
        0,
        _full_box(b"hdlr", 0, 0, b"\0\0\0\0pict", bytes(13)),
        _full_box(b"pitm", 1 if wide else 0, 0, struct.pack(number, meta.primary)),
        iloc,
        _full_box(b"iinf", 0, 0, struct.pack(">H", len(items)), *entries),
        _iref(meta, picture, wide),
        _iprp(data, meta, picture, items, wide),
        _box(b"idat", idat) if idat else b"",
    )


def _iloc(located: list[tuple[Item, int, int, int]], wide: bool) -> bytes:
    """Version 0 where it is enough, because it is what the oldest readers know."""
    version = 2 if wide else 1 if any(method for _, method, _, _ in located) else 0
    lines = []
    for item, method, offset, length in located:
        lines.append(struct.pack(">I" if wide else ">H", item.id))
        if version:
            lines.append(struct.pack(">H", method))
        if item.extents:
            lines.append(struct.pack(">HHII", 0, 1, offset, length))
        else:
            lines.append(struct.pack(">HH", 0, 0))
    count = struct.pack(">I" if wide else ">H", len(located))
    return _full_box(b"iloc", version, 0, b"\x44\x00", count, *lines)


def _iref(meta: Meta, picture: Picture, wide: bool) -> bytes:
    number = "I" if wide else "H"
    entries = []
    for reference in meta.references:
        targets = [target for target in reference.targets if target in picture.kept]
        if reference.type not in _KEPT_REFERENCES or reference.source not in picture.kept or not targets:
            continue
        numbers = struct.pack(f">{number}H{len(targets)}{number}", reference.source, len(targets), *targets)
        entries.append(_box(reference.type, numbers))
    return _full_box(b"iref", 1 if wide else 0, 0, *entries) if entries else b""


def _iprp(data: memoryview, meta: Meta, picture: Picture, items: list[Item], wide: bool) -> bytes:
    order = sorted(picture.kept_properties)
    renumbered = {old: new for new, old in enumerate(order, start=1)}
    long = len(order) > 127
    lines = []
    for item in items:
        marks = [(renumbered[index], essential) for index, essential in item.properties if index in renumbered]
        lines.append(struct.pack(">IB" if wide else ">HB", item.id, len(marks)))
        for index, essential in marks:
            lines.append(struct.pack(">H" if long else ">B", index | essential << (15 if long else 7)))
    ipma = _full_box(b"ipma", 1 if wide else 0, int(long), struct.pack(">I", len(items)), *lines)
    return _box(b"iprp", _box(b"ipco", *(_whole(data, meta.properties[index]) for index in order)), ipma)


def _whole(data: memoryview, box: Box) -> bytes:
    return bytes(data[box.start : box.end])
