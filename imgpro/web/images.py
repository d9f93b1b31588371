"""Pictures over HTTP: 304 before any byte is touched, ranges, and headers that say exactly what may be kept."""

import re
import time
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from imgpro.appliance import Appliance
from imgpro.errors import RangeNotSatisfiable
from imgpro.flows.hot import HotPicture
from imgpro.flows.names import download_name
from imgpro.flows.serve import OpenFile, Target
from imgpro.web import respond
from imgpro.web.identity import Identity
from imgpro.web.sendfile import send_file

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class ImageHandlers:
    """`GET|HEAD /t/{id}.{ext}`."""

    def __init__(self, appliance: Appliance, identity: Identity) -> None:
        self._appliance = appliance
        self._identity = identity

    async def get_image(self, request: web.Request) -> web.StreamResponse:
        """Answer a picture link."""
        match, query = request.match_info, request.query
        serve = self._appliance.serve
        view = self._identity.view(request)
        target = await serve.target(match["id"], match["ext"], query.get("size"), view)
        headers = _headers(target)
        if query.get("download") in ("1", "true"):
            headers["Content-Disposition"] = respond.attachment(download_name(target.image.name, target.content_type))
        if not_modified(request, target.etag):
            return web.Response(status=304, headers=headers)
        source = await serve.source(target, view)
        if isinstance(source, bytes):
            return _from_memory(request, target, source, headers)
        try:
            return await _from_file(request, target, source, headers)
        except ConnectionError:
            raise
        except OSError as error:
            # Its header has gone out already: the answer can only end too early, which every client sees.
            await serve.broke_off(target, error)
            raise ConnectionResetError("the file cannot be read") from error
        finally:
            source.close()


def hot_response(request: web.BaseRequest, hot: HotPicture) -> web.Response:
    """Answer from memory without looking anything up again."""
    now_s = int(time.time())
    made = hot.ready
    if hot.ready_s != now_s or not isinstance(made, CIMultiDict):
        made = CIMultiDict(respond.PICTURE_HEADERS)
        made["Content-Type"] = hot.content_type
        made["ETag"] = hot.etag
        made["Cache-Control"] = respond.until(hot.expires_ms)
        hot.ready, hot.ready_s = made, now_s
    headers = made.copy()
    if hdrs.IF_NONE_MATCH in request.headers and not_modified(request, hot.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=hot.body, headers=headers)


def not_modified(request: web.BaseRequest, etag: str) -> bool:
    """Tell whether the caller's If-None-Match names this very representation (RFC 9110 13.1.2)."""
    condition = request.headers.get(hdrs.IF_NONE_MATCH)
    if condition is None:
        return False
    return condition.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in condition.split(",")]


def _headers(target: Target) -> dict[str, str]:
    return {
        **respond.PICTURE_HEADERS,
        "Content-Type": target.content_type,
        "ETag": target.etag,
        "Cache-Control": respond.cache_control(target.image),
    }


def _from_memory(request: web.Request, target: Target, body: bytes, headers: dict[str, str]) -> web.Response:
    span = _range(request, target, len(body))
    if span is None:
        return web.Response(body=body, headers=headers)
    start, end = span
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
    return web.Response(status=206, body=body[start:end], headers=headers)


async def _from_file(
    request: web.Request, target: Target, file: OpenFile, headers: dict[str, str]
) -> web.StreamResponse:
    span = _range(request, target, file.size)
    start, end = span or (0, file.size)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    response = web.StreamResponse(status=206 if span else 200, headers=headers)
    response.content_length = end - start
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        await send_file(request, response, file.fd, start, end - start)
    await response.write_eof()
    return response


def _range(request: web.Request, target: Target, size: int) -> tuple[int, int] | None:
    """Return the half-open byte span to send, or None for all of it.

    Several ranges and malformed ones are answered with the whole, as RFC 9110 14.2 allows. Raises
    RangeNotSatisfiable.
    """
    etag, derived = target.etag, target.recipe is not None
    match = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").strip())
    if match is None or match[1] == match[2] == "" or request.method != hdrs.METH_GET:
        return None
    # A derivative made again after eviction may differ in its bytes: two halves must not be put together.
    if hdrs.IF_RANGE in request.headers and (derived or request.headers[hdrs.IF_RANGE] != etag):
        return None
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        problem = RangeNotSatisfiable(f"The file has {size} bytes.")
        problem.size_bytes = size
        raise problem
    return start, end
