"""Values of settings that have the right type and still cannot work, and how an address to listen on is read.

Knows nothing of where values came from.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from imgpro.settings import Server, Settings

_BASE_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:_]+(?:/[A-Za-z0-9_~\-][A-Za-z0-9._~\-]*)*/?")
TIME_OF_DAY: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_OTHER_MACHINE = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?:/|$)")  # as rsync and NFS write it
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]")
_LONGEST_BUCKET: Final = 63
# What browsers and their scripts write themselves.
_TAKEN = frozenset(
    {"accept", "authorization", "cookie", "from", "host", "origin", "referer", "user-agent", "x-api-key"}
)


def contradictions(settings: Settings) -> Iterator[tuple[str, int | None, str]]:
    """Yield what cannot work: the setting, the number of the item where it is one of a list, and what is wrong."""
    server, plans = settings.server, settings.plans
    for name in ("base_url", "api_url", "src_url"):
        address = getattr(server, name)
        if address and not _BASE_URL.fullmatch(address):
            yield f"server.{name}", None, f'server.{name} = "{address}": must look like https://img.example.org'
        elif address and not server.base_url:
            yield f"server.{name}", None, f'server.{name} = "{address}": server.base_url is needed beside it'
    lists: list[tuple[str, tuple[str, ...], Callable[[str], Any]]] = [
        ("server.listen", server.listen, parse_listen),
        ("server.trusted_proxies", server.trusted_proxies, _network_or_unix),
        ("imports.private_networks", settings.imports.private_networks, _network),
        ("header_sign_in.proxies", settings.header_sign_in.proxies, _network_or_unix),
        ("metrics.networks", settings.metrics.networks, _network_or_unix),
        ("metrics.listen", (settings.metrics.listen,) if settings.metrics.listen else (), _without_tls),
    ]
    for name, items, check in lists:
        for number, item in enumerate(items):
            try:
                check(item)
            except ValueError as error:
                yield name, number, f'{name}: "{item}": {error}'
    if plans.upgrade == "checkout" and not plans.checkout_url.startswith(("https://", "http://")):
        name = "plans.checkout_url"
        yield name, None, f"{name}: needed for plans.upgrade = checkout, e.g. https://pay.example.org/{{plan}}"
    if plans.upgrade == "checkout" and len(plans.checkout_secret) < 16:
        name = "plans.checkout_secret"
        yield name, None, f"{name}: at least 16 characters are needed for plans.upgrade = checkout"
    for name, kept_s in (
        ("anonymous.retention_s", settings.anonymous.retention_s),
        ("plans.unverified_retention_s", plans.unverified_retention_s),
    ):
        if kept_s is not None and kept_s < 1:
            yield name, None, f"{name} = {kept_s}: must be at least 1 second, or unlimited"
    if not server.listen:
        yield "server.listen", None, "server.listen: at least one address is needed"
    if not TIME_OF_DAY.fullmatch(settings.backup.at):
        yield "backup.at", None, f'backup.at = "{settings.backup.at}": must be an hour and a minute such as 03:30'
    yield from _of_place(settings.backup.to)
    yield from _of_tls(settings)
    yield from _of_header_sign_in(settings)


def wrong_with_place(to: str) -> str | None:
    """Return what is wrong with a place for backups by its name alone, in words that follow it; None if nothing is."""
    scheme, mark, rest = to.partition("://")
    if mark and scheme == "s3":
        return _wrong_with_bucket(*rest.partition("/")[::2])
    if re.match("s3:", to, re.IGNORECASE):
        return "is no place in an object store; write s3://bucket/folder"
    if mark and _SCHEME.fullmatch(scheme):
        return "is an address that backups cannot go to; mount it and name the directory, or write s3://bucket/folder"
    if to.startswith("\\\\") or _OTHER_MACHINE.match(to):
        return "is on another machine; mount it and name the directory where it is mounted"
    if to.startswith("~") and not os.path.expanduser(to).startswith("/"):
        return "is in the home of a user that this machine does not have"
    return None


def _wrong_with_bucket(bucket: str, folder: str) -> str | None:
    if "@" in bucket:
        return None  # it may be a secret, and is refused where nothing of it is shown
    if not 3 <= len(bucket) <= _LONGEST_BUCKET:
        return f'names a bucket "{bucket}" of {len(bucket)} characters; buckets have 3 to {_LONGEST_BUCKET}'
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        return f'names a bucket "{bucket}"; buckets have letters, digits, "-" and "." between them'
    if any(part in ("", ".", "..") for part in folder.rstrip("/").split("/")) and folder.strip("/"):
        return "has an empty part, or one of dots, in its folder"
    return None


def _of_place(to: str) -> Iterator[tuple[str, int | None, str]]:
    if wrong := wrong_with_place(to):
        shown = "" if "@" in to else f' = "{to}"'  # there may be a password in it
        yield "backup.to", None, f"backup.to{shown}: {wrong}"
    elif to and not to.startswith(("/", "~", "s3://")):
        yield "backup.to", None, f'backup.to = "{to}": must be a whole path such as /mnt/nas/imgpro, or s3://bucket'


def _of_tls(settings: Settings) -> Iterator[tuple[str, int | None, str]]:
    server = settings.server
    if server.tls_key and not server.tls_cert:
        yield "server.tls_key", None, "server.tls_key: server.tls_cert is needed beside it"
    if server.tls_cert:
        return
    for number, text in enumerate(server.listen):
        if text.startswith("https://"):
            yield "server.listen", number, f'server.listen: "{text}": server.tls_cert is needed beside it'


def _of_header_sign_in(settings: Settings) -> Iterator[tuple[str, int | None, str]]:
    """A header that says who somebody is must be one that nobody else can send, and arrive under one known name."""
    section = settings.header_sign_in
    for name in ("user_header", "groups_header"):
        header = getattr(section, name)
        if header and (not _HEADER.fullmatch(header) or header.lower() in _TAKEN):
            path = f"header_sign_in.{name}"
            yield path, None, f'{path} = "{header}": must be the name of a header such as Remote-Email'
    if section.operator_group and not section.groups_header:
        name = "header_sign_in.groups_header"
        yield name, None, f"{name}: needed for header_sign_in.operator_group, e.g. Remote-Groups"
    if not section.user_header:
        return
    if not section.proxies:
        yield "header_sign_in.proxies", None, "header_sign_in.proxies: needed for header_sign_in.user_header"
    for number, text in enumerate(section.proxies):
        if text.endswith("/0"):
            what = f'header_sign_in.proxies: "{text}": is everybody, and everybody could be anybody'
            yield "header_sign_in.proxies", number, what
    if not settings.server.base_url:
        yield "server.base_url", None, "server.base_url: needed for header_sign_in.user_header"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _network_or_unix(text: str) -> None:
    if text != "unix":
        _network(text)


def _without_tls(text: str) -> None:
    if parse_listen(text).tls:
        raise ValueError("the numbers are told without TLS; must look like 127.0.0.1:9091 or unix:/path")


class Listen(msgspec.Struct, frozen=True):
    """One address to listen on. `host` is empty for all interfaces; `port` 0 lets the system choose."""

    kind: str  # "tcp", "unix" or "fd"
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    tls: bool = False

    @property
    def is_everywhere(self) -> bool:
        """Tell whether it stands for every interface of this machine."""
        return self.kind == "tcp" and self.host in ("", "0.0.0.0", "::")  # noqa: S104 - read, not bound

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can connect by TCP."""
        return self.kind == "tcp" and (self.host in ("localhost", "::1") or self.host.startswith("127."))


def parse_listen(text: str) -> Listen:
    """Read one `listen` address. Raises ValueError with the form it should have."""
    if text.startswith("unix:") and len(text) > 5:
        return Listen("unix", path=text[5:])
    if text.startswith("fd:") and text[3:].isdigit():
        return Listen("fd", fd=int(text[3:]))
    tls = text.startswith("https://")
    host, colon, port = text.removeprefix("https://").removeprefix("http://").rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError("must look like :8080, 127.0.0.1:8080, [::1]:8080, https://:8443, unix:/path or fd:3")
    return Listen("tcp", host=host[1:-1] if bracketed else host, port=int(port), tls=tls)


def as_answered(addresses: Iterable[Listen], server: Server) -> tuple[Listen, ...]:
    """Return addresses with whether each speaks TLS: where a certificate is set and none says https://, all TCP do."""
    found = tuple(addresses)
    if not server.tls_cert or any(address.tls for address in found):
        return found
    return tuple(msgspec.structs.replace(address, tls=address.kind == "tcp") for address in found)
