"""Static files of the pages: read once at start, answered from memory with a strong ETag.

A file that lies there as `NAME.gz` is served as NAME: as it is to whoever takes gzip, unpacked to the few who do not.
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
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(msgspec.Struct, frozen=True):
    """One file, as it is kept in memory."""

    body: bytes
    kind: str
    tag: str
    packed: bool


class Assets:
    """`/static/{name}` and `/favicon.svg`."""

    def __init__(self) -> None:
        self._files: dict[str, Asset] = {}
        for entry in (importlib.resources.files("imgpro") / "static").iterdir():
            name = entry.name.removesuffix(_PACKED)
            kind = next((value for ending, value in _TYPES.items() if name.endswith(ending)), None)
            if kind is not None:
                body = entry.read_bytes()
                tag = hashlib.sha256(body).hexdigest()[:32]
                self._files[name] = Asset(body, kind, tag, packed=name != entry.name)

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
        as_packed = found.packed and takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        if found.packed:
            headers["Vary"] = "Accept-Encoding"
        if as_packed:
            headers["Content-Encoding"] = "gzip"
        # Packed and unpacked are two representations: a strong tag names one of them.
        headers["ETag"] = etag = f'"{found.tag}-gz"' if as_packed else f'"{found.tag}"'
        if not_modified(request, etag):
            return web.Response(status=304, headers=headers)
        plain = found.packed and not as_packed
        return web.Response(body=gzip.decompress(found.body) if plain else found.body, headers=headers)


def takes_gzip(accepted: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip and does not weigh it at zero."""
    for item in accepted.lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";q=")
        if coding in ("gzip", "x-gzip"):
            return weight.strip("0.") != "" or weight == ""
    return False
