"""AVIF and HEIC: finds the still picture in the file, what it costs to decode, and what else is in there.

Kept are the primary item, what it is made of, and its transparency, byte for byte. Everything else (EXIF, XMP,
thumbnails, depth and gain maps, further pictures, image sequences, foreign boxes, unused bytes) goes. Decodes
nothing; the two decoders differ in one way that matters: for HEIC rotation and cropping are applied by the
decoder, for AVIF they are left to the caller as an orientation.
"""

import string
from typing import Final

import msgspec

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.containers import exif
from imgpro.imaging.containers.bmff_boxes import Box, Meta, payload, read_box, read_meta
from imgpro.imaging.containers.bmff_picture import Picture, find_picture
from imgpro.imaging.containers.bmff_rewrite import SEQUENCE_BRANDS, rewritten
from imgpro.imaging.examined import Examined
from imgpro.model import Limits

_SEQUENCES: Final = frozenset({b"avis", b"msf1", b"hevc", b"hevx"})  # brands of a film in pictures
_MAX_TOP_BOXES: Final = 1_024
_MAX_FTYP_BYTES: Final = 4_096
_TOP_BOXES: Final = frozenset(
    {b"ftyp", b"meta", b"mdat", b"free", b"skip", b"moov", b"moof", b"uuid", b"udta", b"mpvd"}
)
_TOP_KINDS: Final[dict[bytes, str]] = {
    b"moov": "extra_images",
    b"moof": "extra_images",
    b"mpvd": "extra_images",
    b"uuid": "application_data",
    b"udta": "application_data",
}
_XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_BRAND_LETTERS: Final = frozenset((string.ascii_letters + string.digits).encode())
_MAX_BRANDS: Final = 32
# Names that encoders give to items and handlers; any other name may have been written by a person.
_PLAIN_NAMES: Final = frozenset({b"", b"Color", b"Alpha", b"Image", b"libavif", b"libheif", b"PictureHandler"})
_PROPERTY_KINDS: Final[dict[bytes, str]] = {
    b"udes": "text",
    b"altt": "text",
    b"crtt": "time",
    b"mdft": "time",
    b"uuid": "application_data",
}


class _Layout(msgspec.Struct, kw_only=True):
    """The top level of the file."""

    ftyp: Box
    meta: Box
    media: list[Box]
    foreign: list[Box]
    end: int  # where the last box ends; what follows is not part of the file's structure


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge an AVIF or HEIC file; see `imgpro.imaging.examine.examine` for what is raised."""
    layout = _layout(data)
    brands = _brands(data, layout.ftyp)
    meta = read_meta(data, layout.meta)
    _check_extents(meta, len(data))
    picture = find_picture(data, meta, limits)
    removed = list(
        dict.fromkeys(
            [
                *_foreign_items(data, meta, picture),
                *_foreign_properties(meta, picture),
                *_foreign_boxes(data, layout, meta),
                *_unused_bytes(layout, meta),
                *_foreign_names(meta, picture, brands),
            ]
        )
    )
    if len(data) > layout.end:
        removed.append("trailing_data")
    if not removed and SEQUENCE_BRANDS.isdisjoint(brands):
        return Examined(probe=picture.probe)
    parts = rewritten(data, meta, picture, brands, bytes(data[layout.ftyp.body + 4 : layout.ftyp.body + 8]))
    return Examined(probe=picture.probe, removed=tuple(removed), parts=parts)


def _layout(data: memoryview) -> _Layout:
    found: dict[bytes, Box] = {}
    media: list[Box] = []
    foreign: list[Box] = []
    at = count = 0
    while at < len(data):
        box = read_box(data, at, len(data))
        count += 1
        if count > _MAX_TOP_BOXES:
            raise ImageTooLarge("The file has too many boxes.")
        if box is None or (box.end > len(data) and box.type not in _TOP_BOXES):
            break  # no box: something appended
        if box.end > len(data):
            raise ImageBroken("The file ends before the picture does.")
        if box.type in (b"ftyp", b"meta"):
            if box.type in found:
                raise ImageBroken("The picture is described twice.")
            found[box.type] = box
        else:
            (media if box.type == b"mdat" else foreign).append(box)
        at = box.end
    if b"ftyp" not in found or found[b"ftyp"].start or found[b"ftyp"].end - found[b"ftyp"].body < 8:
        raise ImageBroken("The file does not say what it is.")
    if found[b"ftyp"].end > _MAX_FTYP_BYTES:
        raise ImageTooLarge("The file names too many kinds that it is.")
    if b"meta" not in found:
        if any(box.type == b"moov" for box in foreign):
            raise UnsupportedFormat("The file holds a film and no still picture.")
        raise ImageBroken("The file does not say which picture it holds.")
    if any(box.type == b"moov" for box in foreign) and _SEQUENCES & set(_brands(data, found[b"ftyp"])):
        # Keeping the still and dropping the rest would lose what the picture is about.
        raise UnsupportedFormat("Animated AVIF and HEIC are not accepted here; send the animation as WebP or GIF.")
    return _Layout(ftyp=found[b"ftyp"], meta=found[b"meta"], media=media, foreign=foreign, end=at)


def _brands(data: memoryview, ftyp: Box) -> tuple[bytes, ...]:
    """Return the major brand, then the compatible ones."""
    listed = bytes(data[ftyp.body : ftyp.end])
    return (listed[:4], *(listed[at : at + 4] for at in range(8, len(listed), 4)))


def _check_extents(meta: Meta, file_bytes: int) -> None:
    """Refuse items that share bytes in parts: what is copied and walked must stay below the file's own size."""
    distinct = {item.extents: item.length for item in meta.items.values()}
    if sum(distinct.values()) > file_bytes:
        raise ImageBroken("The parts of the picture overlap.")


