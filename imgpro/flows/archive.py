"""Many originals as one ZIP file, made while it is sent.

Pictures are stored as they are, so the length of the whole is known before its first byte: a browser shows how far it
is and notices when it breaks off. Each file is read once more for its checksum before it is sent.

What goes meanwhile - deleted, ended, not readable - is left out and named in a text inside. A gap before the directory,
where unpackers do not look, then makes up the length that was announced. Knows no HTTP.
"""

import asyncio
import contextlib
import datetime
import logging
import os
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

import msgspec

from imgpro.errors import Action, Busy, ImgproError, NotFound, ValidationError
from imgpro.flows.browse import Browse, Filters
from imgpro.flows.names import Names, download_name, file_name
from imgpro.flows.records import Records
from imgpro.flows.serve import OpenFile
from imgpro.flows.zip_format import Stored, directory_entry, end, entry_bytes, is_wide, local_bytes, local_header
from imgpro.model import Image, Principal
from imgpro.recipes import CONTENT_TYPE
from imgpro.store.blobs import BlobStore

log = logging.getLogger(__name__)

MAX_PICTURES: Final = 100_000  # in one archive: what is known of each is in memory
MAX_AT_ONCE: Final = 8
MAX_PER_ACCOUNT: Final = 2
LEFT_OUT: Final = "left-out.txt"
LEFT_OUT_WORDS: Final = "\nThese pictures were deleted or could not be read while the archive was made.\n"
_PAGE: Final = 500
_IN_MEMORY_BYTES: Final = 512 * 1024  # a larger file is sent by the kernel
_READ_BYTES: Final = 1024 * 1024
_GAP: Final = bytes(65_536)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One picture of an archive: where it will lie in it, its bytes, its time (Unix seconds)."""

    id: str
    path: str
    size: int
    at_s: int


class Plan(msgspec.Struct, frozen=True):
    """What an archive is to hold, and how many bytes it has, whatever becomes of the pictures."""

    wishes: Sequence[Wish]
    length: int
    wide: bool


class Archives:
    """Makes archives of what a principal owns. One for the appliance."""

    def __init__(self, browse: Browse, records: Records, blobs: BlobStore) -> None:
        self._browse = browse
        self._records = records
        self._blobs = blobs
        self._under_way: Counter[int] = Counter()
        self.suspect: Callable[[str], None] = lambda _: None  # told of originals that do not look whole

    @contextlib.contextmanager
    def place(self, principal: Principal) -> Iterator[None]:
        """Hold one of the few places for archives under way. Raises Busy."""
        account = principal.account.seq
        if self._under_way.total() >= MAX_AT_ONCE or self._under_way[account] >= MAX_PER_ACCOUNT:
            wait = Action("wait", label="Try again when another download has ended", seconds=30)
            raise Busy("As many archives as this server makes at once are on their way.", wait)
        self._under_way[account] += 1
        try:
            yield
        finally:
            self._under_way[account] -= 1

    async def plan(self, principal: Principal, filters: Filters, ids: Sequence[str] | None) -> Plan:
        """Plan an archive of what a list holds or, where they are given, of pictures by their `ids`.

        Raises ValidationError for none and for too many.
        """
        parts = [ids[at : at + _PAGE] for at in range(0, len(ids), _PAGE)] if ids is not None else None
        lists = [filters] if parts is None else [Filters(ids=tuple(part)) for part in parts]
        found: list[tuple[str, str, str, int, int]] = []
        for each in lists:
            async for image in self._listed(principal, each):
                found.append((image.id, image.namespace or "", _name(image), image.blob.stored_bytes, _time(image)))
                if len(found) > MAX_PICTURES:
                    fix = Action("fix", label="Choose fewer, for example by their dates")
                    raise ValidationError(f"An archive holds at most {MAX_PICTURES:,} pictures.", fix)
        if not found:
            raise ValidationError("There is no picture to download.", Action("fix", label="Choose at least one"))
        return _planned(found)

    async def pieces(self, principal: Principal, plan: Plan) -> AsyncIterator[bytes | OpenFile]:
        """Yield the archive, `plan.length` bytes in all. Whoever takes an open file sends all of it and closes it."""
        at = 0
        directory, files = bytearray(), 0
        left_out: list[str] = []
        for wish in plan.wishes:
            try:
                stored, content = await self._taken(principal, wish)
            except ImgproError as problem:
                if not isinstance(problem, NotFound):
                    log.warning("a picture is left out of an archive: %s", problem)
                left_out.append(wish.path)
                continue
            directory += directory_entry(stored, at)
            files += 1
            head = local_header(stored)
            at += len(head) + stored.size
            if isinstance(content, bytes):
                yield head + content
                continue
            yield head
            yield content
        tail = len(end(0, 0, 0, wide=plan.wide))
        text = _left_out_text(left_out, plan.length - at - len(directory) - tail, at)
        if text:
            stored = Stored(LEFT_OUT, len(text), zlib.crc32(text), int(time.time()))
            directory += directory_entry(stored, at)
            files += 1
            at += local_bytes(LEFT_OUT, len(text))
            yield local_header(stored) + text
        begin = plan.length - len(directory) - tail
        while at < begin:
            gap = _GAP[: begin - at]
            at += len(gap)
            yield gap
        yield bytes(directory) + end(files, begin, len(directory), wide=plan.wide)

    async def _listed(self, principal: Principal, filters: Filters) -> AsyncIterator[Image]:
        cursor: str | None = None
        while True:
            wanted = msgspec.structs.replace(filters, limit=_PAGE, cursor=cursor)
            page = await self._browse.page(principal, wanted)
            for image in page.images:
                yield image
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _taken(self, principal: Principal, wish: Wish) -> tuple[Stored, bytes | OpenFile]:
        """Return a picture's facts and its bytes, or the open file. Raises NotFound, StorageFault."""
        image = await self._records.get(wish.id)
        if image is None or image.expired(time.time() * 1000) or not principal.owns(image):
            raise NotFound()
        try:
            file = OpenFile(self._blobs.open(image.blob.digest), wish.size)
        except ImgproError:
            self.suspect(image.blob.digest)
            raise
        try:
            content, crc = await asyncio.to_thread(_read, file)
        except BaseException as problem:
            file.close()
            if isinstance(problem, OSError):
                self.suspect(image.blob.digest)
                raise NotFound() from problem
            raise
        if content is not None:
            file.close()
        return Stored(wish.path, wish.size, crc, wish.at_s), file if content is None else content


