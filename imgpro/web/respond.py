"""The only writer of answers: JSON, errors, picture headers."""

import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web

from imgpro.errors import (
    Action,
    BadRequest,
    FileTooLarge,
    ImgproError,
    MethodNotAllowed,
    NotFound,
    RangeNotSatisfiable,
    Unauthorized,
)
from imgpro.model import Image, Usage

_JSON: Final = "application/json; charset=utf-8"
_encode = msgspec.json.Encoder().encode

SERVER: Final = "imgpro"
CORS: Final = {"Access-Control-Allow-Origin": "*"}
API_HEADERS: Final = {
    **CORS,
    "Access-Control-Expose-Headers": (
        "ETag, Retry-After, X-Request-Id, WWW-Authenticate, Idempotent-Replayed, X-Monthly-Uploads-Used, "
        "X-Monthly-Uploads-Limit, X-Storage-Used-Bytes, X-Storage-Limit-Bytes"
    ),
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
}
PICTURE_HEADERS: Final = {
    "Server": SERVER,
    **CORS,
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "bytes",
}
# A browser that has seen a picture gains nothing by asking again. A cache that serves others asks every five minutes,
# so that a picture made private or deleted is not handed out by it for longer than that.
SHARED_S: Final = 300
IMMUTABLE: Final = f"public, max-age=31536000, immutable, s-maxage={SHARED_S}"
PRIVATE: Final = "private, no-store"


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON answer with the headers that every API answer carries."""
    return web.Response(
        status=status, body=_encode(body), headers={**API_HEADERS, "Content-Type": _JSON, **(headers or {})}
    )


def text(body: str, status: int = 200) -> web.Response:
    """Return one line of plain text, for screenshot tools and shells."""
    return web.Response(
        status=status, body=body.encode() + b"\n", headers={**API_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
    )


def see_other(location: str) -> web.Response:
    """Lead a browser that sent a form to the page that shows what came of it."""
    return web.Response(status=303, headers={"Location": location, "Cache-Control": PRIVATE})


def encoded(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer that is JSON already."""
    return web.Response(status=status, body=body, headers={**API_HEADERS, "Content-Type": _JSON, **(headers or {})})


def error(problem: ImgproError, base: str = "") -> web.Response:
    """Return the one shape of all errors; links within the site get `base` before them.

    The connection is closed where a body may be left unread.
    """
    return json(error_body(problem, base), problem.status, _error_headers(problem))


def error_body(problem: ImgproError, base: str = "") -> dict[str, Any]:
    """Return the body of the one shape of all errors."""
    body: dict[str, Any] = {
        "error": problem.code,
        "message": problem.message,
        "action": absolute(problem.action, base),
    }
    if problem.usage is not None:
        body["usage"] = problem.usage
    if problem.details:
        body["details"] = problem.details
    return body


def absolute(action: Action, base: str) -> Action:
    """Return an action whose link stands by itself."""
    if action.url is None or not action.url.startswith("/"):
        return action
    return msgspec.structs.replace(action, url=base + action.url)


def usage_headers(usage: Usage) -> dict[str, str]:
    """Return how much of its plan the caller has used, as headers."""
    return {
        "X-Monthly-Uploads-Used": str(usage.uploads_used),
        "X-Monthly-Uploads-Limit": _limit(usage.uploads_limit),
        "X-Storage-Used-Bytes": str(usage.storage_used_bytes),
        "X-Storage-Limit-Bytes": _limit(usage.storage_limit_bytes),
    }


def _limit(count: int | None) -> str:
    return "unlimited" if count is None else str(count)


def _error_headers(problem: ImgproError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if problem.action.type == "wait" and problem.action.seconds:
        headers["Retry-After"] = str(problem.action.seconds)
    if isinstance(problem, RangeNotSatisfiable) and problem.size_bytes is not None:
        headers["Content-Range"] = f"bytes */{problem.size_bytes}"
    if isinstance(problem, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="imgpro"'
    return headers


def from_http_exception(problem: web.HTTPException) -> web.Response:
    """Translate what aiohttp itself raises into our shape, keeping `Allow`."""
    if isinstance(problem, web.HTTPMethodNotAllowed):
        response = error(MethodNotAllowed())
        response.headers["Allow"] = ", ".join(sorted(problem.allowed_methods))
        return response
    if problem.status == 404:
        return error(NotFound())
    if problem.status == 413:
        return error(FileTooLarge())
    response = error(BadRequest(f"{problem.reason}."))
    response.set_status(problem.status)
    return response


def cache_control(image: Image) -> str:
    """Return the caching rule of a picture: for ever, until it ends, or not at all for private ones."""
    if not image.public:
        return PRIVATE
    return until(image.expires_ms or 0)


def until(expires_ms: int) -> str:
    """Return the caching rule of a public picture that ends at `expires_ms` (0: never)."""
    if not expires_ms:
        return IMMUTABLE
    left_s = max(0, (expires_ms - time.time_ns() // 1_000_000) // 1000)
    if not left_s:
        return "no-store"
    return f"public, max-age={min(left_s, 31536000)}, immutable, s-maxage={min(left_s, SHARED_S)}"


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves under `name` (RFC 6266: an ASCII form and the true one)."""
    plain = "".join(char if 32 <= ord(char) < 127 and char not in '"\\%;' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def markdown_text(name: str) -> str:
    """Return a name that cannot end the Markdown construct it stands in."""
    return "".join("\\" + char if char in "[]\\`*_<>!" else char for char in name)