def _foreign_items(data: memoryview, meta: Meta, picture: Picture) -> list[str]:
    """Name what the items hold that are not part of the picture."""
    thumbnails = _thumbnails(meta)
    kinds: list[str] = []
    read: set[object] = set()
    for number, item in meta.items.items():
        if number in picture.kept:
            continue
        is_xmp = item.type == b"mime" and item.content_type == b"application/rdf+xml"
        if item.type == b"Exif" or is_xmp:
            if item.extents not in read:  # many items may name the same bytes; reading each once stays linear
                body = payload(data, item)
                kinds += _xmp_kinds(body) if is_xmp else _exif_kinds(body)
            read.add(item.extents)
        elif item.type == b"mime":
            kinds.append("application_data")
        elif item.type in (b"uri ", b"tmap"):
            kinds.append("application_data" if item.type == b"uri " else "extra_images")
        else:
            kinds.append("thumbnail" if number in thumbnails else "extra_images")
    return kinds


def _thumbnails(meta: Meta) -> set[int]:
    """Return the items that are thumbnails, their tiles, and their transparency."""
    found = {reference.source for reference in meta.references if reference.type == b"thmb"}
    for reference in meta.references:
        if reference.type == b"dimg" and reference.source in found:
            found.update(reference.targets)
    return found | {
        reference.source
        for reference in meta.references
        if reference.type == b"auxl" and not found.isdisjoint(reference.targets)
    }


def _exif_kinds(block: memoryview) -> tuple[str, ...]:
    """Name what an EXIF item holds: four bytes that say how far on the TIFF header is, then all of it."""
    skip = int.from_bytes(block[:4], "big")
    return exif.read(block[4 + skip :] if skip < len(block) else block[4:]).kinds


def _xmp_kinds(packet: memoryview) -> tuple[str, ...]:
    return ("xmp", "gps") if exif.xmp_has_gps(packet) else ("xmp",)


def _foreign_properties(meta: Meta, picture: Picture) -> list[str]:
    """Name what the properties hold that the picture does not need."""
    kept = picture.kept_properties
    used = {index for number in picture.kept for index, _ in meta.items[number].properties}
    dropped_items = len(picture.kept) < len(meta.items)
    kinds = []
    for index, box in enumerate(meta.properties):
        if index in kept:
            continue
        if index in used or box.type in _PROPERTY_KINDS or not dropped_items:
            kinds.append(_PROPERTY_KINDS.get(box.type, "unknown_chunks"))
    return kinds


def _foreign_boxes(data: memoryview, layout: _Layout, meta: Meta) -> list[str]:
    kinds = []
    for box in layout.foreign:
        is_xmp = box.type == b"uuid" and bytes(data[box.body : box.body + 16]) == _XMP_UUID
        kinds.append("xmp" if is_xmp else _TOP_KINDS.get(box.type, "unknown_chunks"))
    if meta.foreign:
        kinds.append("application_data" if meta.foreign <= {b"uuid", b"udta"} else "unknown_chunks")
    return kinds


def _unused_bytes(layout: _Layout, meta: Meta) -> list[str]:
    """Tell whether there are bytes in `mdat` or `idat` that no item at all refers to."""
    if any(box.type in (b"moov", b"moof") for box in layout.foreign):
        return []  # they belong to the image sequence, which goes as a whole
    rooms = [(box.body, box.end) for box in layout.media]
    if meta.idat is not None:
        rooms.append((meta.idat[0], sum(meta.idat)))
    extents = sorted({extent for item in meta.items.values() for extent in item.extents})
    reached = 0
    ends: list[tuple[int, int]] = []
    for offset, length in extents:  # merge into disjoint ranges
        if ends and offset <= reached:
            reached = max(reached, offset + length)
            ends[-1] = (ends[-1][0], reached)
        else:
            reached = offset + length
            ends.append((offset, reached))
    covered = sum(end - start for start, end in ends)
    return ["unknown_chunks"] if covered != sum(end - start for start, end in rooms) else []


def _foreign_names(meta: Meta, picture: Picture, brands: tuple[bytes, ...]) -> list[str]:
    names = {meta.handler_name, *(meta.items[number].name for number in picture.kept)}
    kinds = ["text"] if names - _PLAIN_NAMES else []
    if len(brands) > _MAX_BRANDS or not all(_plain_brand(brand) for brand in brands):
        kinds.append("unknown_chunks")
    return kinds


def _plain_brand(brand: bytes) -> bool:
    return len(brand) == 4 and _BRAND_LETTERS.issuperset(brand)
