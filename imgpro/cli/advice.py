"""Settings that are legal and unwise: what an operator should hear of them. Nobody is kept from anything."""

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

from imgpro.errors import ConfigError
from imgpro.sense import parse_listen
from imgpro.settings import Server, Settings
from imgpro.sources import Finding

_MANY_ADDRESSES = 2**16  # more than any proxy's own network has


def unwise(settings: Settings) -> list[Finding]:
    """Return what is to be said of settings that work."""
    found = [*_proxies(settings), *_addresses(settings), *_doors(settings), *_room(settings), *_files(settings)]
    return [
        Finding(level="unwise", setting=setting, what=f"{setting}: {what}", fix=fix) for setting, what, fix in found
    ]


Advice = Iterator[tuple[str, str, str]]


def _proxies(settings: Settings) -> Advice:
    for setting, networks, why in (
        ("server.trusted_proxies", settings.server.trusted_proxies, "anybody there can claim any address"),
        ("header_sign_in.proxies", settings.header_sign_in.proxies, "anybody there can sign in as anybody"),
    ):
        for text in networks:
            if _is_wide(text):
                yield setting, f"{text} is no proxy's own address, and {why}", "name the proxy alone"
    if any(_is_wide(text) for text in settings.metrics.networks) and settings.metrics.enabled:
        yield "metrics.networks", "the numbers are for everybody to read", "name who collects them"


def _addresses(settings: Settings) -> Advice:
    server = settings.server
    tls = bool(server.tls_cert) or any(text.startswith("https://") for text in server.listen)
    if server.base_url.startswith("http://") and tls:
        yield "server.base_url", "links begin with http:// though TLS is spoken", "begin it with https://"
    loopback = all(address.is_loopback for address in map(parse_listen, server.listen))
    if loopback and server.base_url.startswith("https://") and not server.trusted_proxies and not tls:
        what = "a proxy is in front, and its X-Forwarded-For is not believed: all visitors share one address's limits"
        yield "server.trusted_proxies", what, 'name it, e.g. ["127.0.0.1"]'


def _doors(settings: Settings) -> Advice:
    public = settings.server.base_url.startswith("https://") and settings.anonymous.networks == "any"
    anonymous = settings.anonymous
    if anonymous.enabled and public and (anonymous.uploads_per_day is None or anonymous.storage_bytes is None):
        name = "uploads_per_day" if anonymous.uploads_per_day is None else "storage_bytes"
        yield f"anonymous.{name}", "anybody on the Internet may fill this disk", "set a limit"
    if settings.accounts.registration == "open" and settings.plans.unlimited and public:
        yield (
            "plans.unlimited",
            "anybody may make an account, and no account has a limit",
            'registration = "invitation"',
        )
    if settings.mail.host and settings.mail.security == "none" and settings.mail.password:
        yield "mail.security", "the password goes over the network in the clear", 'use "starttls" or "tls"'


def _room(settings: Settings) -> Advice:
    storage, uploads = settings.storage, settings.uploads
    if storage.low_bytes < storage.reserve_bytes:
        yield "storage.low_bytes", "uploads are refused before anybody is warned", "set it above storage.reserve_bytes"
    if uploads.anonymous_max_bytes > uploads.max_bytes:
        yield "uploads.anonymous_max_bytes", "more is allowed without a key than with one", "set it below max_bytes"


def _files(settings: Settings) -> Advice:
    name = settings.mail.ca_file
    if name and not os.access(Path(name).expanduser(), os.R_OK):
        missing = not Path(name).expanduser().exists()
        yield "mail.ca_file", f"{name} {'is not there' if missing else 'cannot be read by this user'}", "correct it"


def certificate(server: Server) -> list[Finding]:
    """Return what a start says of the certificate, and what visitors will."""
    needed = any(text.startswith("https://") for text in server.listen)
    if not server.tls_cert:
        what, fix = "server.listen: https:// needs a certificate", "set server.tls_cert"
        return [Finding(level="error", setting="server.listen", what=what, fix=fix)] if needed else []
    from imgpro.web import tls  # most have no certificate of their own

    try:
        pair = tls.load_pair(server)
    except ConfigError as problem:
        fix = problem.action.label or ""
        return [Finding(level="error", setting="server.tls_cert", what=problem.message.rstrip("."), fix=fix)]
    if not pair.warning:
        return []
    return [Finding(level="unwise", setting="server.tls_cert", what=f"server.tls_cert: {pair.warning}")]


def _is_wide(text: str) -> bool:
    """Tell whether strangers have addresses in it. Networks of a LAN or of containers are wide and still one's own."""
    if text == "unix":
        return False
    network = ipaddress.ip_network(text, strict=False)
    return network.prefixlen == 0 or (network.num_addresses > _MANY_ADDRESSES and not network.is_private)
