"""Walks a GIF block by block: what it will cost to decode, that it is whole, and what in it is private.

Knows how much LZW data a frame needs at least, not what that data says.
"""

import re
import struct
from typing import Final

from imgpro.errors import ImageBroken, ImageTooLarge
from imgpro.imaging.containers import exif
from imgpro.imaging.containers.cleaning import Cleaning
from imgpro.imaging.containers.costs import check_canvas, check_frames, usable_icc
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_MAX_EXTENSIONS: Final = 20_000  # every frame has one or two; more is an attack on whoever counts them
_MAX_SUB_BLOCKS: Final = 5_000_000  # 70 MB in full sub-blocks are 275,000; half a second of counting
_PADDING: Final = re.compile(rb"\x00+")

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_PLAIN_TEXT, _GRAPHIC_CONTROL, _COMMENT, _APPLICATION = 0x01, 0xF9, 0xFE, 0xFF
_LOOPS: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_ICC: Final = b"ICCRGBG1012"
_XMP: Final = b"XMP DataXMP"
_LONGEST_STRING: Final = 4096  # pixels behind one LZW code


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge the GIF in `data`. A GIF that is whole but for its last byte, the trailer, is given one."""
    return _Walk(data, limits).run()


class _Walk:
    def __init__(self, data: memoryview, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._cleaning = Cleaning(data)
        self._width = 0
        self._height = 0
        self._frames = 0
        self._extensions = 0
        self._sub_blocks = 0
        self._comment_bytes = 0
        self._transparent = False
        self._applications: set[bytes] = set()  # of which one was kept

    def run(self) -> Examined:
        if bytes(self._data[:6]) not in (b"GIF87a", b"GIF89a") or len(self._data) < 13:
            raise ImageBroken("The GIF ends too early or does not begin like one.")
        self._width, self._height, flags = struct.unpack_from("<HHB", self._data, 6)
        at = 13 + _table_bytes(flags)
        self._cleaning.keep(0, at)
        while at < len(self._data):
            if (label := self._data[at]) == _TRAILER:
                self._cleaning.keep(at, at + 1)
                return self._finish(at + 1)
            if label == _IMAGE:
                at = self._image(at)
            elif label == _EXTENSION:
                at = self._extension(at)
            elif padding := _PADDING.match(self._data, at):  # some encoders end a block twice; decoders do not mind
                self._cleaning.drop("unknown_chunks")
                at = padding.end()
            else:
                raise ImageBroken("The GIF is damaged: something that is no block stands between its blocks.")
        if at > len(self._data):
            raise ImageBroken("The GIF ends too early.")
        self._cleaning.put(bytes((_TRAILER,)))
        return self._finish(at)

    def _image(self, at: int) -> int:
        if at + 10 > len(self._data):
            raise ImageBroken("The GIF ends inside a frame's header.")
        left, top, width, height, flags = struct.unpack_from("<HHHHB", self._data, at + 1)
        self._place(left, top, width, height)
        start = at + 10 + _table_bytes(flags)
        if start >= len(self._data) or not 1 <= self._data[start] <= 8:
            raise ImageBroken("The GIF has a frame that is cut off or not valid.")
        end, length = self._skip(start + 1)
        if width * height > _most_pixels(length, self._data[start] + 1):
            raise ImageBroken("The GIF is cut off: rows of a frame are missing.")
        self._cleaning.keep(at, end)
        return end

    def _place(self, left: int, top: int, width: int, height: int) -> None:
        """Check a frame's rectangle. As in browsers, the first frame may enlarge the canvas; no other may leave it."""
        self._frames += 1
        if self._frames == 1:
            self._transparent |= left > 0 or top > 0 or width < self._width or height < self._height
            self._width = max(self._width, left + width)
            self._height = max(self._height, top + height)
            check_canvas(self._width, self._height, self._limits)
        check_frames(self._frames, self._width, self._height, self._limits)
        if not width or not height or left + width > self._width or top + height > self._height:
            raise ImageBroken("The GIF has a frame outside of its canvas.")

    def _skip(self, at: int) -> tuple[int, int]:
        """Step over sub-blocks; return where they end and how many bytes they carry."""
        data, start, blocks, most = self._data, at, 0, _MAX_SUB_BLOCKS - self._sub_blocks
        try:
            while (length := data[at]) and blocks < most:
                at += length + 1
                blocks += 1
        except IndexError:
            raise ImageBroken("The GIF ends inside a block.") from None
        self._sub_blocks += blocks
        if length:
            raise ImageTooLarge("The GIF is made of too many blocks.")
        return at + 1, at - start - blocks

    def _joined(self, at: int) -> bytes:
        """The bytes that the sub-blocks at `at`, known to be whole, carry."""
        pieces = []
        while length := self._data[at]:
            pieces.append(self._data[at + 1 : at + 1 + length])
            at += length + 1
        return b"".join(pieces)

    def _extension(self, at: int) -> int:
        self._extensions += 1
        if self._extensions > _MAX_EXTENSIONS:
            raise ImageTooLarge("The GIF is made of too many blocks.")
        if at + 3 > len(self._data):
            raise ImageBroken("The GIF ends inside a block.")
        label = self._data[at + 1]
        end, length = self._skip(at + 2)
        if label == _GRAPHIC_CONTROL and end - at == 8 and length == 4:
            self._transparent |= bool(self._data[at + 3] & 1)
            self._cleaning.keep(at, end)
        elif label == _COMMENT:
            self._comment(length)
        elif label == _APPLICATION:
            self._application(at, end)
        else:
            self._cleaning.drop("text" if label == _PLAIN_TEXT else "unknown_chunks")
        return end

    def _comment(self, length: int) -> None:
        self._comment_bytes += length
        if self._comment_bytes > self._limits.max_comment_bytes:
            raise ImageTooLarge("The GIF's comments are too long.")
        self._cleaning.drop("comment")

    def _application(self, at: int, end: int) -> None:
        """Keep how often the animation is shown, and the colour profile."""
        name = bytes(self._data[at + 3 : at + 14]) if self._data[at + 2] == 11 else b""
        if name == _XMP:
            packet = self._data[at + 14 : end]
            self._cleaning.drop("xmp", *(("gps",) if exif.xmp_has_gps(packet) else ()))
            return
        body = self._joined(at + 14) if name in (*_LOOPS, _ICC) and name not in self._applications else b""
        if name in _LOOPS and len(body) >= 3 and body[0] & 7 == 1:
            self._loop(at, end, name, body[1:3])
        elif name == _ICC and usable_icc(body):
            self._cleaning.keep(at, end)
        else:
            self._cleaning.drop("application_data")
            return
        self._applications.add(name)

    def _loop(self, at: int, end: int, name: bytes, times: bytes) -> None:
        block = b"\x21\xff\x0b" + name + b"\x03\x01" + times + b"\0"
        if self._data[at:end] == block:
            self._cleaning.keep(at, end)
        else:
            self._cleaning.put(block)
            self._cleaning.drop("application_data")

    def _finish(self, end: int) -> Examined:
        if not self._frames:
            raise ImageBroken("The GIF holds no picture.")
        if end < len(self._data):
            self._cleaning.drop("trailing_data")
        return self._cleaning.finish(
            Probe(
                format="gif",
                width=self._width,
                height=self._height,
                frames=self._frames,
                has_alpha=self._transparent,
                has_icc=_ICC in self._applications,
            )
        )


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _most_pixels(length: int, code_bits: int) -> int:
    """The most pixels that `length` bytes of LZW can stand for: each code adds one to the longest string at most."""
    codes = length * 8 // code_bits
    growing = min(codes, _LONGEST_STRING)
    return growing * (growing + 1) // 2 + (codes - growing) * _LONGEST_STRING
