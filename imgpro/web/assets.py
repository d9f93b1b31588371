"""Static files of the pages: read once at start, answered from memory with a strong ETag."""

import hashlib
import importlib.resources
from typing import Final

from aiohttp import web

from imgpro.errors import NotFound
from imgpro.web.images import not_modified

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}


class Assets:
    """`/static/{name}` and `/favicon.svg`."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for entry in (importlib.resources.files("imgpro") / "static").iterdir():
            kind = next((value for ending, value in _TYPES.items() if entry.name.endswith(ending)), None)
            if kind is not None:
                body = entry.read_bytes()
                self._files[entry.name] = (body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    async def get_asset(self, request: web.Request) -> web.Response:
        """Answer one file."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise NotFound()
        body, kind, etag = found
        headers = {
            "Content-Type": kind,
            "ETag": etag,
            "Cache-Control": "public, max-age=300",
            "X-Content-Type-Options": "nosniff",
        }
        if not_modified(request, etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers)
