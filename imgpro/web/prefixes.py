"""The path under which a proxy shows this site: taken off a request before anything else looks at it.

Whether the proxy has taken it off already does not matter, both ways are answered. Links between pages are relative and
know nothing of it; those that stand alone begin with `Clients.base_url`, which has it at its end.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from aiohttp import web
from yarl import URL

from imgpro.errors import BadRequest

PREFIX_HEADER: Final = "X-Forwarded-Prefix"
MAX_CHARS: Final = 200
PREFIX: Final = web.RequestKey("prefix", str)  # where the site is, for links and cookies
BARE: Final = web.RequestKey("bare", str)  # the prefix, where it was asked for without a slash at its end
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)

Make = Callable[[Any, Any, Any, Any, Any], web.BaseRequest]


def plain_prefix(text: str) -> str | None:
    """Return a path without the slash at its end, None for what is no plain path.

    Plain is what means the same to a browser, a proxy and a cookie: no empty part, none that begins with a dot, nothing
    encoded.
    """
    path = text.removesuffix("/")
    return path if not path or (len(path) <= MAX_CHARS and _PLAIN.fullmatch(path)) else None


def own_names(app: web.Application) -> frozenset[str]:
    """Return the names that paths of this site begin with: a prefix of such a name cannot be told from them."""
    firsts = {resource.canonical.split("/")[1] for resource in app.router.resources()}
    return frozenset(name for name in firsts if name and "{" not in name)


def unmistakable(paths: Sequence[str], own: Collection[str]) -> tuple[str, ...]:
    """Return those of several prefixes that no path of our own begins with, neither bare nor below another prefix."""

    def is_own(path: str) -> bool:
        rests = [path[len(other) :] for other in ("", *paths) if path.startswith(f"{other}/")]
        return any(rest.split("/")[1] in own for rest in rests)

    return tuple(path for path in paths if not is_own(path))


def taken_off(make: Make, paths: Sequence[str], site: str) -> Make:
    """Return a factory of requests that takes one of `paths` off, the first that fits; `site` is that of the pages."""
    known = tuple((path, f"{path}/") for path in paths)

    def make_request(message: Any, *more: Any) -> web.BaseRequest:
        bare = ""
        message = _relative(message)
        for path, folder in known:
            if message.path.startswith(folder):
                message = _without(message, path)
                break
            if message.url.raw_path == path:
                bare = path
                break
        return _noted(make(message, *more), site, bare)

    return make_request


def as_forwarded(make: Make, forwarded: Callable[[Any, Any], str], own: Collection[str]) -> Make:
    """Return a factory of requests that goes by what `forwarded` finds in the headers of a request on a transport.

    A proxy that sends its prefix has as a rule taken it off: where what is left begins like a path of our own, it has.
    """

    def make_request(message: Any, payload: Any, protocol: Any, *more: Any) -> web.BaseRequest:
        if PREFIX_HEADER not in message.headers:
            return make(message, payload, protocol, *more)
        try:
            prefix = forwarded(message.headers, protocol.transport)
        except BadRequest:
            prefix = ""  # who makes a link of it refuses the request
        if not prefix:
            return make(message, payload, protocol, *more)
        bare = ""
        message = _relative(message)
        if prefix.split("/")[1] not in own:
            if message.path.startswith(f"{prefix}/"):
                message = _without(message, prefix)
            elif message.url.raw_path == prefix:
                bare = prefix
        return _noted(make(message, payload, protocol, *more), prefix, bare)

    return make_request


def _noted(request: web.BaseRequest, prefix: str, bare: str) -> web.BaseRequest:
    if prefix:
        request[PREFIX] = prefix
    if bare:
        request[BARE] = bare
    return request


def _relative(message: Any) -> Any:
    """Return a message that names its host in its first line, as proxies are asked, like any other."""
    if message.path.startswith("/") or not message.url.absolute:
        return message
    url = message.url.relative()
    return message._replace(path=str(url), url=url)


def _without(message: Any, prefix: str) -> Any:
    url = message.url
    rest = URL.build(path=url.raw_path[len(prefix) :], query_string=url.raw_query_string, encoded=True)
    return message._replace(path=message.path[len(prefix) :], url=rest)
