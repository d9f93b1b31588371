"""Which items of an AVIF or HEIC file make up its picture, and what decoding them costs.

Starts at the primary item and follows `dimg` (what a picture is made of) and `auxl` (its transparency). Holds
every limit on pixels and tiles; knows nothing of how the file is written or cleaned.
"""

from typing import Final

import msgspec

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.containers.bmff_boxes import Box, Extent, Item, Meta, Reader, payload
from imgpro.imaging.containers.bmff_codecs import Stream, read_av1, read_hevc
from imgpro.model import Limits, Probe, StoredFormat

_MAX_TILES: Final = 1_024
_MAX_DEPTH: Final = 4
_MAX_PICTURES: Final = 16  # coded in one item: layers, never a film
# Tiles stick out over the edges of the picture, so they may have more pixels than it together.
_TILE_ALLOWANCE: Final = 2
_MAX_READS: Final = 3  # of any byte, when items with different set-up share their data

_CODED: Final[dict[bytes, StoredFormat]] = {b"av01": "avif", b"hvc1": "heic"}
_DERIVED: Final[dict[StoredFormat, frozenset[bytes]]] = {
    "avif": frozenset({b"grid"}),
    "heic": frozenset({b"grid", b"iovl", b"iden"}),
}
_ALPHA_TYPES: Final = frozenset(
    {b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:avc:2015:auxid:1"}
)
KEPT_PROPERTIES: Final = frozenset(
    b"ispe pixi colr pasp irot imir clap auxC av1C hvcC a1op a1lx lsel clli mdcv cclv amve".split()
)

# (quarter turns anticlockwise, mirror: 0 top-bottom, 1 left-right, None) -> EXIF orientation
_ORIENTATION: Final[dict[tuple[int, int | None], int]] = {
    (0, None): 1,
    (1, None): 8,
    (2, None): 3,
    (3, None): 6,
    (0, 0): 4,
    (1, 0): 5,
    (2, 0): 2,
    (3, 0): 7,
    (0, 1): 2,
    (1, 1): 7,
    (2, 1): 4,
    (3, 1): 5,
}


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """The picture: its facts, the numbers of the items it needs, and the indexes of the properties they need."""

    probe: Probe
    kept: frozenset[int]
    kept_properties: frozenset[int]


class _Finder:
    """Follows references from the primary item. One instance per file."""

    def __init__(self, data: memoryview, meta: Meta, limits: Limits) -> None:
        self.data, self.meta, self.limits = data, meta, limits
        self.formats: set[StoredFormat] = set()
        self.costs: dict[int, int] = {}
        self.inputs: dict[int, tuple[int, ...]] = {}
        self._streams: dict[tuple[tuple[Extent, ...], int], Stream] = {}
        self._unread = _MAX_READS * len(data)
        for reference in meta.references:
            if reference.type == b"dimg":
                if reference.source in self.inputs:
                    raise ImageBroken("A part of the picture is described twice.")
                self.inputs[reference.source] = reference.targets

    def follow(self, number: int, depth: int = 0) -> int:
        """Visit an item and all it is made of; return the pixels that decoding it takes."""
        if number in self.costs:
            return self.costs[number]
        item = self.meta.items.get(number)
        if item is None or depth > _MAX_DEPTH:
            raise ImageBroken("A part of the picture is missing.")
        self._check_item(item)
        width, height = self.size(item)
        cost = width * height
        if item.type in _CODED:
            self.formats.add(_CODED[item.type])
            cost = max(cost, self._coded_pixels(item))
        else:
            inputs = self.inputs.get(number, ())
            self._check_derived(item, inputs, (width, height))
            cost += sum(self.follow(child, depth + 1) for child in inputs) - (cost if item.type != b"iovl" else 0)
        if cost > _TILE_ALLOWANCE * self.limits.max_pixels:
            raise ImageTooLarge("The parts of the picture are too large together.")
        self.costs[number] = cost
        return cost

    def _check_item(self, item: Item) -> None:
        if item.protected:
            raise UnsupportedFormat("The picture is encrypted.")
        for index, essential in item.properties:
            if essential and self.meta.properties[index].type not in KEPT_PROPERTIES:
                raise UnsupportedFormat("The picture needs a feature that is not supported.")

    def size(self, item: Item) -> tuple[int, int]:
        """Return width and height that the container gives for an item, within the limits."""
        box = self.property(item, b"ispe")
        if box is None:
            raise ImageBroken("The size of the picture is missing.")
        reader = Reader(self.data, box.body + 4, box.end)
        width, height = reader.number(4), reader.number(4)
        if not width or not height:
            raise ImageBroken("The picture has no pixels.")
        self._check_size(width, height)
        return width, height

    def _check_size(self, width: int, height: int) -> None:
        if max(width, height) > self.limits.max_side_px or width * height > self.limits.max_pixels:
            raise ImageTooLarge(f"A picture of {width} x {height} pixels is too large.")

    def property(self, item: Item, kind: bytes) -> Box | None:
        """Return the first property of that kind."""
        found = (self.meta.properties[index] for index, _ in item.properties)
        return next((box for box in found if box.type == kind), None)

    def _coded_pixels(self, item: Item) -> int:
        config = self.property(item, b"av1C" if item.type == b"av01" else b"hvcC")
        if config is None or not item.extents:
            raise ImageBroken("A part of the picture is missing.")
        stream = self._stream(item, config)
        self._check_size(stream.width, stream.height)
        if stream.pictures > _MAX_PICTURES:
            raise ImageTooLarge("The file codes too many pictures as one.")
        return stream.width * stream.height * stream.pictures

    def _stream(self, item: Item, config: Box) -> Stream:
        """Read the bit stream of an item. Equal tiles may share one; what is read over and over is limited."""
        key = (item.extents, config.start)
        if key not in self._streams:
            self._unread -= item.length
            if self._unread < 0:
                raise ImageTooLarge("The parts of the picture refer to the same data too often.")
            body = payload(self.data, item)
            setup = self.data[config.body : config.end]
            self._streams[key] = read_av1(body) if item.type == b"av01" else read_hevc(setup, body)
        return self._streams[key]

    def _check_derived(self, item: Item, inputs: tuple[int, ...], size: tuple[int, int]) -> None:
        if len(inputs) > _MAX_TILES:
            raise ImageTooLarge(f"The picture has more than {_MAX_TILES} tiles.")
        if not inputs:
            kind = item.type.decode("ascii", "replace").strip()
            raise UnsupportedFormat(f"Pictures coded as {kind!r} are not supported.")
        if item.type == b"grid":
            self._check_grid(item, len(inputs), size)
        elif item.type == b"iden" and len(inputs) != 1:
            raise ImageBroken("A part of the picture is described twice.")

    def _check_grid(self, item: Item, tiles: int, size: tuple[int, int]) -> None:
        if item.length > 12:
            raise ImageBroken("The grid of the picture is damaged.")
        body = payload(self.data, item)
        reader = Reader(body, 0, len(body))
        version, flags = reader.number(1), reader.number(1)
        rows, columns = reader.number(1) + 1, reader.number(1) + 1
        side_bytes = 4 if flags & 1 else 2
        described = reader.number(side_bytes), reader.number(side_bytes)
        if version or rows * columns != tiles or described != size:
            raise ImageBroken("The grid of the picture is damaged.")

    def alpha(self, colors: frozenset[int]) -> dict[int, int]:
        """Return for each item of the picture that has its own transparency the item that holds it."""
        found: dict[int, int] = {}
        for reference in self.meta.references:
            item = self.meta.items.get(reference.source)
            if reference.type != b"auxl" or item is None or not self._is_alpha(item):
                continue
            for target in colors.intersection(reference.targets):
                if reference.source not in colors:
                    found.setdefault(target, reference.source)
        return found

    def _is_alpha(self, item: Item) -> bool:
        box = self.property(item, b"auxC")
        return box is not None and Reader(self.data, box.body + 4, box.end).text() in _ALPHA_TYPES


def find_picture(data: memoryview, meta: Meta, limits: Limits) -> Picture:
    """Find the primary picture. Raises ImageBroken, ImageTooLarge or UnsupportedFormat."""
    finder = _Finder(data, meta, limits)
    finder.follow(meta.primary)
    colors = frozenset(finder.costs)
    alphas = finder.alpha(colors)
    total = sum(finder.follow(number) for number in dict.fromkeys(alphas.values()))
    if total > _TILE_ALLOWANCE * limits.max_pixels:
        raise ImageTooLarge("The parts of the picture are too large together.")
    kept = frozenset(finder.costs)
    form = _format(finder, kept, limits)
    properties = frozenset(
        index
        for number in kept
        for index, _ in meta.items[number].properties
        if meta.properties[index].type in KEPT_PROPERTIES
    )
    return Picture(probe=_probe(finder, form, bool(alphas)), kept=kept, kept_properties=properties)


def _format(finder: _Finder, kept: frozenset[int], limits: Limits) -> StoredFormat:
    if len(finder.formats) != 1:
        raise UnsupportedFormat("The picture mixes codecs.")
    form = next(iter(finder.formats))
    if form == "heic" and not limits.heic:
        raise UnsupportedFormat("HEIC pictures are switched off on this server.")
    for number in kept:
        kind = finder.meta.items[number].type
        if kind not in _CODED and kind not in _DERIVED[form]:
            raise UnsupportedFormat("The picture is put together in a way that is not supported.")
    return form


def _probe(finder: _Finder, form: StoredFormat, has_alpha: bool) -> Probe:
    """Collect the facts. For HEIC the size is the displayed one, because the decoder applies the transformations."""
    item = finder.meta.items[finder.meta.primary]
    width, height = finder.size(item)
    orientation = 1
    if form == "avif":
        orientation = _ORIENTATION[_turns(finder, item), _mirror(finder, item)]
    else:
        width, height = _displayed(finder, item, width, height)
    return Probe(
        format=form,
        width=width,
        height=height,
        has_alpha=has_alpha,
        orientation=orientation,
        has_icc=_has_icc(finder, item),
    )


def _turns(finder: _Finder, item: Item) -> int:
    box = finder.property(item, b"irot")
    return 0 if box is None else Reader(finder.data, box.body, box.end).number(1) & 3


def _mirror(finder: _Finder, item: Item) -> int | None:
    box = finder.property(item, b"imir")
    return None if box is None else Reader(finder.data, box.body, box.end).number(1) & 1


def _has_icc(finder: _Finder, item: Item) -> bool:
    for index, _ in item.properties:
        box = finder.meta.properties[index]
        if box.type == b"colr" and bytes(finder.data[box.body : box.body + 4]) in (b"prof", b"rICC"):
            return True
    return False


def _displayed(finder: _Finder, item: Item, width: int, height: int) -> tuple[int, int]:
    """Apply cropping and rotation in the order in which the item lists them."""
    for index, _ in item.properties:
        box = finder.meta.properties[index]
        reader = Reader(finder.data, box.body, box.end)
        if box.type == b"clap":
            width, height = (
                _cropped(reader.number(4), reader.number(4), width),
                _cropped(reader.number(4), reader.number(4), height),
            )
        elif box.type == b"irot" and reader.number(1) & 1:
            width, height = height, width
    return width, height


def _cropped(numerator: int, denominator: int, side: int) -> int:
    """Round half up, as the decoder does; never more than there is, never nothing."""
    if not denominator:
        raise ImageBroken("The crop of the picture is damaged.")
    return max(1, min(side, (2 * numerator + denominator) // (2 * denominator)))
