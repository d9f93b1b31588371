"""Walks a WebP chunk by chunk: what it will cost to decode, that it is whole, and what in it is private.

Knows the headers of the two bitstreams, not their content.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.containers import exif
from imgpro.imaging.containers.cleaning import Cleaning
from imgpro.imaging.containers.costs import check_canvas, check_frames, usable_icc
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_MAX_CHUNKS: Final = 10_000
_RIFF_BYTES: Final = 12  # "RIFF", length of the rest, "WEBP"
_VP8X_BYTES: Final = 18  # the chunk that announces what follows, with its own header
_FRAME_BYTES: Final = 16  # of an ANMF chunk ahead of its image
_ICC, _ALPHA, _EXIF, _XMP, _ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02  # flags in VP8X


class _Chunk(NamedTuple):
    """`start` and `end` are offsets in the file, with header and padding; `padded` says whether that is complete."""

    type: bytes
    start: int
    end: int
    body: memoryview
    padded: bool


class _Bitstream(NamedTuple):
    width: int
    height: int
    has_alpha: bool


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge the WebP in `data`, simple or extended, still or animated."""
    if len(data) < 20 or bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WEBP":
        raise ImageBroken("The WebP ends too early or does not begin like one.")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ImageBroken("The WebP ends too early.")
    return _Walk(data, end, limits).run()


