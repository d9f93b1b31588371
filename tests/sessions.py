"""A browser that is signed in, for tests that look at what one sends and gets."""

import re
from urllib.parse import urlencode

KIND = "application/x-www-form-urlencoded"


def sign_in(server, key):
    """Return name and value of the session's cookie."""
    answer = server.request(
        "POST", "/dashboard/sign-in", urlencode({"key": key}).encode(), {"Content-Type": KIND, "Origin": server.base}
    )
    assert answer.status == 303, answer
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    return name, value


class SignedIn:
    """Sends forms as our own pages do."""

    def __init__(self, server, key):
        self.server = server
        self.cookie = "=".join(sign_in(server, key))
        page = server.get("/dashboard", Cookie=self.cookie).body.decode()
        self.csrf = re.search('<meta name="csrf" content="([^"]+)"', page)[1]

    def page(self, query=""):
        return self.server.get(f"/dashboard{query}", Cookie=self.cookie)

    def headers(self, **more):
        return {"Content-Type": KIND, "Origin": self.server.base, "Cookie": self.cookie, **more}

    def form(self, **fields):
        return urlencode({"csrf": self.csrf, **fields}).encode()

    def post(self, path, *, headers=None, **fields):
        return self.server.request("POST", path, self.form(**fields), self.headers(**(headers or {})))
