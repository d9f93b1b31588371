"""Walks a JPEG marker by marker: what it will cost to decode, that it is whole, and what in it is private.

Knows the structure of the entropy-coded data (where it ends, how little of it there can be), not its content.
"""

import re
import struct
from itertools import islice
from typing import Final, NamedTuple

from imgpro.errors import ImageBroken, ImageTooLarge, UnsupportedFormat
from imgpro.imaging.containers import exif
from imgpro.imaging.containers.cleaning import Cleaning
from imgpro.imaging.containers.costs import check_canvas, usable_icc
from imgpro.imaging.examined import Examined
from imgpro.model import Limits, Probe

_MAX_SEGMENTS: Final = 10_000  # a profile has 255 at most, a hundred scans a thousand tables; more is an attack

_ANY_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")

_SOI, _EOI, _SOS, _DQT, _DNL, _DRI, _COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE
_SOF_DECODED: Final = frozenset({0xC0, 0xC1, 0xC2})
_SOF_PROGRESSIVE: Final = 0xC2
_REFUSED: Final = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "Lossless JPEG is not accepted."),
    **dict.fromkeys((0xC9, 0xCA, 0xCC, 0xCD, 0xCE), "JPEG with arithmetic coding is not accepted."),
    **dict.fromkeys((0xC5, 0xC6, 0xDE, 0xDF), "Hierarchical JPEG is not accepted."),
    0xF7: "JPEG-LS is not accepted.",
}
_DHT: Final = 0xC4
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})

