"""What reverse proxies in front of a server need, and what the server has to know of them. No keys are in it."""

import json
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from imgpro.integrations.target import Piece, filled

_LOOPBACK: Final = ("127.0.0.1", "::1")
_DOCKER: Final = ("172.16.0.0/12",)
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~:/\[\]-]+", re.ASCII)
_HERE: Final = "127.0.0.1:8080"  # for proxies that reach no unix socket

_CADDY: Final = """# imgpro behind Caddy: @BASE@
@SITE@ {@TLS@
	reverse_proxy @BACKEND@ {
		header_up -X-Forwarded-Prefix
		lb_try_duration 15s
	}
}
"""
_CADDY_BELOW: Final = """# imgpro behind Caddy: @BASE@
@imgpro path @PATH@ @PATH@/*
handle @imgpro {
	reverse_proxy @BACKEND@ {
		header_up -X-Forwarded-Prefix
		lb_try_duration 15s
	}
}
"""
_NGINX_UPSTREAM: Final = """upstream imgpro {
    server @BACKEND@;
    keepalive 16;
}
"""
# A header that is set to nothing is not passed on: what a visitor sends under these names goes no further.
_NGINX_LINES: Final = """proxy_pass http://imgpro;
proxy_http_version 1.1;
proxy_redirect off;
proxy_set_header Connection "";
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host "";
proxy_set_header X-Forwarded-Prefix "";
client_max_body_size 0;        # imgpro has limits of its own
proxy_request_buffering off;   # pictures arrive while they are sent
proxy_buffering off;           # so do events and archives
proxy_read_timeout 120s;
proxy_send_timeout 120s;
"""
_NGINX_TLS: Final = """server {
    listen 80;
    listen [::]:80;
    server_name @NAME@;
    return 308 @BASE@$request_uri;
}

server {
    listen @PORT@ ssl http2;        # since nginx 1.25.1: listen @PORT@ ssl; and a line http2 on;
    listen [::]:@PORT@ ssl http2;
    server_name @NAME@;
    ssl_certificate /etc/ssl/@NAME@/fullchain.pem;
    ssl_certificate_key /etc/ssl/@NAME@/privkey.pem;

    location / {
@LINES@    }
}
"""
_NGINX_PLAIN: Final = """server {
    listen @PORT@;
    listen [::]:@PORT@;
    server_name @NAME@;

    location / {
@LINES@    }
}
"""
_NGINX_BELOW: Final = """location @PATH@/ {
@LINES@}
"""
_TRAEFIK: Final = """# imgpro behind Traefik: @BASE@
http:
  routers:
    imgpro:
      rule: "@RULE@"
      entryPoints: ["@ENTRY@"]
@TLS@      service: imgpro
  services:
    imgpro:
      loadBalancer:
        servers:
          - url: "http://@BACKEND@"
"""
_TRAEFIK_LABELS: Final = """labels:
  - "traefik.enable=true"
  - "traefik.http.routers.imgpro.rule=@RULE@"
  - "traefik.http.routers.imgpro.entrypoints=@ENTRY@"
@TLS@  - "traefik.http.services.imgpro.loadbalancer.server.port=@PORT@"
"""


