"""Send a part of a file as a response body.

uvloop offers no sendfile, and reading through Python costs four times the CPU. Once aiohttp's own buffer has
drained, the kernel copies straight from the page cache to a duplicate of the socket's descriptor: a duplicate,
because an event loop refuses to watch a descriptor that one of its transports owns.
"""

import asyncio
import os
import socket
from typing import Final

from aiohttp import web

_SPAN_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_STALL_S: Final = 60.0


async def send_file(request: web.BaseRequest, response: web.StreamResponse, fd: int, offset: int, length: int) -> None:
    """Send `length` bytes of `fd` from `offset`; the response is prepared and its length header set.

    Raises ConnectionResetError when the client goes away or takes nothing for a minute.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None:
        await _copy(response, fd, offset, length)
        return
    await _drained(transport)
    await _send(request, sock, fd, offset, length)


async def _drained(transport: asyncio.Transport) -> None:
    """Wait until nothing of ours is left in the transport, so that the file follows the headers."""
    deadline = asyncio.get_running_loop().time() + _STALL_S
    while transport.get_write_buffer_size():
        if transport.is_closing() or asyncio.get_running_loop().time() > deadline:
            raise ConnectionResetError("the client takes nothing")
        await asyncio.sleep(0.005)


async def _send(request: web.BaseRequest, sock: socket.socket, fd: int, offset: int, length: int) -> None:
    twin = os.dup(sock.fileno())
    try:
        end = offset + length
        while offset < end:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client has gone")
            try:
                sent = os.sendfile(twin, fd, offset, min(end - offset, _SPAN_BYTES))
            except BlockingIOError:
                await _writable(twin)
                continue
            except TimeoutError as error:
                raise ConnectionResetError("the client takes nothing") from error
            if sent == 0:
                raise ConnectionResetError("the file is shorter than announced")
            offset += sent
            if sent == _SPAN_BYTES:
                await asyncio.sleep(0)
    finally:
        os.close(twin)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _settle, ready)
    try:
        async with asyncio.timeout(_STALL_S):
            await ready
    except TimeoutError:
        raise ConnectionResetError("the client takes nothing") from None
    finally:
        loop.remove_writer(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _copy(response: web.StreamResponse, fd: int, offset: int, length: int) -> None:
    """The portable way, for TLS: read in threads, write through the transport."""
    end = offset + length
    while offset < end:
        chunk = await asyncio.to_thread(os.pread, fd, min(end - offset, _READ_BYTES), offset)
        if not chunk:
            raise ConnectionResetError("the file is shorter than announced")
        await response.write(chunk)
        offset += len(chunk)
