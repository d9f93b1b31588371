"""The cookie of a browser that is signed in."""

import logging
from typing import Final

from aiohttp import hdrs, web

from imgpro.appliance import Appliance
from imgpro.errors import ImgproError
from imgpro.flows.keyring import LONGEST_SESSION_MS
from imgpro.model import Account, Key
from imgpro.web.clients import Clients
from imgpro.web.identity import session_cookie, session_token

log = logging.getLogger(__name__)

# The first word that stands in a User-Agent names the browser: later ones are in it for the sake of old pages.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrom", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
)
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


class SessionCookies:
    """Puts sessions on answers and takes them off."""

    def __init__(self, appliance: Appliance, clients: Clients) -> None:
        self._sessions = appliance.sessions
        self._clients = clients

    async def start(
        self, request: web.Request, response: web.Response, account: Account, key: Key | None
    ) -> web.Response:
        """Put a session on an answer, always a new one; the one that the browser had ends.

        Without one the answer is still worth having: it may show a key for the only time.
        """
        opened = self._clients.opened_at(request)
        browser, before = browser_words(request.headers.get(hdrs.USER_AGENT, "")), session_token(request)
        try:
            token = await self._sessions.start(account, key, browser=browser, instead_of=before)
        except ImgproError as problem:
            log.warning("somebody could not be signed in: %s", problem)
            return response
        response.set_cookie(
            session_cookie(request),
            token,
            path=_path(opened),
            # When it ends is ours to say: a session goes on while it is used.
            max_age=LONGEST_SESSION_MS // 1000,
            secure=opened.startswith("https:"),
            httponly=True,
            samesite="Lax",
        )
        return response

    async def end(self, request: web.Request, response: web.Response, account: Account, *, everywhere: bool) -> None:
        """End this session, or every one of the account."""
        await self._sessions.end(account, None if everywhere else session_token(request) or "")
        self.forget(request, response)

    def forget(self, request: web.Request, response: web.Response) -> None:
        """Take the cookie of a session that is over from a browser."""
        response.del_cookie(session_cookie(request), path=_path(self._clients.opened_at(request)))


def _path(opened: str) -> str:
    return "/" + opened.partition("://")[2].partition("/")[2]


def browser_words(user_agent: str) -> str:
    """Return what a browser says of itself in our words, such as `Firefox on Linux`: a hint for its owner, no more."""
    browser = next((name for word, name in _BROWSERS if word in user_agent), "A browser")
    system = next((name for word, name in _SYSTEMS if word in user_agent), "")
    return f"{browser} on {system}" if system else browser
