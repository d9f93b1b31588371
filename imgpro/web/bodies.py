"""Reading request bodies that may be hostile: slow, endless, oversized, or not what they say they are."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import BodyPartReader, HttpVersion11, MultipartReader, StreamReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from imgpro.errors import BadRequest, FileTooLarge, ImgproError, RequestTimeout, UnsupportedFormat, ValidationError
from imgpro.settings import Uploads

CHUNK_BYTES: Final = 65_536
MAX_PARTS: Final = 20
MAX_HEADERS: Final = 32  # of one part
MAX_LINES: Final = 1_000  # outside of the parts' content
MAX_FIELD_BYTES: Final = 8_192
MAX_SMALL_BYTES: Final = 65_536
FORM_SLACK_BYTES: Final = 262_144  # boundaries, part headers and text fields around the file

# What aiohttp's multipart parser raises on malformed input besides its own classes (found by fuzzing it).
_PARSER_ERRORS: Final = (
    ValueError,
    RuntimeError,
    LookupError,
    AssertionError,
    web.HTTPException,
    HttpProcessingError,
)

T = TypeVar("T")


class Pace:
    """Holds one body to the limits of the `uploads` section: longest silence, slowest average, longest time."""

    def __init__(self, settings: Uploads) -> None:
        self._settings = settings
        self._started = time.monotonic()
        self._received = 0

    async def next(self, step: Awaitable[T]) -> T:
        """Await the next piece of the body. Raises RequestTimeout, or BadRequest when the client went away."""
        left_s = self._started + self._settings.deadline_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self._settings.chunk_deadline_s, left_s))):
                return await step
        except TimeoutError:
            raise RequestTimeout() from None

    def count(self, received: int) -> None:
        """Count bytes received. Raises RequestTimeout when they come too slowly on average."""
        self._received += received
        counted_s = time.monotonic() - self._started - self._settings.chunk_deadline_s
        if counted_s > 0 and self._received < counted_s * self._settings.min_rate_bytes:
            raise RequestTimeout()


async def expect(request: web.Request) -> None:
    """Take note of `Expect: 100-continue` and leave the answer to `invite`. Raises HTTPExpectationFailed for others.

    As a route's expect handler. aiohttp's own says "100 Continue" before the handler can refuse the request, and the
    client then sends the whole file in vain.
    """
    if request.version >= HttpVersion11 and request.headers[hdrs.EXPECT].lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def invite(request: web.Request) -> None:
    """Ask for the body of a request that was found admissible, if its client waits to be asked."""
    if request.version >= HttpVersion11 and hdrs.EXPECT in request.headers and not request.content.total_bytes:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what counts as output is the answer


def refuse_declared_length(request: web.Request, limit_bytes: int) -> None:
    """Refuse a body that already says it is too large. Raises FileTooLarge."""
    declared = request.content_length
    if declared is not None and declared > limit_bytes:
        raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> FileTooLarge:
    """Return the error for a file above a limit."""
    return FileTooLarge(f"The file is larger than {limit_bytes // (1024 * 1024)} MB.")


async def raw_chunks(request: web.Request, pace: Pace) -> AsyncIterator[bytes]:
    """Yield the body as it is."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedFormat("The body must not be compressed.")
    while True:
        try:
            chunk = await pace.next(request.content.readany())
        except ImgproError:
            raise
        except Exception as error:
            raise BadRequest("The body ended early.") from error
        if not chunk:
            return
        pace.count(len(chunk))
        yield chunk


async def _small_body(request: web.Request, pace: Pace, what: str) -> bytearray:
    """Ask for a body of at most 64 KB and return it; `what` is what the error calls it."""
    await invite(request)
    body = bytearray()
    async for chunk in raw_chunks(request, pace):
        body += chunk
        if len(body) > MAX_SMALL_BYTES:
            raise FileTooLarge(f"The {what} is larger than 64 KB.")
    return body


async def read_json(request: web.Request, pace: Pace) -> dict[str, Any]:
    """Return a JSON object of at most 64 KB. Raises BadRequest, FileTooLarge."""
    body = await _small_body(request, pace, "JSON body")
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if not isinstance(decoded, dict):
        raise BadRequest("The body must be a JSON object.")
    return decoded


async def read_form(request: web.Request, pace: Pace) -> dict[str, str]:
    """Return a small form (`application/x-www-form-urlencoded`, at most 64 KB). Raises BadRequest, FileTooLarge."""
    body = await _small_body(request, pace, "form")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=200, errors="strict"))
    except ValueError:
        raise BadRequest("The form is malformed.") from None


class _CountedLines:
    """A body of which only so many lines are read: megabytes of line breaks before the first part cost seconds each."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._left = MAX_LINES

    async def readline(self, **limits: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise BadRequest("The multipart form has too many lines around its parts.")
        return await self._content.readline(**limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


class Form:
    """A multipart form, part by part: text fields are collected, the one file is handed on in chunks."""

    def __init__(self, request: web.Request, pace: Pace) -> None:
        self._request = request
        self._pace = pace
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None

    async def file_chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the file part wherever it stands among the fields.

        Afterwards `fields` and `file_name` are complete. Raises ValidationError for a missing or second file,
        BadRequest for anything that is not a well-formed form.
        """
        try:
            async for chunk in self._walk():
                yield chunk
        except ImgproError:
            raise
        except _PARSER_ERRORS:
            raise BadRequest("The multipart form is malformed.") from None
        except Exception as error:
            raise BadRequest("The body ended early.") from error
        if self.file_name is None:
            raise ValidationError(None, None, {"file": "A file is needed, as a multipart part with a file name."})

    async def _walk(self) -> AsyncIterator[bytes]:
        content = cast("StreamReader", _CountedLines(self._request.content))
        headers = self._request.headers
        reader = MultipartReader(headers, content, max_field_size=MAX_FIELD_BYTES, max_headers=MAX_HEADERS)
        for _ in range(MAX_PARTS + 1):
            part = await self._pace.next(reader.next())
            if part is None:
                return
            if isinstance(part, MultipartReader):
                raise BadRequest("Nested multipart is not supported.")
            _check_part(part)
            if part.filename is None and part.name != "file":
                await self._take_field(part)
                continue
            if self.file_name is not None:
                raise ValidationError(None, None, {"file": "Send one file in each request."})
            self.file_name = part.filename or ""
            while chunk := await self._pace.next(part.read_chunk(CHUNK_BYTES)):
                self._pace.count(len(chunk))
                yield bytes(chunk)
        raise BadRequest(f"A form has at most {MAX_PARTS} parts.")

    async def _take_field(self, part: BodyPartReader) -> None:
        value = bytearray()
        while chunk := await self._pace.next(part.read_chunk(MAX_FIELD_BYTES)):
            self._pace.count(len(chunk))
            value += chunk
            if len(value) > MAX_FIELD_BYTES:
                raise ValidationError(None, None, {part.name or "": "The field is longer than 8 KB."})
        try:
            self.fields[part.name or ""] = value.decode()
        except UnicodeDecodeError:
            raise ValidationError(None, None, {part.name or "": "The field is not UTF-8 text."}) from None


def _check_part(part: BodyPartReader) -> None:
    for header in (hdrs.CONTENT_ENCODING, hdrs.CONTENT_TRANSFER_ENCODING):
        if part.headers.get(header, "binary").lower() not in ("binary", "8bit", "7bit", "identity"):
            raise BadRequest("Encoded parts are not supported; send the file as it is.")
