"""Reading request bodies that may be hostile: slow, endless, oversized, or not what they say they are."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import BodyPartReader, HttpVersion11, MultipartReader, StreamReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from imgpro.errors import BadRequest, FileTooLarge, ImgproError, RequestTimeout, UnsupportedFormat, ValidationError
from imgpro.settings import Uploads
from imgpro.web import disposition

CHUNK_BYTES: Final = 65_536
MAX_PARTS: Final = 20
MAX_HEADERS: Final = 32  # of one part
MAX_LINES: Final = 1_000  # outside of the parts' content
MAX_FIELD_BYTES: Final = 8_192
MAX_SMALL_BYTES: Final = 65_536
FORM_SLACK_BYTES: Final = 262_144  # boundaries, part headers and text fields around the file

# Signs that no header may have, but names of files do; a tab is allowed, and no name keeps one.
_CONTROLS: Final = bytes(9 if (code < 32 and code not in b"\r\n") or code == 127 else code for code in range(256))

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


def close_unread(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Close the connection after an answer that came with a body still on its way: it cannot be used again cheaply."""
    if request.can_read_body and not request.content.is_eof():
        response.force_close()


def refuse_declared_length(request: web.Request, max_bytes: int, body_bytes: int) -> None:
    """Refuse a body that says it is larger than `body_bytes`, what a file of `max_bytes` takes. Raises FileTooLarge."""
    declared = request.content_length
    if declared is not None and declared > body_bytes:
        raise too_large(max_bytes)


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


async def read_line(request: web.Request, pace: Pace) -> bytes:
    """Return the first line of a body, of at most 64 KB; what follows can still be read. Raises BadRequest."""
    try:
        line = await pace.next(request.content.readline())
    except ImgproError:
        raise
    except Exception as error:
        raise BadRequest("The body does not begin with a line.") from error
    if not line.endswith(b"\n"):
        raise BadRequest("The body does not begin with a line.")
    return line


async def _small_body(request: web.Request, pace: Pace, what: str, max_bytes: int = MAX_SMALL_BYTES) -> bytearray:
    """Ask for a body of at most `max_bytes` and return it; `what` is what the error calls it."""
    await invite(request)
    body = bytearray()
    async for chunk in raw_chunks(request, pace):
        body += chunk
        if len(body) > max_bytes:
            raise FileTooLarge(f"The {what} is larger than {max_bytes // 1024} KB.")
    return body


async def read_json(request: web.Request, pace: Pace) -> dict[str, Any]:
    """Return a JSON object of at most 64 KB. Raises BadRequest, FileTooLarge."""
    return parse_object(await _small_body(request, pace, "JSON body"))


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object that a body is. Raises BadRequest."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if not isinstance(decoded, dict):
        raise BadRequest("The body must be a JSON object.")
    return decoded


async def read_form(request: web.Request, pace: Pace, max_bytes: int = MAX_SMALL_BYTES) -> dict[str, str]:
    """Return a form (`application/x-www-form-urlencoded`) of at most `max_bytes`. Raises BadRequest, FileTooLarge."""
    body = await _small_body(request, pace, "form", max_bytes)
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=200, errors="strict"))
    except ValueError:
        raise BadRequest("The form is malformed.") from None


class _CountedLines:
    """A body of which only so many lines are read: megabytes of line breaks before the first part cost seconds each.

    Control characters in them are tabs: a name may have them.
    """

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._left = MAX_LINES

    async def readline(self, **limits: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise BadRequest("The multipart form has too many lines around its parts.")
        line = await self._content.readline(**limits)
        return line.translate(_CONTROLS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


@contextlib.contextmanager
def _well_formed() -> Iterator[None]:
    """Say of whatever the parser of forms raises what it means to the sender."""
    try:
        yield
    except ImgproError:
        raise
    except _PARSER_ERRORS:
        raise BadRequest("The multipart form is malformed.") from None
    except Exception as error:
        raise BadRequest("The body ended early.") from error


class Form:
    """A multipart form, part by part: text fields are collected, files are handed on in chunks.

    A file is any part that has a file name, and one that is called `file`.
    """

    def __init__(self, request: web.Request, pace: Pace, max_parts: int = MAX_PARTS) -> None:
        self._request = request
        self._max_parts = max_parts
        self.pace = pace
        self.fields: dict[str, Any] = {}
        self.file_name: str | None = None

    async def file_chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the one file wherever it stands among the fields.

        Afterwards `fields` and `file_name` are complete. Raises ValidationError for a missing or second file,
        BadRequest for anything that is not a well-formed form.
        """
        async for name, chunks in self.files():
            if self.file_name is not None:
                raise ValidationError(None, None, {"file": "Send one file in each request."})
            self.file_name = name
            async for chunk in chunks:
                yield chunk
        if self.file_name is None:
            raise ValidationError(None, None, {"file": "A file is needed, as a multipart part with a file name."})

    async def files(self) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """Yield the name and the chunks of each file, which are to be taken before the next is asked for.

        Raises BadRequest for anything that is not a well-formed form.
        """
        with _well_formed():
            content = cast("StreamReader", _CountedLines(self._request.content))
            headers = self._request.headers
            reader = MultipartReader(headers, content, max_field_size=MAX_FIELD_BYTES, max_headers=MAX_HEADERS)
            for number in range(self._max_parts + 1):
                part = await self.pace.next(reader.next())
                if part is None:
                    return
                if number == self._max_parts:
                    break
                if isinstance(part, MultipartReader):
                    raise BadRequest("Nested multipart is not supported.")
                _check_part(part)
                name, file_name = disposition.names(part.headers.get(hdrs.CONTENT_DISPOSITION, ""))
                if file_name is None and name != "file":
                    await self._take_field(part, name or "")
                else:
                    yield file_name or "", self._chunks(part)
            raise BadRequest(f"A form has at most {self._max_parts} parts.")

    async def _chunks(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        with _well_formed():
            while chunk := await self.pace.next(part.read_chunk(CHUNK_BYTES)):
                self.pace.count(len(chunk))
                yield bytes(chunk)

    async def _take_field(self, part: BodyPartReader, name: str) -> None:
        # A name's bytes may be no text at all, and an answer may have to say it.
        name, value = name.encode("utf-8", "replace").decode(), bytearray()
        while chunk := await self.pace.next(part.read_chunk(MAX_FIELD_BYTES)):
            self.pace.count(len(chunk))
            value += chunk
            if len(value) > MAX_FIELD_BYTES:
                raise ValidationError(None, None, {name: "The field is longer than 8 KB."})
        try:
            self.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise ValidationError(None, None, {name: "The field is not UTF-8 text."}) from None


def _check_part(part: BodyPartReader) -> None:
    for header in (hdrs.CONTENT_ENCODING, hdrs.CONTENT_TRANSFER_ENCODING):
        if part.headers.get(header, "binary").lower() not in ("binary", "8bit", "7bit", "identity"):
            raise BadRequest("Encoded parts are not supported; send the file as it is.")
