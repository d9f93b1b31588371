"""A browser that is signed in, as far as HTTP shows it: its cookie, and the token that its pages put into forms."""

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from tests.servers import Answer, Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class SignedIn:
    """What a browser would send after its user signed in."""

    def __init__(self, server: Server, cookie: str) -> None:
        self.server = server
        self.cookie = cookie
        page = server.get("/dashboard/account", Cookie=cookie).body.decode()
        found = re.search('<meta name="csrf" content="([^"]+)"', page)
        self.token = found[1] if found else ""

    def get(self, path: str) -> Answer:
        """Open a page."""
        return self.server.get(path, Cookie=self.cookie)

    def form(self, **fields: str) -> bytes:
        """Return the body of a form of our own; `csrf` among the fields takes the place of the token."""
        return urlencode({"csrf": self.token, **fields}).encode()

    def headers(self, **more: str) -> dict[str, str]:
        """Return what a browser sends with it."""
        return {**FORM, "Origin": self.server.base, "Cookie": self.cookie, **more}

    def post(self, path: str, *, headers: Mapping[str, str] | None = None, **fields: str) -> Answer:
        """Send a form of our own."""
        return self.server.request("POST", path, self.form(**fields), self.headers(**(headers or {})))


def cookie_of(answer: Answer) -> str:
    """Return the session that an answer starts, as a browser sends it back."""
    return answer.headers["Set-Cookie"].partition(";")[0]


def by_key(server: Server, key: str) -> SignedIn:
    """Sign in with a key."""
    body = urlencode({"key": key}).encode()
    answer = server.request("POST", "/dashboard/sign-in", body, {**FORM, "Origin": server.base})
    assert answer.status == 303, answer
    return SignedIn(server, cookie_of(answer))


def claimed(server: Server, email: str = "op@example.org") -> SignedIn:
    """Make the operator's account by the link that the server printed, and be signed in with it."""
    link = re.search(r"http://\S+/setup\?t=(\w+)", server.log())
    assert link is not None
    body = urlencode({"t": link[1], "email": email}).encode()
    return SignedIn(server, cookie_of(server.request("POST", "/setup", body, FORM)))
