"""The two reverse proxies of Debian, each with the very lines that `imgpro integrations` gives out for it."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from imgpro.integrations.proxies import PROXY_BY_NAME, Front
from tests.browser import LAN
from tests.servers import Answer, Server, running

_CADDYFILE = """{
	admin off
	auto_https disable_redirects
	skip_install_trust
	storage file_system DIR/storage
	default_bind 127.0.0.1
	grace_period 1s
}
"""
_NGINX = """daemon off;
pid DIR/pid;
error_log stderr;
worker_processes 1;
USER
events {}
http {
    access_log off;
    client_body_temp_path DIR/temp;
    proxy_temp_path DIR/temp;
    fastcgi_temp_path DIR/temp;
    uwsgi_temp_path DIR/temp;
    scgi_temp_path DIR/temp;
    types { text/html html; }
    gzip on;
    include DIR/conf.d/*.conf;
}
"""
OTHER = "another site"


class Proxied:
    """A server as its visitors see it: through a proxy."""

    def __init__(self, kind: str, base: str, server: Server) -> None:
        self.kind = kind
        self.base = base
        self.server = server

    @property
    def port(self) -> int:
        return int(self.base.split("/")[2].rpartition(":")[2])

    @property
    def path(self) -> str:
        """The path below which the server is shown; empty for all of a host."""
        return "".join(f"/{part}" for part in self.base.split("/")[3:])

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """Return a connection from one of this machine's own addresses."""
        connection = http.client.HTTPSConnection(LAN, self.port, timeout=30)
        connection.sock = shaken(self.port, source)
        return connection

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Ask below the base; `path` may be a link that begins with it."""
        with contextlib.closing(self.connect(source)) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.request(method, self.path + path.removeprefix(self.base), body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def shaken(port: int, source: str = "127.0.0.1") -> ssl.SSLSocket:
    """Return a connection to a proxy, whoever signed its certificate."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    try:
        return ssl._create_unverified_context().wrap_socket(raw, server_hostname=LAN)
    except BaseException:
        raw.close()
        raise


def free_port() -> int:
    """Return a port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        found: int = sock.getsockname()[1]
        return found


@contextlib.contextmanager
def proxied(
    kind: str,
    folder: Path,
    env: Mapping[str, str],
    *,
    path: str = "",
    unix: bool = False,
    guess: bool = False,
    user: str = "",
) -> Iterator[Proxied]:
    """Start a server and a proxy in front of it; both are told what `imgpro integrations` says.

    `path` is what the proxy shows it under. With `guess` the server is not told its address. `user` is whom nginx runs
    as, with its group.
    """
    if shutil.which(kind) is None and not Path(f"/usr/sbin/{kind}").exists():
        pytest.skip(f"no {kind} on this machine")
    listen = f"unix:{folder}/http.sock" if unix else f"127.0.0.1:{free_port()}"
    front = Front(f"https://{LAN}:{free_port()}{path}", listen, local=True)
    pieces = PROXY_BY_NAME[kind].pieces(front)
    told = next(piece.content for piece in pieces if "config.toml" in piece.label)
    if guess:
        told = "".join(line for line in told.splitlines(keepends=True) if not line.startswith("base_url"))
    (folder / "config.toml").write_text(told)
    files = {piece.name: piece.content for piece in pieces if piece.name}
    env = {**env, "IMGPRO_CONFIG": str(folder / "config.toml")}
    with running(folder / "data", env, "--listen", listen) as server, started(kind, folder, front, files, user):
        yield Proxied(kind, front.base, server)


@contextlib.contextmanager
def started(kind: str, folder: Path, front: Front, files: Mapping[str, str], user: str) -> Iterator[None]:
    """Run a proxy with our files in its configuration."""
    command = (_caddy if kind == "caddy" else _nginx)(folder, front, files, user)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder)
    try:
        deadline = time.monotonic() + 15
        while True:
            # Caddy answers before it has made its certificate.
            with contextlib.suppress(ConnectionRefusedError, ssl.SSLError), shaken(front.port):
                break
            said = (folder / "proxy.log").read_text()
            fine = process.poll() is None and time.monotonic() < deadline
            assert fine, f"{kind} did not start:\n{said}"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _caddy(folder: Path, front: Front, files: Mapping[str, str], user: str) -> list[str]:
    (folder / "imgpro.caddy").write_text(files["imgpro.caddy"])
    main = _CADDYFILE.replace("DIR", str(folder))
    if front.path:
        site = front.base.removesuffix(front.path)
        main += f'{site} {{\n\ttls internal\n\timport imgpro.caddy\n\trespond "{OTHER}"\n}}\n'
    else:
        main += "import imgpro.caddy\n"
    (folder / "Caddyfile").write_text(main)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _nginx(folder: Path, front: Front, files: Mapping[str, str], user: str) -> list[str]:
    certificate(folder / LAN)
    for name in ("conf.d", "temp"):
        (folder / name).mkdir()
    if front.path:
        (folder / "imgpro.conf").write_text(files["imgpro.conf"])
        (folder / "conf.d/imgpro-upstream.conf").write_text(files["imgpro-upstream.conf"])
        (folder / "conf.d/site.conf").write_text(
            f"server {{\nlisten 127.0.0.1:{front.port} ssl http2;\nserver_name {LAN};\n"
            f"ssl_certificate {folder}/{LAN}/fullchain.pem;\nssl_certificate_key {folder}/{LAN}/privkey.pem;\n"
            f'location / {{ return 200 "{OTHER}"; }}\ninclude {folder}/imgpro.conf;\n}}\n'
        )
    else:
        ours = files["imgpro.conf"].replace("/etc/ssl/", f"{folder}/")
        # On this machine's own address only, and on a port that needs no rights.
        ours = re.sub(r"listen \[::\]:.*\n", "", ours).replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
        ours = ours.replace(f"listen {front.port}", f"listen 127.0.0.1:{front.port}")
        (folder / "conf.d/imgpro.conf").write_text(ours)
    runs_as = (user or "root") if os.geteuid() == 0 else ""
    main = _NGINX.replace("DIR", str(folder)).replace("USER", f"user {runs_as};" if runs_as else "")
    (folder / "nginx.conf").write_text(main)
    return [
        shutil.which("nginx") or "/usr/sbin/nginx",
        "-c",
        str(folder / "nginx.conf"),
        "-p",
        str(folder),
        "-e",
        "stderr",
    ]


def certificate(folder: Path) -> None:
    """Make a certificate for the name that the tests' browser knows."""
    folder.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem"), "-days", "30"]
    command += ["-subj", f"/CN={LAN}", "-addext", f"subjectAltName=DNS:{LAN}"]
    subprocess.run(command, check=True, capture_output=True)