class Front(msgspec.Struct, frozen=True):
    """A server behind a proxy: `base` is the address that the proxy shows it under, without a slash at the end.

    `listen` is where it listens for the proxy: host and port, or `unix:` and a path. `local` is whether the name is one
    that no public authority gives a certificate for.
    """

    base: str
    listen: str
    local: bool = False

    def __post_init__(self) -> None:
        """Refuse what could mean something in the files it is written into."""
        for text in (self.base.partition("://")[2], self.listen):
            if not _PLAIN.fullmatch(text):
                raise ValueError(f"{text!r} has characters that mean something in configurations")

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return urlsplit(self.base).scheme

    @property
    def name(self) -> str:
        """The host's name, as in certificates."""
        name = urlsplit(self.base).hostname or ""
        return f"[{name}]" if ":" in name else name

    @property
    def port(self) -> int:
        """The port that the proxy answers on."""
        return urlsplit(self.base).port or (443 if self.scheme == "https" else 80)

    @property
    def path(self) -> str:
        """The path below which the server is shown; empty for all of a host."""
        return urlsplit(self.base).path

    @property
    def socket(self) -> str:
        """The path of the unix socket, empty where there is none."""
        return self.listen.removeprefix("unix:") if self.listen.startswith("unix:") else ""

    @property
    def address(self) -> str:
        """Host and port, for proxies that know nothing else."""
        return _HERE if self.socket else self.listen


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy: `pieces` makes what it is given, `steps` are three lines that say what to do with it.

    In steps `{file}` stands for the first file's name, `{base}` for the address.
    """

    name: str
    title: str
    about: str
    steps: tuple[str, str, str]
    pieces: Callable[[Front], tuple[Piece, ...]]

    def steps_for(self, front: Front) -> list[str]:
        """Return the steps with this server's names in them."""
        file = next((piece.name for piece in self.pieces(front) if piece.name), "")
        return [step.replace("{file}", file).replace("{base}", front.base) for step in self.steps]


def settings(front: Front, listen: str, trusted: tuple[str, ...]) -> Piece:
    """Return the lines that the server needs to believe a proxy, for its own configuration."""
    lines = (
        "[server]",
        f"listen = [{json.dumps(listen)}]",
        f"base_url = {json.dumps(front.base)}",
        f"trusted_proxies = {json.dumps(list(trusted))}",
    )
    return Piece(label="For imgpro's config.toml", content="\n".join(lines) + "\n")


def caddy(front: Front) -> tuple[Piece, ...]:
    """Return a site of a Caddyfile, or what one more site has in it for a path."""
    values = {
        "BASE": front.base,
        "SITE": front.base,
        "TLS": "\n\ttls internal" if front.local and front.scheme == "https" else "",
        "BACKEND": f"unix/{front.socket}" if front.socket else front.listen,
        "PATH": front.path,
    }
    where = "Save in /etc/caddy"
    if front.path:
        where += f", and write import imgpro.caddy into the site {front.base.removesuffix(front.path)}"
    return (
        Piece(label=where, name="imgpro.caddy", content=filled(_CADDY_BELOW if front.path else _CADDY, values)),
        *_group(front, "caddy"),
        _settings_beside(front),
    )


def nginx(front: Front) -> tuple[Piece, ...]:
    """Return the servers for a name, or what one more server has in it for a path."""
    backend = f"unix:{front.socket}" if front.socket else front.listen
    upstream = filled(_NGINX_UPSTREAM, {"BACKEND": backend})
    values = {
        "BASE": front.base,
        "NAME": front.name,
        "PORT": str(front.port),
        "PATH": front.path,
    }
    if front.path:
        where = f"Save in /etc/nginx/snippets, and write include snippets/imgpro.conf; into the server {front.name}"
        pieces: tuple[Piece, ...] = (
            Piece(
                label=where,
                name="imgpro.conf",
                content=filled(_NGINX_BELOW, {**values, "LINES": _indented(_NGINX_LINES, 4)}),
            ),
            Piece(label="Save in /etc/nginx/conf.d", name="imgpro-upstream.conf", content=upstream),
        )
    else:
        servers = _NGINX_TLS if front.scheme == "https" else _NGINX_PLAIN
        content = f"{upstream}\n{filled(servers, {**values, 'LINES': _indented(_NGINX_LINES, 8)})}"
        pieces = (Piece(label="Save in /etc/nginx/conf.d", name="imgpro.conf", content=content),)
    return *pieces, *_group(front, "www-data"), _settings_beside(front)


