"""A picture inside a JSON object, as base64 text: how phones' shortcuts and some uploaders send one.

Neither the body nor the picture is held: long text is decoded as it arrives, and what is left of the object without it
is small. Which member holds the picture needs no agreement. It is the one that is longer than any other field may be;
of short ones it is `file`, else the longest that is no field of an upload.
"""

import binascii
import re
from collections.abc import AsyncIterator, Collection
from typing import Any, Final

import msgspec
from aiohttp import web

from imgpro.errors import BadRequest, FileTooLarge, ValidationError
from imgpro.web.bodies import MAX_FIELD_BYTES, MAX_SMALL_BYTES, Pace, parse_object, raw_chunks, too_large

_NOT_BASE64: Final = "Is not base64 text of a file."
_ONE_FILE: Final = {"file": "Send one file in each request."}
_SPECIAL: Final = re.compile(rb'["\\]')
_ESCAPE: Final = re.compile(rb"\\(?:u00([0-7][0-9A-Fa-f])|([nrtbf]))")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


class JsonFile:
    """The same as `bodies.Form`, for a JSON object: the file is handed on in chunks, then `fields` is complete."""

    def __init__(self, request: web.Request, pace: Pace, max_bytes: int, known: Collection[str]) -> None:
        """`known` are the names of fields, which never hold the picture."""
        self._request = request
        self._pace = pace
        self._max_bytes = max_bytes
        self._known = known
        self.fields: dict[str, Any] = {}
        self.file_name = ""

    async def file_chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the picture.

        Raises BadRequest for what is no JSON object, ValidationError for one without a picture or with two,
        FileTooLarge.
        """
        scanner, received, limit = _Scanner(self._known), 0, json_length(self._max_bytes)
        async for chunk in raw_chunks(self._request, self._pace):
            received += len(chunk)
            if received > limit:
                raise too_large(self._max_bytes)
            if decoded := scanner.feed(chunk):
                yield decoded
        body = scanner.rest()
        if scanner.picture is not None:
            # Named twice, or again in another member: which one was meant cannot be told.
            if body.pop(scanner.picture, ...) is not None or "file" in body:
                raise ValidationError(None, None, _ONE_FILE)
        else:
            name = self._short_one(body)
            yield decode_base64(name, body.pop(name))
        self.fields = body

    def _short_one(self, body: dict[str, Any]) -> str:
        if isinstance(body.get("file"), str):
            return "file"
        found = [name for name, value in body.items() if isinstance(value, str) and name not in self._known]
        if not found:
            raise ValidationError(None, None, {"file": "A file is needed, as base64 text."})
        return max(found, key=lambda name: len(body[name]))


def json_length(max_bytes: int) -> int:
    """Return how long a JSON body may be that holds a file of `max_bytes`: with line breaks and escapes in its text."""
    return max_bytes * 3 // 2 + MAX_SMALL_BYTES


def decode_base64(field: str, text: str) -> bytes:
    """Return what base64 text stands for, with or without the beginning of a data URI. Raises ValidationError."""
    stream = _Base64(field)
    return stream.feed(text.encode("utf-8", "replace")) + stream.end()


class _Scanner:
    """Goes through a JSON object as it arrives, decodes the long text in it and keeps the rest."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._kept = bytearray()  # the object with null in the place of the picture
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self._from = 0  # where in `_kept` the present text begins
        self._last = (0, 0)  # where the text before it stands
        self._stream: _Base64 | None = None
        self.picture: str | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the body; return those of the picture that are in them."""
        at, decoded = 0, bytearray()
        while at < len(chunk):
            if self._stream is not None:
                at = self._through_picture(chunk, at, decoded, self._stream)
            elif self._in_text:
                at = self._through_text(chunk, at, decoded)
            else:
                at = self._between(chunk, at)
            if len(self._kept) > MAX_SMALL_BYTES and not self._in_text:
                raise FileTooLarge("What is said about the file is longer than 64 KB.")
        return bytes(decoded)

    def rest(self) -> dict[str, Any]:
        """Return the object without the picture. Raises BadRequest for a body that was none."""
        return parse_object(self._kept)

    def _between(self, chunk: bytes, at: int) -> int:
        quote = chunk.find(b'"', at)
        end = len(chunk) if quote < 0 else quote + 1
        piece = chunk[at:end]
        self._depth += piece.count(b"{") + piece.count(b"[") - piece.count(b"}") - piece.count(b"]")
        self._kept += piece
        if quote >= 0:
            self._in_text, self._from = True, len(self._kept)
        return end

    def _through_text(self, chunk: bytes, at: int, decoded: bytearray) -> int:
        if self._escaped:
            self._escaped = False
            self._kept += chunk[at : at + 1]
            return at + 1
        special = _SPECIAL.search(chunk, at)
        end = len(chunk) if special is None else special.start()
        self._kept += chunk[at:end]
        if len(self._kept) - self._from > MAX_FIELD_BYTES:
            self._begin_picture(decoded)
            return end
        if special is None:
            return end
        self._kept += special[0]
        if special[0] == b"\\":
            self._escaped = True
        else:
            self._in_text = False
            self._last = (self._from, len(self._kept) - 1)
        return end + 1

    def _begin_picture(self, decoded: bytearray) -> None:
        name = self._name()
        if name in self._known:
            raise ValidationError(None, None, {name: "The field is longer than 8 KB."})
        if self.picture is not None:
            raise ValidationError(None, None, _ONE_FILE)
        self.picture = name
        self._stream = _Base64(name)
        begun = bytes(self._kept[self._from :])
        del self._kept[self._from - 1 :]
        self._kept += b"null"
        decoded += self._stream.feed_escaped(begun)

    def _name(self) -> str:
        """Return the name of the member whose text has begun. Raises ValidationError where it is no member."""
        start, end = self._last
        if self._depth != 1 or self._kept[end + 1 : self._from - 1].strip() != b":":
            raise ValidationError(None, None, {"file": "A file must stand directly in the object, as base64 text."})
        try:
            return msgspec.json.decode(bytes(self._kept[start - 1 : end + 1]), type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRequest("The body is not valid JSON.") from None

    def _through_picture(self, chunk: bytes, at: int, decoded: bytearray, stream: "_Base64") -> int:
        # A quote that is escaped would be no base64 either.
        quote = chunk.find(b'"', at)
        if quote < 0:
            decoded += stream.feed_escaped(chunk[at:])
            return len(chunk)
        decoded += stream.feed_escaped(chunk[at:quote]) + stream.end()
        self._stream, self._in_text, self._last = None, False, (0, 0)
        return quote + 1


class _Base64:
    """Decodes base64 text piece by piece, strictly but for line breaks, missing padding and the alphabet of URLs."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._begun = False
        self._ended = False
        self._held = b""  # the beginning of an escape
        self._left = b""  # less than four characters

    def feed_escaped(self, piece: bytes) -> bytes:
        """Take the next piece of the text as it stands in JSON, where some writers escape every slash."""
        text = self._held + piece
        self._held = b""
        if b"\\" in text:
            last = text.rfind(b"\\")
            if len(text) - last < (6 if text[last + 1 : last + 2] == b"u" else 2):
                text, self._held = text[:last], text[last:]
            if b"\\\\" in text:
                raise self._wrong()
            text = _ESCAPE.sub(_unescaped, text.replace(b"\\/", b"/"))
        return self.feed(text)

    def feed(self, text: bytes) -> bytes:
        """Take the next piece of the text; return the bytes that are whole. Raises ValidationError."""
        if not self._begun:
            self._begun = True
            if text.lstrip()[:5].lower() == b"data:":
                head, comma, text = text.partition(b",")
                if not comma or not head.strip().lower().endswith(b";base64"):
                    raise self._wrong()
        text = (self._left + text).translate(_URL_SAFE, b" \t\r\n")
        whole = len(text) & ~3
        text, self._left = text[:whole], text[whole:]
        return self._decode(text)

    def end(self) -> bytes:
        """Return what is left when the text has ended. Raises ValidationError."""
        text = self._left.rstrip(b"=")
        if self._held or len(text) == 1 or (self._left and self._ended):
            raise self._wrong()
        return self._decode(text + b"=" * (-len(text) % 4))

    def _decode(self, text: bytes) -> bytes:
        if text and self._ended:
            raise self._wrong()
        self._ended = text.endswith(b"=")
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            raise self._wrong() from None

    def _wrong(self) -> ValidationError:
        return ValidationError(None, None, {self._field: _NOT_BASE64})


def _unescaped(match: re.Match[bytes]) -> bytes:
    return b"" if match[1] is None else bytes([int(match[1], 16)])
