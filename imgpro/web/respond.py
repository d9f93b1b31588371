"""The only writer of answers: JSON, errors, picture headers."""

import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web

from imgpro.errors import (
    BadRequest,
    FileTooLarge,
    ImgproError,
    MethodNotAllowed,
    NotFound,
    RangeNotSatisfiable,
    Unauthorized,
)
from imgpro.model import Image
from imgpro.web.links import Links

_JSON: Final = "application/json; charset=utf-8"
_encode = msgspec.json.Encoder().encode

SERVER: Final = "imgpro"
CORS: Final = {"Access-Control-Allow-Origin": "*"}
API_HEADERS: Final = {
    **CORS,
    "Access-Control-Expose-Headers": "ETag, Retry-After, X-Request-Id",
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
IMMUTABLE: Final = "public, max-age=31536000, immutable"
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


def error(problem: ImgproError) -> web.Response:
    """Return the one shape of all errors. The connection is closed where a body may be left unread."""
    body: dict[str, Any] = {"error": problem.code, "message": problem.message, "action": problem.action}
    if problem.details:
        body["details"] = problem.details
    headers: dict[str, str] = {}
    if problem.action.type == "wait" and problem.action.seconds:
        headers["Retry-After"] = str(problem.action.seconds)
    if isinstance(problem, RangeNotSatisfiable) and problem.size_bytes is not None:
        headers["Content-Range"] = f"bytes */{problem.size_bytes}"
    if isinstance(problem, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="imgpro"'
    return json(body, problem.status, headers)


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
    return f"public, max-age={min(left_s, 31536000)}, immutable" if left_s else "no-store"


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves under `name` (RFC 6266: an ASCII form and the true one)."""
    plain = "".join(char if 32 <= ord(char) < 127 and char not in '"\\%;' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def image_fields(image: Image, links: Links) -> dict[str, Any]:
    """Return an image as the API shows it to anyone who may see it."""
    blob = image.blob
    fields: dict[str, Any] = {
        "id": image.id,
        "name": image.name,
        "url": links.page,
        "src": links.src,
        "width": blob.width,
        "height": blob.height,
        "filesize": blob.stored_bytes,
        "format": blob.format,
        "public": image.public,
        "created_at": image.created_ms // 1000,
        "tags": [],
        "namespace": None,
        "description": image.description,
        "date": image.display_date,
        "sizes": links.sizes(),
        "placeholder": blob.placeholder or None,
        "thumb": links.sizes()["s"]["src"],
    }
    if image.expires_ms is not None:
        fields["expires_at"] = image.expires_ms // 1000
    return fields


def created(image: Image, links: Links) -> dict[str, Any]:
    """Return the answer to an anonymous upload or import: the image, its delete link, and the way to a key."""
    fields = image_fields(image, links)
    fields["metadata_removed"] = list(image.metadata_removed)
    fields["delete_url"] = links.delete
    fields["markdown"] = f"![{markdown_text(image.name)}]({links.src})"
    fields["html"] = (
        f'<img src="{links.src.replace("&", "&amp;")}" width="{image.blob.width}" height="{image.blob.height}" alt="">'
    )
    fields["bbcode"] = f"[img]{links.src}[/img]"
    if not image.public:
        fields["signed_src"] = links.src
    fields["upgrade"] = {
        "type": "register",
        "url": f"{links.base}/api/quick-start",
        "message": "Create a free API key to keep your pictures and organise them.",
        "label": "Create API Key",
    }
    return fields


def markdown_text(name: str) -> str:
    """Return a name that cannot end the Markdown construct it stands in."""
    return "".join("\\" + char if char in "[]\\`*_<>!" else char for char in name)