_MAX_MCU_BLOCKS: Final = 10  # the standard's own limit for interleaved scans
_JFIF_BYTES: Final = 14
_ADOBE_BYTES: Final = 12
_EXIF: Final = b"Exif\0\0"
_XMP: Final = (b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0")
_ICC: Final = b"ICC_PROFILE\0"


class _Frame(NamedTuple):
    width: int
    height: int
    progressive: bool
    sampling: dict[int, tuple[int, int]]  # component id -> horizontal, vertical factor

    def mcus(self, components: bytes) -> tuple[int, int]:
        """Number of coding units in a scan of `components`, and of 8x8 blocks in all of them."""
        h_max = max(h for h, _ in self.sampling.values())
        v_max = max(v for _, v in self.sampling.values())
        if len(components) == 1:
            h, v = self.sampling[components[0]]
            units = -(-self.width * h // (h_max * 8)) * -(-self.height * v // (v_max * 8))
            return units, units
        units = -(-self.width // (h_max * 8)) * -(-self.height // (v_max * 8))
        return units, units * sum(h * v for h, v in (self.sampling[one] for one in components))


def examine(data: memoryview, limits: Limits) -> Examined:
    """Judge the JPEG in `data`. Only what libjpeg decodes everywhere passes: Huffman coding, 8 bits, 1, 3 or 4
    components."""
    return _Walk(data, limits).run()


class _Walk:
    def __init__(self, data: memoryview, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._cleaning = Cleaning(data)
        self._frame: _Frame | None = None
        self._scans = 0
        self._scanned: set[int] = set()  # components whose DC coefficients came
        self._restart_interval = 0
        self._exif: exif.ExifFacts | None = None
        self._jfif = False
        self._icc: list[tuple[int, int]] = []
        self._several = False  # a multi-picture index was there

    def run(self) -> Examined:
        if bytes(self._data[:2]) != b"\xff\xd8":
            raise ImageBroken("The JPEG does not begin like one.")
        self._cleaning.keep(0, 2)
        at = 2
        for _ in range(_MAX_SEGMENTS):
            found = _ANY_MARKER.search(self._data, at)
            if found is None:
                raise ImageBroken("The JPEG ends too early.")
            if self._data[at : found.start()].tobytes().strip(b"\xff"):
                self._cleaning.drop("unknown_chunks")
            at, marker = found.start(), self._data[found.start() + 1]
            if marker == _EOI:
                return self._finish(at)
            at = self._segment(marker, at)
        raise ImageTooLarge("The JPEG has too many segments.")

    def _segment(self, marker: int, at: int) -> int:
        """Treat the segment at `at`; return where the next one may begin."""
        if marker in _WITHOUT_LENGTH:
            self._cleaning.drop("unknown_chunks")
            return at + 2
        if marker in _REFUSED:
            raise UnsupportedFormat(_REFUSED[marker])
        if at + 4 > len(self._data) or marker == _SOI:
            raise ImageBroken("The JPEG ends too early or begins twice.")
        end = at + 2 + int.from_bytes(self._data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(self._data):
            raise ImageBroken("The JPEG ends inside a segment.")
        body = self._data[at + 4 : end]
        if marker == _SOS:
            return self._scan(at, end, body)
        if 0xE0 <= marker <= 0xEF:
            self._application(marker, at, end, body)
        elif marker == _COM:
            self._cleaning.drop("comment")
        else:
            self._table(marker, body)
            self._cleaning.keep(at, end)
        return end

    def _table(self, marker: int, body: memoryview) -> None:
        if marker in _SOF_DECODED:
            self._start_of_frame(marker, body)
        elif marker == _DQT:
            _check_quantization(body)
        elif marker == _DHT:
            _check_huffman(body)
        elif marker == _DRI and len(body) == 2:
            self._restart_interval = int.from_bytes(body, "big")
        elif marker == _DNL and self._frame and len(body) == 2:
            if int.from_bytes(body, "big") != self._frame.height:
                raise ImageBroken("The JPEG gives two different heights.")
        else:
            raise ImageBroken("The JPEG holds a segment that is not known.")

    def _start_of_frame(self, marker: int, body: memoryview) -> None:
        if self._frame is not None:
            raise ImageBroken("The JPEG has two frame headers.")
        if len(body) < 6:
            raise ImageBroken("The JPEG's frame header is too short.")
        precision, height, width, count = struct.unpack_from(">BHHB", body)
        if precision == 12:
            raise UnsupportedFormat("JPEG with 12 bits per sample is not accepted.")
        if precision != 8 or count not in (1, 3, 4) or len(body) != 6 + 3 * count:
            raise ImageBroken("The JPEG's frame header is not valid.")
        check_canvas(width, height, self._limits)
        sampling = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, len(body), 3)}
        _check_sampling(sampling, count)
        self._frame = _Frame(width, height, marker == _SOF_PROGRESSIVE, sampling)

    def _scan(self, at: int, end: int, body: memoryview) -> int:
        """Check a scan header, step over its entropy-coded data and see that there is enough of it."""
        frame = self._frame
        if frame is None or not len(body) or not 1 <= body[0] <= 4 or len(body) != 4 + 2 * body[0]:
            raise ImageBroken("The JPEG has a scan header that is not valid.")
        components = bytes(body[1:-3:2])
        first = body[-3] if frame.progressive else 0  # decoders ignore the field in a sequential picture
        if len(set(components)) != len(components) or not set(components) <= frame.sampling.keys():
            raise ImageBroken("The JPEG has a scan of components it does not have.")
        if len(components) > 1 and sum(h * v for h, v in map(frame.sampling.__getitem__, components)) > _MAX_MCU_BLOCKS:
            raise ImageBroken("The JPEG has a scan that no decoder takes.")
        self._scans += 1
        if (
            self._scans > self._limits.max_jpeg_scans
            or self._scans * frame.width * frame.height > self._limits.max_scan_pixels
        ):
            raise ImageTooLarge("The JPEG has too many scans for its size.")
        found = _END_OF_SCAN.search(self._data, end)
        if found is None:
            raise ImageBroken("The JPEG ends in the middle of a scan.")
        self._check_enough(components, first, end, found.start())
        if not frame.progressive or (first == 0 and body[-1] < 0x10):  # a refining scan alone is no picture
            self._scanned.update(components)
        self._cleaning.keep(at, found.start())
        return found.start()

    def _check_enough(self, components: bytes, first: int, start: int, end: int) -> None:
        """Refuse a scan that cannot hold all its rows, which a decoder would quietly fill with grey."""
        frame = self._frame
        assert frame is not None
        units, blocks = frame.mcus(components)
        # No code is shorter than a bit. A sequential block has two at least; an end-of-band run of a progressive
        # AC scan may stand for thousands of blocks.
        bits_per_block = 2 if not frame.progressive else int(first == 0)
        expected = -(-units // self._restart_interval) - 1 if self._restart_interval else 0
        restarts = sum(1 for _ in islice(_RESTART.finditer(self._data, start, end), expected))
        if (end - start) * 8 < blocks * bits_per_block or restarts < expected:
            raise ImageBroken("The JPEG is cut off: rows are missing.")

    def _application(self, marker: int, at: int, end: int, body: memoryview) -> None:
        """Keep what decides about colours and orientation, and only ahead of the first scan."""
        kinds: tuple[str, ...] = ("application_data",)
        if marker == 0xE0 and bytes(body[:5]) == b"JFXX\0":
            kinds = ("thumbnail",)
        elif marker == 0xE1:
            kinds = self._app1(at, end, body)
        elif marker == 0xED:
            kinds = _photoshop(body)
        elif marker == 0xE2 and bytes(body[:4]) == b"MPF\0":
            self._several = True
            kinds = ("extra_images",)
        elif not self._scans and self._colour(marker, at, end, body):
            return
        self._cleaning.drop(*kinds)

    def _colour(self, marker: int, at: int, end: int, body: memoryview) -> bool:
        """Keep JFIF, ICC and Adobe segments; say whether this was one."""
        if marker == 0xE0 and bytes(body[:5]) == b"JFIF\0" and len(body) >= _JFIF_BYTES and not self._jfif:
            self._jfif = True
            self._keep_cut(at, end, bytes(body[:12]) + b"\0\0", "thumbnail")
        elif marker == 0xE2 and bytes(body[:12]) == _ICC and len(body) > 14:
            self._icc.append((at, end))
            self._cleaning.keep(at, end)
        elif marker == 0xEE and bytes(body[:5]) == b"Adobe" and len(body) >= _ADOBE_BYTES:
            self._keep_cut(at, end, bytes(body[:_ADOBE_BYTES]), "application_data")
        else:
            return False
        return True

    def _keep_cut(self, at: int, end: int, body: bytes, kind: str) -> None:
        """Keep a segment as `body`, dropping `kind` if it held more than that."""
        if self._data[at + 4 : end] == body:
            self._cleaning.keep(at, end)
        else:
            self._cleaning.put(_segment(self._data[at + 1], body))
            self._cleaning.drop(kind)

    def _app1(self, at: int, end: int, body: memoryview) -> tuple[str, ...]:
        """Treat EXIF and XMP; return the kinds that went."""
        packet = bytes(body)
        if packet.startswith(_XMP):
            return ("xmp", "gps") if exif.xmp_has_gps(packet) else ("xmp",)
        if not packet.startswith(b"Exif\0"):
            return ("application_data",)
        facts = exif.read(packet[len(_EXIF) :])
        if self._exif is not None or self._scans:  # viewers go by the first one, ahead of the picture
            return facts.kinds
        self._exif = facts
        least = _EXIF + exif.minimal(facts.orientation)
        if facts.orientation == 1:
            return facts.kinds
        if packet == least:
            self._cleaning.keep(at, end)
            return ()
        self._cleaning.put(_segment(0xE1, least))
        return facts.kinds

    def _finish(self, at: int) -> Examined:
        frame = self._frame
        if frame is None or self._scanned != frame.sampling.keys():
            raise ImageBroken("The JPEG ends before all of its picture came.")
        self._cleaning.keep(at, at + 2)
        if at + 2 < len(self._data):
            self._cleaning.drop("extra_images" if self._several else "trailing_data")
        return self._cleaning.finish(
            Probe(
                format="jpeg",
                width=frame.width,
                height=frame.height,
                orientation=self._exif.orientation if self._exif else 1,
                has_icc=self._profile_stays(),
            )
        )

    def _profile_stays(self) -> bool:
        """Tell whether the ICC segments make a whole profile; if they do not, they all go."""
        segments = sorted((self._data[at + 16], self._data[at + 17], at, end) for at, end in self._icc)
        count = len(segments)
        whole = count > 0 and all(segment[:2] == (i, count) for i, segment in enumerate(segments, 1))
        if whole and usable_icc(b"".join(self._data[at + 18 : end] for _, _, at, end in segments)):
            return True
        for span in self._icc:
            self._cleaning.withdraw(span)
            self._cleaning.drop("application_data")
        return False


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _photoshop(body: memoryview) -> tuple[str, ...]:
    resources = bytes(body)
    found = (("iptc", b"8BIM\x04\x04"), ("thumbnail", b"8BIM\x04\x0c"), ("thumbnail", b"8BIM\x04\x09"))
    return tuple(kind for kind, mark in found if mark in resources) or ("application_data",)


def _check_sampling(sampling: dict[int, tuple[int, int]], count: int) -> None:
    """Refuse what libjpeg cannot upsample: factors outside 1-4, and components that are no whole fraction."""
    factors = [one for pair in sampling.values() for one in pair]
    if len(sampling) != count or not all(1 <= one <= 4 for one in factors):
        raise ImageBroken("The JPEG's sampling factors are not valid.")
    h_max, v_max = (max(pair[axis] for pair in sampling.values()) for axis in (0, 1))
    if any(h_max % h or v_max % v for h, v in sampling.values()):
        raise ImageBroken("The JPEG's sampling factors do not divide each other.")


def _check_quantization(body: memoryview) -> None:
    at = 0
    while at < len(body):
        if body[at] >> 4 > 1 or body[at] & 15 > 3:
            raise ImageBroken("The JPEG has a quantization table that is not valid.")
        at += 129 if body[at] >> 4 else 65
    if at != len(body):
        raise ImageBroken("The JPEG has a quantization table that ends too early.")


def _check_huffman(body: memoryview) -> None:
    at = 0
    while at + 17 <= len(body):
        symbols = sum(body[at + 1 : at + 17])
        if body[at] >> 4 > 1 or body[at] & 15 > 3 or symbols > 256:
            raise ImageBroken("The JPEG has a Huffman table that is not valid.")
        at += 17 + symbols
    if at != len(body):
        raise ImageBroken("The JPEG has a Huffman table that ends too early.")