def _planned(found: Sequence[tuple[str, str, str, int, int]]) -> Plan:
    """Return the plan of pictures given as id, namespace, name, size, time; each of several namespaces is a folder."""
    several = len({row[1] for row in found}) > 1
    names = Names((LEFT_OUT,))
    wishes = []
    at = directory = 0
    for image_id, namespace, name, size, at_s in found:
        path = names.unique(file_name(namespace) if several and namespace else "", name)
        wishes.append(Wish(id=image_id, path=path, size=size, at_s=at_s))
        directory += entry_bytes(path, at)
        at += local_bytes(path, size)
    wide = is_wide(len(found), at + directory)
    return Plan(wishes, at + directory + len(end(0, 0, 0, wide=wide)), wide)


def _read(file: OpenFile) -> tuple[bytes | None, int]:
    """Return the whole content of a small file, None of a large one, and the checksum. Raises OSError."""
    crc, at, kept = 0, 0, b""
    while chunk := os.pread(file.fd, min(_READ_BYTES, file.size + 1 - at), at):
        crc = zlib.crc32(chunk, crc)
        at += len(chunk)
        if file.size <= _IN_MEMORY_BYTES:
            kept += chunk
    if at != file.size:
        raise OSError("a picture has another length than its record says")
    return (kept, crc) if file.size <= _IN_MEMORY_BYTES else (None, crc)


def _left_out_text(paths: Sequence[str], room: int, at: int) -> bytes:
    """Return the names of what was left out, as far as there is room: that of the pictures, which no real one lacks."""
    text = ("\n".join(paths) + "\n" + LEFT_OUT_WORDS).encode() if paths else b""
    return text[: max(0, room - local_bytes(LEFT_OUT, 0) - entry_bytes(LEFT_OUT, at))]


def _name(image: Image) -> str:
    return file_name(download_name(image.name, CONTENT_TYPE[image.blob.format]))


def _time(image: Image) -> int:
    """Return the display date if the picture has one, else when it came; in Unix seconds."""
    if image.display_date is not None:
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return int(datetime.datetime.fromisoformat(image.display_date).timestamp())
    return image.created_ms // 1000
