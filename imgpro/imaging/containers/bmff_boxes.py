"""The box structure of ISO base media files (AVIF, HEIC): bounded reading of boxes, items and their properties.

Knows where things stand, not what they mean: which items stay is decided elsewhere. Every length is checked
against the bytes that are there, and nothing is allocated from a number in the file.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat

MAX_ITEMS: Final = 2_200  # 1,024 tiles, as many for their alpha, and what cameras add
_MAX_BOXES: Final = 8_192
_MAX_EXTENTS: Final = 8_192
_MAX_REFERENCES: Final = 8_192
_MAX_ASSOCIATIONS: Final = 32_768
IN_FILE: Final = 0  # construction methods: where an item's extents are counted from
IN_IDAT: Final = 1

Extent = tuple[int, int]  # offset, length; bytes


class Box(msgspec.Struct, frozen=True):
    """A box: its type, where it starts, where its content starts, where it ends; offsets in the file."""

    type: bytes
    start: int
    body: int
    end: int


class Item(msgspec.Struct, kw_only=True):
    """One item of a `meta` box. `properties` are indexes into `Meta.properties` with the essential mark."""

    id: int
    type: bytes
    hidden: bool = False
    protected: bool = False
    name: bytes = b""
    content_type: bytes = b""
    method: int = IN_FILE
    extents: tuple[Extent, ...] = ()
    properties: tuple[tuple[int, bool], ...] = ()

    @property
    def length(self) -> int:
        """Bytes of the item's data."""
        return sum(length for _, length in self.extents)


class Reference(msgspec.Struct, frozen=True):
    """`source` points to `targets` with a typed reference."""

    type: bytes
    source: int
    targets: tuple[int, ...]


class Meta(msgspec.Struct, kw_only=True):
    """What a `meta` box says. `foreign` names the types of boxes in it that are not part of a still picture."""

    primary: int = -1
    items: dict[int, Item] = msgspec.field(default_factory=dict)
    properties: list[Box] = msgspec.field(default_factory=list)
    references: list[Reference] = msgspec.field(default_factory=list)
    idat: Extent | None = None
    handler_name: bytes = b""
    foreign: set[bytes] = msgspec.field(default_factory=set)


class Reader:
    """A cursor over `data[at:end]`; reading past the end raises ImageBroken."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: memoryview, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self.at
        if count > self.end - start:
            raise ImageBroken("The picture's description ends too early.")
        self.at = start + count
        return bytes(self.data[start : self.at])

    def number(self, count: int) -> int:
        """Return the next `count` bytes as a big-endian number; 0 for no bytes."""
        return int.from_bytes(self.take(count), "big")

    def text(self) -> bytes:
        """Return the bytes up to a zero byte or the end."""
        rest = bytes(self.data[self.at : self.end])
        found = rest.partition(b"\0")[0]
        self.at = min(self.end, self.at + len(found) + 1)
        return found

    def full_box(self) -> tuple[int, int]:
        """Return version and flags of a full box."""
        return self.number(1), self.number(3)


def boxes(data: memoryview, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes that fill `data[start:end]`. Raises ImageBroken where one does not fit."""
    at, count = start, 0
    while at < end:
        box = read_box(data, at, end)
        count += 1
        if box is None or box.end > end:
            raise ImageBroken("The picture's description ends too early.")
        if count > _MAX_BOXES:
            raise ImageTooLarge("The file has too many boxes.")
        yield box
        at = box.end


def read_box(data: memoryview, at: int, end: int) -> Box | None:
    """Read the box header at `at`; None if there is none. The box may claim to end behind `end`."""
    if end - at < 8:
        return None
    size, body = int.from_bytes(data[at : at + 4], "big"), at + 8
    if size == 1:
        if end - at < 16:
            return None
        size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
    elif size == 0:
        size = end - at
    if size < body - at:
        return None
    return Box(bytes(data[at + 4 : at + 8]), at, body, at + size)


def read_meta(data: memoryview, meta_box: Box) -> Meta:
    """Read a still picture's `meta` box. Raises ImageBroken, ImageTooLarge or UnsupportedFormat."""
    meta = Meta()
    found: dict[bytes, Box] = {}
    for box in boxes(data, meta_box.body + 4, meta_box.end):
        if box.type not in (b"hdlr", b"pitm", b"iinf", b"iloc", b"iprp", b"iref", b"idat"):
            meta.foreign.add(box.type)
        elif box.type in found:
            raise ImageBroken("The picture is described twice.")
        else:
            found[box.type] = box
    missing = {b"hdlr", b"pitm", b"iinf", b"iloc", b"iprp"} - found.keys()
    if missing:
        raise ImageBroken("The file does not say which picture it holds.")
    if b"idat" in found:
        meta.idat = (found[b"idat"].body, found[b"idat"].end - found[b"idat"].body)
    _read_handler(_reader(data, found[b"hdlr"]), meta)
    reader = _reader(data, found[b"pitm"])
    version, _ = reader.full_box()
    meta.primary = reader.number(4 if version else 2)
    _read_items(data, found[b"iinf"], meta)
    _read_locations(_reader(data, found[b"iloc"]), meta)
    _read_properties(data, found[b"iprp"], meta)
    if b"iref" in found:
        _read_references(data, found[b"iref"], meta)
    return meta


def payload(data: memoryview, item: Item) -> memoryview:
    """Return an item's data: a view when it lies in one piece, else a copy."""
    if len(item.extents) == 1:
        offset, length = item.extents[0]
        return data[offset : offset + length]
    return memoryview(b"".join(data[offset : offset + length] for offset, length in item.extents))


