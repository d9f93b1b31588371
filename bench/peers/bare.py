"""The least that aiohttp can do: one body from memory under uvloop, or one file by asyncio's sendfile."""

import asyncio
import sys
from pathlib import Path

from aiohttp import web


def application(mode: str, file: Path) -> web.Application:
    body = file.read_bytes()

    async def from_memory(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="image/jpeg")

    async def from_disk(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(file)

    app = web.Application()
    app.router.add_get("/", from_memory if mode == "memory" else from_disk)
    return app


def main() -> None:
    mode, file, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    if mode == "memory":
        import uvloop

        loop.close()
        loop = uvloop.new_event_loop()
    web.run_app(application(mode, file), host="127.0.0.1", port=port, access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
