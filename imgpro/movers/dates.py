"""When a picture was made: by what its file says, by its name, by when the file was last written."""

import datetime
import os
import re
from collections.abc import Sequence
from typing import Final, Literal

from imgpro.errors import ImgproError
from imgpro.imaging.sniff import sniff
from imgpro.imaging.taken import taken

DateSource = Literal["exif", "name", "mtime", "none"]

_HEAD_BYTES: Final = 65_536
_EXIF: Final = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)(?:([+-])(\d\d):(\d\d)|Z)?", re.ASCII)
# "Screenshot 2024-05-01 12-30-10.png", "IMG_20240501_123010.jpg", "Bildschirmfoto 2024-05-01 um 12.30.10.png",
# "PXL_20240501_123010123.jpg", "IMG-20240501-WA0001.jpg".
_NAME: Final = re.compile(
    r"(?<!\d)(20\d\d|19[7-9]\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:(?:[-_ T.]|%20| at | um | à | a las | alle | om )*"
    r"([01]\d|2[0-3])[-_.:hu]?([0-5]\d)(?:[-_.:m]?([0-5]\d)\d{0,3})?)?(?!\d)",
    re.ASCII,
)


def date_of(path: str, order: Sequence[DateSource]) -> int | None:
    """Return when the picture at `path` was made (Unix ms), by the first of these that tells; None if none does.

    A time without a zone is this machine's.
    """
    for source in order:
        found = _by(path, source)
        if found is not None:
            return found
    return None


def _by(path: str, source: DateSource) -> int | None:
    if source == "exif":
        return from_exif(path)
    if source == "name":
        return from_name(os.path.basename(path))
    if source == "mtime":
        return _from_disk(path)
    return None


def from_exif(path: str) -> int | None:
    """Return when a picture was taken, as its EXIF block says."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        form = sniff(memoryview(os.pread(fd, _HEAD_BYTES, 0)))
        match = _EXIF.fullmatch(taken(lambda at, count: os.pread(fd, count, at), form))
    except (OSError, ImgproError):
        return None
    finally:
        os.close(fd)
    return None if match is None else _ms(match.groups()[:6], match.group(7, 8, 9))


def from_name(name: str) -> int | None:
    """Return the date that a file's name has in it; without a time it is noon."""
    match = _NAME.search(name)
    if match is None:
        return None
    year, _, month, day, hour, minute, second = match.groups()
    time = (hour, minute, second or "00") if hour is not None else ("12", "00", "00")
    return _ms((year, month, day, *time), (None, None, None))


def _from_disk(path: str) -> int | None:
    try:
        return os.lstat(path).st_mtime_ns // 1_000_000 or None
    except OSError:
        return None


def _ms(parts: Sequence[str], zone: Sequence[str | None]) -> int | None:
    sign, hours, minutes = zone
    try:
        moment = datetime.datetime(*map(int, parts))  # type: ignore[arg-type]  # noqa: DTZ001  # six numbers
        if sign is not None:
            offset = datetime.timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            moment = moment.replace(tzinfo=datetime.timezone(offset if sign == "+" else -offset))
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