class _Walk:
    def __init__(self, data: memoryview, end: int, limits: Limits) -> None:
        self._data = data
        self._end = end
        self._limits = limits
        self._cleaning = Cleaning(data)
        self._chunks = 0
        self._canvas = (0, 0)
        self._flags = 0
        self._image: _Bitstream | None = None
        self._alpha: _Chunk | None = None  # an ALPH chunk that waits for its image
        self._animation_came = False
        self._frames = 0
        self._has_alpha = False
        self._orientation: int | None = None
        self._exif_kept = False
        self._icc_kept = False

    def run(self) -> Examined:
        if self._end < len(self._data):
            self._cleaning.drop("trailing_data")
        chunks = self._split(_RIFF_BYTES, self._end)
        first = next(chunks, None)
        if first is not None and first.type == b"VP8X" and len(first.body) >= 10:
            self._extended(first, chunks)
            header_bytes = _RIFF_BYTES + _VP8X_BYTES
        elif first is not None and first.type in (b"VP8 ", b"VP8L"):
            self._simple(first, chunks)
            header_bytes = _RIFF_BYTES
        else:
            raise ImageBroken("The WebP holds no picture.")
        self._write_header(header_bytes)
        return self._finish()

    def _split(self, at: int, end: int) -> Iterator[_Chunk]:
        """Cut the bytes from `at` to `end` into chunks."""
        while at + 8 <= end:
            self._chunks += 1
            if self._chunks > _MAX_CHUNKS:
                raise ImageTooLarge("The WebP is made of too many chunks.")
            kind, length = struct.unpack_from("<4sI", self._data, at)
            stop = at + 8 + length
            if stop > end:
                raise ImageBroken("The WebP ends inside a chunk.")
            padded = stop + (length & 1) <= end
            yield _Chunk(kind, at, min(stop + (length & 1), end), self._data[at + 8 : stop], padded)
            at = stop + (length & 1)
        if at < end:
            self._cleaning.drop("unknown_chunks")

    def _keep(self, chunk: _Chunk) -> None:
        self._cleaning.keep(chunk.start, chunk.end)
        if not chunk.padded:
            self._cleaning.put(b"\0")

    def _simple(self, image: _Chunk, rest: Iterator[_Chunk]) -> None:
        self._image = _bitstream(image)
        self._canvas = self._image.width, self._image.height
        check_canvas(*self._canvas, self._limits)
        self._has_alpha = self._image.has_alpha
        self._keep(image)
        for chunk in rest:
            self._drop(chunk)

    def _extended(self, announcement: _Chunk, rest: Iterator[_Chunk]) -> None:
        self._flags = announcement.body[0]
        width, height = (int.from_bytes(announcement.body[at : at + 3], "little") + 1 for at in (4, 7))
        self._canvas = width, height
        check_canvas(width, height, self._limits)
        if len(announcement.body) > 10:
            self._cleaning.drop("unknown_chunks")
        for chunk in rest:
            self._treat(chunk)
        if self._alpha is not None:
            self._drop(self._alpha)

    def _treat(self, chunk: _Chunk) -> None:
        """Treat a chunk behind VP8X."""
        animated = bool(self._flags & _ANIMATION)
        waiting, self._alpha = self._alpha, None
        if waiting is not None and chunk.type != b"VP8 ":
            self._drop(waiting)
            waiting = None
        match chunk.type:
            case b"ALPH" if not animated and self._image is None:
                self._alpha = chunk
            case b"VP8 " | b"VP8L" if not animated and self._image is None:
                self._still(waiting, chunk)
            case b"ANIM" if animated and not self._animation_came and len(chunk.body) >= 6:
                self._loop(chunk)
            case b"ANMF" if animated and self._animation_came:
                self._frame(chunk)
            case b"VP8 " | b"VP8L" | b"ANIM" | b"ANMF":
                raise ImageBroken("The WebP holds other pictures than it announces.")
            case b"ICCP" if self._profile_stays(chunk):
                self._icc_kept = True
                self._keep(chunk)
            case b"EXIF" if self._flags & _EXIF and self._orientation is None:
                self._exif(chunk)
            case _:
                self._drop(chunk)

    def _still(self, alpha: _Chunk | None, chunk: _Chunk) -> None:
        self._image = _bitstream(chunk)
        if (self._image.width, self._image.height) != self._canvas:
            raise ImageBroken("The WebP's picture has another size than its canvas.")
        if alpha is not None:
            self._keep(alpha)
        self._keep(chunk)
        self._has_alpha = self._image.has_alpha or alpha is not None

    def _loop(self, chunk: _Chunk) -> None:
        self._animation_came = True
        if len(chunk.body) == 6:
            self._keep(chunk)
        else:
            self._cleaning.put(struct.pack("<4sI", b"ANIM", 6) + bytes(chunk.body[:6]))
            self._cleaning.drop("unknown_chunks")

    def _frame(self, chunk: _Chunk) -> None:
        """Keep a frame's image and its alpha; whatever else stands in the frame goes."""
        self._frames += 1
        check_frames(self._frames, *self._canvas, self._limits)
        if len(chunk.body) < _FRAME_BYTES:
            raise ImageBroken("The WebP has a frame that is cut off.")
        head = bytes(chunk.body[:_FRAME_BYTES])
        left, top, width, height = (int.from_bytes(head[at : at + 3], "little") for at in (0, 3, 6, 9))
        image = chunk.start + 8 + _FRAME_BYTES
        pieces = self._frame_pieces(image, chunk.start + 8 + len(chunk.body), (width + 1, height + 1))
        if left * 2 + width + 1 > self._canvas[0] or top * 2 + height + 1 > self._canvas[1]:
            raise ImageBroken("The WebP has a frame outside of its canvas.")
        if all(p.padded for p in pieces) and sum(p.end - p.start for p in pieces) == len(chunk.body) - _FRAME_BYTES:
            self._keep(chunk)
            return
        length = _FRAME_BYTES + sum(p.end - p.start + (not p.padded) for p in pieces)
        self._cleaning.put(struct.pack("<4sI", b"ANMF", length) + head)
        for piece in pieces:
            self._keep(piece)

    def _frame_pieces(self, at: int, end: int, size: tuple[int, int]) -> list[_Chunk]:
        pieces: list[_Chunk] = []
        image: _Bitstream | None = None
        for part in self._split(at, end):
            if part.type == b"ALPH" and not pieces:
                pieces.append(part)
            elif part.type in (b"VP8 ", b"VP8L") and image is None:
                image = _bitstream(part)
                self._has_alpha |= image.has_alpha or bool(pieces)
                pieces.append(part)
            else:
                self._drop(part)
        if image is None or (image.width, image.height) != size or (len(pieces) == 2 and pieces[1].type == b"VP8L"):
            raise ImageBroken("The WebP has a frame without its picture.")
        return pieces

    def _profile_stays(self, chunk: _Chunk) -> bool:
        ahead = self._image is None and not self._animation_came and not self._icc_kept
        return bool(ahead and self._flags & _ICC and usable_icc(chunk.body))

    def _exif(self, chunk: _Chunk) -> None:
        """Keep a block that holds an orientation alone; otherwise one is written anew at the end."""
        facts = exif.read(chunk.body)
        self._orientation = facts.orientation
        if facts.orientation != 1 and chunk.body == exif.minimal(facts.orientation):
            self._exif_kept = True
            self._keep(chunk)
        else:
            self._cleaning.drop(*facts.kinds)

    def _drop(self, chunk: _Chunk) -> None:
        if chunk.type == b"EXIF":
            self._cleaning.drop(*exif.read(chunk.body).kinds)
        elif chunk.type == b"XMP ":
            self._cleaning.drop("xmp", *(("gps",) if exif.xmp_has_gps(chunk.body) else ()))
        elif chunk.type == b"ICCP":
            self._cleaning.drop("application_data")
        else:
            self._cleaning.drop("unknown_chunks")

    def _write_header(self, header_bytes: int) -> None:
        """Put the file's head before what was kept: its length and, if extended, what is really there."""
        extended = b""
        if header_bytes > _RIFF_BYTES:
            orientation = self._orientation or 1
            if orientation != 1 and not self._exif_kept:
                block = exif.minimal(orientation)
                self._cleaning.put(struct.pack("<4sI", b"EXIF", len(block)) + block)
            flags = self._flags & ~(_ICC | _EXIF | _XMP)
            flags |= (_ICC if self._icc_kept else 0) | (_EXIF if orientation != 1 else 0)
            extended = b"VP8X\x0a\0\0\0" + bytes((flags,)) + bytes(self._data[21:30])
        length = self._cleaning.length() + len(extended) + 4
        header = struct.pack("<4sI4s", b"RIFF", length, b"WEBP") + extended
        if self._data[:header_bytes] == header:
            self._cleaning.keep(0, header_bytes, place=0)
        else:
            self._cleaning.put(header, place=0)

    def _finish(self) -> Examined:
        if self._image is None and not self._frames:
            raise ImageBroken("The WebP ends before its picture came.")
        return self._cleaning.finish(
            Probe(
                format="webp",
                width=self._canvas[0],
                height=self._canvas[1],
                frames=max(1, self._frames),
                has_alpha=self._has_alpha,
                orientation=self._orientation or 1,
                has_icc=self._icc_kept,
            )
        )


def _bitstream(chunk: _Chunk) -> _Bitstream:
    """Read the header of a VP8 key frame or of a VP8L image."""
    body = chunk.body
    if chunk.type == b"VP8L":
        if len(body) > 5 and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            if not bits >> 29:  # the version
                return _Bitstream((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    elif len(body) > 10 and bytes(body[3:6]) == b"\x9d\x01\x2a":
        tag = int.from_bytes(body[:3], "little")
        width, height = struct.unpack_from("<HH", body, 6)
        shown_key_frame = tag & 0x11 == 0x10
        if shown_key_frame and tag >> 5 <= len(body) - 10 and width & 0x3FFF and height & 0x3FFF:
            return _Bitstream(width & 0x3FFF, height & 0x3FFF, False)
    raise ImageBroken("The WebP's picture is damaged.")
