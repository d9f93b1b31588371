"""Other servers that tests talk to: real ones, on loopback."""

import contextlib
import http.client
import http.server
import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def picture_peer(picture: bytes) -> Iterator[int]:
    """Serve one PNG at every path of a free port, to import from; yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(picture)))
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, *args: object) -> None:
            pass

    peer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    try:
        yield peer.server_port
    finally:
        peer.shutdown()
        peer.server_close()


def importing_from(port: int) -> dict[str, str]:
    """Return the settings with which a server may import from such a peer."""
    return {"IMGPRO_IMPORTS_PRIVATE_NETWORKS": "127.0.0.0/8", "IMGPRO_IMPORTS_PORTS": str(port)}


class FaultyProxy:
    """Stands before a server, and treats the next uploads as `faults` says, one each.

    `cut`: the connection is reset while the file comes in. `swallow`: the server does its work, and its answer is lost.
    A number: 503 with so many seconds in Retry-After. With `gate` closed, uploads wait after they have come in.
    """

    def __init__(self) -> None:
        self.port = 0
        self.faults: list[str | int] = []
        self.uploads = 0
        self.gate = threading.Event()
        self.gate.set()


class _Faulty(http.server.BaseHTTPRequestHandler):
    proxy: FaultyProxy
    upstream: int

    def do_POST(self) -> None:
        fault = None
        length = int(self.headers.get("Content-Length", 0))
        if self.command == "POST" and self.path.startswith("/v1/upload"):
            self.proxy.uploads += 1
            fault = self.proxy.faults.pop(0) if self.proxy.faults else None
        if fault == "cut":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if isinstance(fault, int):
            content = json.dumps({"error": "busy", "message": "The server is busy.", "action": {"type": "wait"}})
            self._answer(503, [("Retry-After", str(fault))], content.encode())
            return
        if self.command == "POST":
            self.proxy.gate.wait(20)
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if fault == "swallow":
            self._reset()
        else:
            self._answer(response.status, response.getheaders(), content)

    def do_GET(self) -> None:
        self.do_POST()

    def do_HEAD(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a browser that goes away, or a connection that was reset on purpose


@contextlib.contextmanager
def faulty_proxy(upstream: int) -> Iterator[FaultyProxy]:
    """Run such a proxy before a port of this machine."""
    proxy = FaultyProxy()
    found = _Quiet(("127.0.0.1", 0), type("Handler", (_Faulty,), {"proxy": proxy, "upstream": upstream}))
    proxy.port = found.server_port
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        found.shutdown()
        found.server_close()