def traefik(front: Front) -> tuple[Piece, ...]:
    """Return a file for the file provider, and labels for a container."""
    rule = f"Host(`{front.name}`)"
    if front.path:
        rule += f" && (Path(`{front.path}`) || PathPrefix(`{front.path}/`))"
    tls = front.scheme == "https"
    values = {"BASE": front.base, "RULE": rule, "ENTRY": "websecure" if tls else "web", "BACKEND": front.address}
    values["PORT"] = front.address.rpartition(":")[2]
    provided = filled(_TRAEFIK, {**values, "TLS": "      tls: {certResolver: letsencrypt}\n" if tls else ""})
    label = '  - "traefik.http.routers.imgpro.tls.certresolver=letsencrypt"\n' if tls else ""
    return (
        Piece(label="Save in the folder of the file provider", name="imgpro.yml", content=provided),
        settings(front, front.address, _LOOPBACK),
        Piece(
            part="Or as labels of a container",
            label="In compose.yml, beside imgpro's image",
            content=filled(_TRAEFIK_LABELS, {**values, "TLS": label}),
        ),
        settings(front, f":{values['PORT']}", _DOCKER),
        Piece(
            part="In both cases",
            label="For Traefik's own start: by itself it cuts uploads that take a minute",
            content=f"--entryPoints.{values['ENTRY']}.transport.respondingTimeouts.readTimeout=1000s",
        ),
    )


def tailscale(front: Front) -> tuple[Piece, ...]:
    """Return the line that shows a server to a tailnet."""
    port = f" --https={front.port}" if front.port != 443 else ""
    path = f" --set-path={front.path}" if front.path else ""
    return (
        Piece(label="Once", content=f"tailscale serve --bg{port}{path} http://{front.address}"),
        settings(front, front.address, _LOOPBACK),
    )


def _settings_beside(front: Front) -> Piece:
    """Return the lines for a proxy on the same machine."""
    return settings(front, front.listen, ("unix",) if front.socket else _LOOPBACK)


def _group(front: Front, user: str) -> tuple[Piece, ...]:
    """Return the line that lets a proxy's user connect to a unix socket, which is for its owner's group."""
    if not front.socket:
        return ()
    return (Piece(label="Let the proxy connect, then restart it", content=f"usermod -a -G imgpro {user}"),)


def _indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}\n" for line in text.splitlines())


PROXIES: Final = (
    Proxy(
        name="caddy",
        title="Caddy",
        about="A reverse proxy that gets its own certificates.",
        steps=(
            "Save {file} in /etc/caddy and write import {file} into the Caddyfile.",
            "Put the lines for config.toml below into imgpro's configuration and restart it.",
            "Reload Caddy and open {base}",
        ),
        pieces=caddy,
    ),
    Proxy(
        name="nginx",
        title="nginx",
        about="A reverse proxy with certificates that something else renews.",
        steps=(
            "Save {file} where it says below; with https name your certificate in it.",
            "Put the lines for config.toml below into imgpro's configuration and restart it.",
            "Run nginx -t, reload nginx and open {base}",
        ),
        pieces=nginx,
    ),
    Proxy(
        name="traefik",
        title="Traefik",
        about="A reverse proxy for containers.",
        steps=(
            "Save {file} in the folder that Traefik's file provider watches, or use the labels below.",
            "Put the lines for config.toml below into imgpro's configuration and restart it.",
            "Let Traefik wait longer, as below, and open {base}",
        ),
        pieces=traefik,
    ),
    Proxy(
        name="tailscale",
        title="Tailscale",
        about="Shows a server to one's own devices, with a certificate.",
        steps=(
            "Turn on HTTPS certificates in Tailscale's console under DNS, and run the line below.",
            "Put the lines for config.toml below into imgpro's configuration and restart it.",
            "Open {base} on another device",
        ),
        pieces=tailscale,
    ),
)
PROXY_BY_NAME: Final = {proxy.name: proxy for proxy in PROXIES}