def _reader(data: memoryview, box: Box) -> Reader:
    return Reader(data, box.body, box.end)


def _read_handler(reader: Reader, meta: Meta) -> None:
    reader.full_box()
    reader.number(4)
    if reader.take(4) != b"pict":
        raise UnsupportedFormat("The file does not hold a still picture.")
    reader.take(12)
    meta.handler_name = reader.text()


def _read_items(data: memoryview, box: Box, meta: Meta) -> None:
    reader = _reader(data, box)
    version, _ = reader.full_box()
    reader.number(4 if version else 2)
    for entry in boxes(data, reader.at, box.end):
        if entry.type != b"infe":
            raise ImageBroken("The list of items is damaged.")
        item = _read_item(_reader(data, entry))
        if item.id in meta.items:
            raise ImageBroken("Two items have the same number.")
        meta.items[item.id] = item
        if len(meta.items) > MAX_ITEMS:
            raise ImageTooLarge(f"The file has more than {MAX_ITEMS} items.")


def _read_item(reader: Reader) -> Item:
    version, flags = reader.full_box()
    if version not in (2, 3):
        raise UnsupportedFormat("The file lists its items in a form that is not supported.")
    number = reader.number(4 if version == 3 else 2)
    protection = reader.number(2)
    kind = reader.take(4)
    name = reader.text()
    content_type = reader.text() if kind == b"mime" else b""
    return Item(
        id=number, type=kind, hidden=bool(flags & 1), protected=bool(protection), name=name, content_type=content_type
    )


def _read_locations(reader: Reader, meta: Meta) -> None:
    version, _ = reader.full_box()
    if version > 2:
        raise UnsupportedFormat("The file lists its items in a form that is not supported.")
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    if not {offset_size, length_size, base_size} <= {0, 4, 8}:
        raise ImageBroken("The places of the items are damaged.")
    index_size = index_size if version else 0
    total, seen = 0, set()
    listed = reader.number(4 if version == 2 else 2)
    if listed > MAX_ITEMS:
        raise ImageTooLarge(f"The file has more than {MAX_ITEMS} items.")
    for _ in range(listed):
        number = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else IN_FILE
        source = reader.number(2)
        base = reader.number(base_size)
        count = reader.number(2)
        total += count
        if total > _MAX_EXTENTS:
            raise ImageTooLarge("The items of the file are in too many pieces.")
        extents = []
        for _ in range(count):
            reader.take(index_size)
            offset = base + reader.number(offset_size)
            extents.append((offset, reader.number(length_size)))
        if number in seen:
            raise ImageBroken("An item has two places.")
        seen.add(number)
        if number in meta.items:
            _place(meta, meta.items[number], method, source, extents, len(reader.data))


def _place(meta: Meta, item: Item, method: int, source: int, extents: list[Extent], file_bytes: int) -> None:
    """Give `item` its extents as offsets in the file, each of which must lie where it may."""
    if source or method not in (IN_FILE, IN_IDAT):
        raise UnsupportedFormat("The file keeps parts of the picture somewhere else.")
    start, end = 0, file_bytes
    if method == IN_IDAT:
        if meta.idat is None:
            raise ImageBroken("A part of the picture is missing.")
        start, end = meta.idat[0], sum(meta.idat)
    placed = []
    for offset, length in extents:
        if not length or start + offset + length > end:
            raise ImageBroken("The file ends before the picture does.")
        placed.append((start + offset, length))
    item.method, item.extents = method, tuple(placed)


def _read_properties(data: memoryview, box: Box, meta: Meta) -> None:
    associations = []
    for child in boxes(data, box.body, box.end):
        if child.type == b"ipco" and not meta.properties:
            meta.properties = list(boxes(data, child.body, child.end))
        elif child.type == b"ipma":
            associations.append(child)
        else:
            meta.foreign.add(child.type)
    seen: set[int] = set()
    total = 0
    for child in associations:
        reader = _reader(data, child)
        version, flags = reader.full_box()
        for _ in range(reader.number(4)):
            number = reader.number(4 if version else 2)
            count = reader.number(1)
            total += count + 1
            if number in seen:
                raise ImageBroken("An item is described twice.")
            if total > _MAX_ASSOCIATIONS:
                raise ImageTooLarge("The file has too many properties.")
            seen.add(number)
            _describe(
                meta, number, [reader.number(2 if flags & 1 else 1) for _ in range(count)], 15 if flags & 1 else 7
            )


def _describe(meta: Meta, number: int, marks: list[int], bits: int) -> None:
    """Give an item its properties; the top bit of each mark says whether it is essential, 0 means none."""
    found = []
    for mark in marks:
        index = (mark & (1 << bits) - 1) - 1
        if index >= len(meta.properties):
            raise ImageBroken("A property of the picture is missing.")
        if index >= 0:
            found.append((index, bool(mark >> bits)))
    if number in meta.items:
        meta.items[number].properties = tuple(found)


def _read_references(data: memoryview, box: Box, meta: Meta) -> None:
    reader = _reader(data, box)
    version, _ = reader.full_box()
    size = 4 if version else 2
    total = 0
    for child in boxes(data, reader.at, box.end):
        entry = _reader(data, child)
        source, count = entry.number(size), entry.number(2)
        total += count
        if total > _MAX_REFERENCES:
            raise ImageTooLarge("The items of the file refer to each other too often.")
        targets = tuple(entry.number(size) for _ in range(count))
        meta.references.append(Reference(child.type, source, targets))
