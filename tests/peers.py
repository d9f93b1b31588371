"""Other servers that tests talk to: real ones, on loopback."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


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
