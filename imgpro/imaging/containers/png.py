"""Walks a PNG or APNG chunk by chunk: what it will cost to decode, that it is whole, and what in it is private.

Inflates the image data and throws it away at once: decoders show a picture with rows missing as if nothing were
wrong, so only counting the bytes proves it whole. Knows nothing of filters and pixels.
"""

import struct
from typing import Final

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.containers import exif, png_chunks
from imgpro.imaging.containers.cleaning import Cleaning
from imgpro.imaging.containers.costs import check_canvas, check_frames
from imgpro.imaging.containers.png_chunks import Chunk, Header, Rows
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_MAX_DATA_CHUNKS: Final = 100_000  # 70 MB in pieces of 700 bytes; encoders write 8 KB and more
_MAX_FRAME_BYTES: Final = 1_000_000_000  # inflated, over all frames after the first: some 3 s of work
_TEXTS_LOOKED_INTO: Final = 20  # for the names of what goes; a thousand of them could each inflate to a megabyte


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge the PNG in `data`. `Probe.frames` of an animated one is what it announces."""
    return _Walk(data, limits).run()


class _Walk:
    def __init__(self, data: memoryview, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._cleaning = Cleaning(data)
        self._header = Header(0, 0, 0, 0, False)
        self._palette_entries = 0
        self._kept: set[bytes] = set()  # the ancillary chunk types of which one was kept
        self._data_chunks = 0
        self._other_chunks = 0
        self._texts = 0
        self._profile_judged = False
        self._previous = b""
        self._rows: Rows | None = None  # of the picture itself, once its data comes
        self._announced = 0  # frames of the animation
        self._frames = 0  # of them, so many came
        self._frame_rows: Rows | None = None  # of the frame that is coming
        self._frame_bytes = 0
        self._sequence = 0  # of the animation's chunks, the next one's number
        self._orientation: int | None = None

    def run(self) -> Examined:
        if bytes(self._data[:8]) != _SIGNATURE:
            raise ImageBroken("The PNG does not begin like one.")
        chunk = png_chunks.chunk_at(self._data, 8)
        if chunk.type != b"IHDR":
            raise ImageBroken("The PNG does not begin with its header.")
        self._start(chunk)
        behind_header = self._cleaning.place()
        while chunk.type != b"IEND":
            self._previous = chunk.type
            chunk = png_chunks.chunk_at(self._data, chunk.end)
            self._count(chunk)
            self._treat(chunk)
        return self._finish(chunk, behind_header)

    def _start(self, chunk: Chunk) -> None:
        chunk.check(self._data)
        self._header = png_chunks.header(chunk.body)
        check_canvas(self._header.width, self._header.height, self._limits)
        self._cleaning.keep(0, chunk.end)

    def _count(self, chunk: Chunk) -> None:
        if chunk.type in (b"IDAT", b"fdAT"):
            self._data_chunks += 1
        elif chunk.type != b"fcTL" or not self._announced:  # an animation's are limited as frames
            self._other_chunks += 1
        if self._data_chunks > _MAX_DATA_CHUNKS or self._other_chunks > self._limits.max_png_chunks:
            raise ImageTooLarge("The PNG is made of too many chunks.")

    def _treat(self, chunk: Chunk) -> None:
        match chunk.type:
            case b"IDAT":
                self._image_data(chunk)
            case b"PLTE":
                self._palette(chunk)
            case b"IEND":
                pass
            case b"acTL" if self._rows is None:
                self._animation(chunk)
            case b"fcTL" if self._announced:
                self._frame(chunk)
            case b"fdAT" if self._announced:
                self._frame_data(chunk)
            case b"eXIf":
                self._exif(chunk)
            case b"tEXt" | b"zTXt" | b"iTXt":
                self._texts += 1
                self._cleaning.drop(*png_chunks.text_kinds(chunk, inflating=self._texts <= _TEXTS_LOOKED_INTO))
            case b"tIME":
                self._cleaning.drop("time")
            case _ if chunk.critical:
                raise ImageBroken("The PNG has a chunk that no decoder knows.")
            case _:
                self._ancillary(chunk)

    def _keep(self, chunk: Chunk) -> None:
        chunk.check(self._data)
        self._cleaning.keep(chunk.start, chunk.end)

    def _palette(self, chunk: Chunk) -> None:
        entries, rest = divmod(len(chunk.body), 3)
        if rest or not 1 <= entries <= 256 or self._palette_entries or self._rows or self._header.colour_type in (0, 4):
            raise ImageBroken("The PNG's palette is not valid.")
        self._palette_entries = entries
        self._keep(chunk)

    def _image_data(self, chunk: Chunk) -> None:
        if self._rows is None:
            if self._header.has_palette and not self._palette_entries:
                raise ImageBroken("The PNG's palette is missing.")
            self._rows = Rows(self._header.inflated_bytes(self._header.width, self._header.height))
        elif self._previous != b"IDAT":
            raise ImageBroken("The PNG's image data is not in one piece.")
        if self._rows.ended:
            self._cleaning.drop("unknown_chunks")
        else:
            self._feed(self._rows, chunk, 0)

    def _feed(self, rows: Rows, chunk: Chunk, skip: int) -> None:
        """Keep as much of the chunk, behind its first `skip` bytes, as belongs to the compressed stream."""
        belonging = skip + rows.feed(chunk.body[skip:])
        if belonging == len(chunk.body):
            self._keep(chunk)
        else:
            chunk.check(self._data)
            self._cleaning.put(png_chunks.build(chunk.type, bytes(chunk.body[:belonging])))
            self._cleaning.drop("unknown_chunks")

    def _animation(self, chunk: Chunk) -> None:
        if self._announced or len(chunk.body) != 8:
            raise ImageBroken("The PNG's animation header is not valid.")
        (self._announced,) = struct.unpack_from(">I", chunk.body)
        if not self._announced:
            raise ImageBroken("The PNG announces an animation of no frames.")
        check_frames(self._announced, self._header.width, self._header.height, self._limits)
        self._keep(chunk)

    def _check_sequence(self, chunk: Chunk) -> None:
        if len(chunk.body) < 4 or int.from_bytes(chunk.body[:4], "big") != self._sequence:
            raise ImageBroken("The PNG's animation has frames missing or out of order.")
        self._sequence += 1

    def _frame(self, chunk: Chunk) -> None:
        self._check_sequence(chunk)
        if len(chunk.body) != 26:
            raise ImageBroken("The PNG's animation has a frame that is not valid.")
        width, height, left, top = struct.unpack_from(">IIII", chunk.body, 4)
        whole = (width, height) == (self._header.width, self._header.height)
        fits = width and height and left + width <= self._header.width and top + height <= self._header.height
        self._close_frame()
        self._frames += 1
        if not fits or self._frames > self._announced or (self._rows is None and not (whole and self._frames == 1)):
            raise ImageBroken("The PNG's animation has a frame that is not valid.")
        if self._rows is not None:
            expected = self._header.inflated_bytes(width, height)
            self._frame_bytes += expected
            if self._frame_bytes > _MAX_FRAME_BYTES:
                raise ImageTooLarge("The animation has too much data over all frames.")
            self._frame_rows = Rows(expected)
        self._keep(chunk)

    def _frame_data(self, chunk: Chunk) -> None:
        self._check_sequence(chunk)
        if self._frame_rows is None or self._frame_rows.ended:
            raise ImageBroken("The PNG's animation has data without a frame.")
        self._feed(self._frame_rows, chunk, 4)

    def _close_frame(self) -> None:
        if self._frame_rows is not None:
            self._frame_rows.check_whole()

    def _exif(self, chunk: Chunk) -> None:
        """Keep a block that holds an orientation alone, ahead of the picture; the rest is written anew at the end."""
        facts = exif.read(chunk.body)
        first = self._orientation is None
        if first:
            self._orientation = facts.orientation
        if first and self._rows is None and facts.orientation != 1 and chunk.body == exif.minimal(facts.orientation):
            self._keep(chunk)
            self._kept.add(b"eXIf")
        else:
            self._cleaning.drop(*facts.kinds)

    def _ancillary(self, chunk: Chunk) -> None:
        staying = None
        profile = chunk.type == b"iCCP"
        if self._rows is None and chunk.type not in self._kept and not (profile and self._profile_judged):
            staying = png_chunks.ancillary(chunk, self._header, self._palette_entries)
            self._profile_judged |= profile  # one only: each may cost the inflating of megabytes
        if staying is None:
            self._cleaning.drop("application_data" if profile else "unknown_chunks")
            return
        self._kept.add(chunk.type)
        if len(staying) == len(chunk.body):
            self._keep(chunk)
        else:
            chunk.check(self._data)
            self._cleaning.put(png_chunks.build(chunk.type, bytes(staying)))
            self._cleaning.drop("application_data")

    def _finish(self, end: Chunk, behind_header: int) -> Examined:
        if self._rows is None or len(end.body) or self._frames != self._announced:
            raise ImageBroken("The PNG ends before all of its picture came.")
        self._rows.check_whole()
        self._close_frame()
        self._keep(end)
        orientation = self._orientation or 1
        if orientation != 1 and b"eXIf" not in self._kept:
            self._cleaning.put(png_chunks.build(b"eXIf", exif.minimal(orientation)), behind_header)
        if end.end < len(self._data):
            self._cleaning.drop("trailing_data")
        return self._cleaning.finish(
            Probe(
                format="png",
                width=self._header.width,
                height=self._header.height,
                frames=max(1, self._announced),
                has_alpha=self._header.colour_type in (4, 6) or b"tRNS" in self._kept,
                orientation=orientation,
                has_icc=b"iCCP" in self._kept,
            )
        )
