"""A real browser and a look-out: what it complained about, and where it went besides our server."""

import contextlib
from urllib.parse import urlsplit

LAN = "imgpro.lan"  # resolves to this machine in the browser only: plain http there is not a secure context
ARGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    f"--disable-component-update --disable-sync --host-resolver-rules=MAP {LAN} 127.0.0.1"
).split(" --")
WATCH = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""
STATUS_NOISE = "Failed to load resource: the server responded with a status of "


class Watch:
    """What went wrong in a browser context, besides the statuses that a test expects."""

    def __init__(self, context, hosts):
        self.context = context
        self.hosts = hosts
        self.troubles = []
        self.expected = set()
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.troubles.append(f"uncaught: {error.error}"))

    def _request(self, request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc not in self.hosts:
            self.troubles.append(f"foreign request: {request.url}")

    def _console(self, message):
        status = message.text.removeprefix(STATUS_NOISE)[:3]
        if message.type in ("error", "warning") and not (status != message.text[:3] and status in self.expected):
            self.troubles.append(f"console: {message.text}")

    def check(self):
        for page in self.context.pages:
            with contextlib.suppress(Exception):  # without script there is no list
                self.troubles += [f"policy: {text}" for text in page.evaluate("window.violations ?? []")]
        assert self.troubles == []
