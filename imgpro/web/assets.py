"""Static files of the pages: read once at start, answered from memory with a strong ETag.

Whoever takes gzip gets texts packed. A file that lies there as `NAME.gz` is served as NAME, unpacked to the few who do
not.
"""

import gzip
import hashlib
import importlib.resources
from typing import Final

import msgspec
from aiohttp import hdrs, web

from imgpro.errors import NotFound
from imgpro.web.images import not_modified

_PACKED: Final = ".gz"
_PACKABLE: Final = ("text/", "image/svg")
_WORTH_BYTES: Final = 1_000  # below, packing saves no packet
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(msgspec.Struct, frozen=True):
    """One file, as it is kept in memory: as it is, packed, or both."""

    kind: str
    tag: str
    body: bytes | None
    packed: bytes | None


class Assets:
    """`/static/{name}`."""

    def __init__(self) -> None:
        self._files: dict[str, Asset] = {}
        for entry in (importlib.resources.files("imgpro") / "static").iterdir():
            name = entry.name.removesuffix(_PACKED)
            kind = next((value for ending, value in _TYPES.items() if name.endswith(ending)), None)
            if kind is not None:
                self._files[name] = _asset(kind, entry.read_bytes(), packed=name != entry.name)

    async def get_asset(self, request: web.Request) -> web.Response:
        """Answer one file."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise NotFound()
        headers = {
            "Content-Type": found.kind,
            "Cache-Control": "public, max-age=300",
            "X-Content-Type-Options": "nosniff",
        }
        body = found.body
        # Packed and unpacked are two representations: a strong tag names one of them.
        headers["ETag"] = etag = f'"{found.tag}"'
        if found.packed is not None:
            headers["Vary"] = "Accept-Encoding"
            if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
                headers["Content-Encoding"] = "gzip"
                headers["ETag"] = etag = f'"{found.tag}-gz"'
                body = found.packed
        if not_modified(request, etag):
            return web.Response(status=304, headers=headers)
        if body is None:
            assert found.packed is not None
            body = gzip.decompress(found.packed)
        return web.Response(body=body, headers=headers)


def _asset(kind: str, content: bytes, *, packed: bool) -> Asset:
    tag = hashlib.sha256(content).hexdigest()[:32]
    if packed:
        return Asset(kind, tag, None, content)
    smaller = gzip.compress(content, mtime=0) if kind.startswith(_PACKABLE) and len(content) >= _WORTH_BYTES else None
    return Asset(kind, tag, content, smaller)


def takes_gzip(accepted: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip and does not weigh it at zero."""
    for item in accepted.lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";q=")
        if coding in ("gzip", "x-gzip"):
            return weight.strip("0.") != "" or weight == ""
    return False
