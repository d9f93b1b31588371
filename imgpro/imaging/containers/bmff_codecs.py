"""What AV1 and HEVC bit streams say of themselves: frame size and how many pictures they make a decoder work on.

The sizes in the container are only claims; these are what a decoder allocates from. Knows nothing of boxes.
"""

from typing import Final

import msgspec

from imgpro.errors import ImageBroken

_MAX_UNITS: Final = 65_536
_HEADER_BYTES: Final = 512  # more than any sequence header needs up to the frame size
_OBU_SEQUENCE, _OBU_FRAME_HEADER, _OBU_FRAME = 1, 3, 6
_NAL_SPS, _NAL_FIRST_NON_VCL = 33, 32


class Stream(msgspec.Struct):
    """Largest frame of a bit stream in pixels, and the number of pictures coded in it."""

    width: int = 0
    height: int = 0
    pictures: int = 0

    def grow(self, size: tuple[int, int]) -> None:
        """Take in the size that one more sequence header names."""
        self.width, self.height = max(self.width, size[0]), max(self.height, size[1])


class _Bits:
    """Reads numbers of any width from the front of a byte string; past its end raises ImageBroken."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        if count > self._left:
            raise ImageBroken("The picture's header ends too early.")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ImageBroken("The picture's header is damaged.")
        return (1 << zeros) - 1 + self.take(zeros)


def read_av1(data: memoryview) -> Stream:
    """Walk the open bit stream units of an AV1 item. Raises ImageBroken."""
    stream = Stream()
    at = units = 0
    while at < len(data):
        kind, body, end = _obu(data, at)
        units += 1
        if end > len(data) or units > _MAX_UNITS:
            raise ImageBroken("The picture ends too early.")
        if kind == _OBU_SEQUENCE:
            stream.grow(_av1_size(_Bits(bytes(data[body : min(end, body + _HEADER_BYTES)]))))
        elif kind in (_OBU_FRAME, _OBU_FRAME_HEADER):
            stream.pictures += 1
        at = end
    if not stream.width or not stream.pictures:
        raise ImageBroken("The file holds no picture data.")
    return stream


def _obu(data: memoryview, at: int) -> tuple[int, int, int]:
    """Return type, start and end of the unit at `at`."""
    head = data[at]
    kind = head >> 3 & 15
    at += 2 if head & 4 else 1
    if head & 0x80:
        raise ImageBroken("The picture data is damaged.")
    if not head & 2:
        return kind, at, max(at, len(data))
    size = 0
    for shift in range(0, 56, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return kind, at, at + size
    raise ImageBroken("The picture data is damaged.")


def _av1_size(bits: _Bits) -> tuple[int, int]:
    """Read a sequence header up to the frame size (AV1 specification, 5.5.1)."""
    bits.take(4)
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        delay_bits = _av1_timing(bits)
        display_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay_bits and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if display_delay and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _av1_timing(bits: _Bits) -> int:
    """Skip timing and decoder model; return the width of delay fields, 0 without a decoder model."""
    if not bits.take(1):
        return 0
    bits.take(64)
    if bits.take(1):
        bits.exp_golomb()
    if not bits.take(1):
        return 0
    delay_bits = bits.take(5) + 1
    bits.take(42)
    return delay_bits


def read_hevc(config: memoryview, data: memoryview) -> Stream:
    """Walk an HEVC item: its parameter sets in the content of `hvcC`, then its NAL units. Raises ImageBroken."""
    if len(config) < 23:
        raise ImageBroken("The picture's header ends too early.")
    stream = Stream()
    at, end = 23, len(config)
    for _ in range(config[22]):
        _need(at + 3 <= end)
        count = int.from_bytes(config[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            _need(at + 2 <= end)
            length = int.from_bytes(config[at : at + 2], "big")
            _nal(config[at + 2 : at + 2 + length], stream)
            at += 2 + length
            _need(at <= end)
    _read_units(data, (config[21] & 3) + 1, stream)
    if not stream.width or not stream.pictures:
        raise ImageBroken("The file holds no picture data.")
    return stream


def _read_units(data: memoryview, length_bytes: int, stream: Stream) -> None:
    at = units = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        units += 1
        _need(at + length <= len(data) and units <= _MAX_UNITS)
        _nal(data[at : at + length], stream)
        at += length


def _need(there: bool) -> None:
    if not there:
        raise ImageBroken("The picture ends too early.")


def _nal(unit: memoryview, stream: Stream) -> None:
    if len(unit) < 3:
        return
    kind = unit[0] >> 1 & 63
    if kind == _NAL_SPS:
        stream.grow(_hevc_size(bytes(unit[2 : 2 + _HEADER_BYTES])))
    elif kind < _NAL_FIRST_NON_VCL and unit[2] & 0x80:  # first_slice_segment_in_pic_flag
        stream.pictures += 1


def _hevc_size(escaped: bytes) -> tuple[int, int]:
    """Read a sequence parameter set up to the picture size (ITU-T H.265, 7.3.2.2)."""
    bits = _Bits(escaped.replace(b"\0\0\3", b"\0\0"))
    bits.take(4)
    sub_layers = bits.take(3)
    bits.take(1 + 88 + 8)
    present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.take(2 * (8 - sub_layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.exp_golomb()
    if bits.exp_golomb() == 3:
        bits.take(1)
    return bits.exp_golomb(), bits.exp_golomb()
