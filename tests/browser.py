"""A real browser and a look-out: what it complained about, and where it went besides our server."""

import contextlib
import time
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
    """What went wrong in a browser context, besides the statuses (or "lost" connections) that a test expects."""

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
        if status == message.text[:3]:
            status = "lost" if message.text.startswith("Failed to load resource: net::ERR_") else ""
        if message.type in ("error", "warning") and status not in self.expected:
            self.troubles.append(f"console: {message.text}")

    def check(self):
        for page in self.context.pages:
            with contextlib.suppress(Exception):  # without script there is no list
                self.troubles += [f"policy: {text}" for text in page.evaluate("window.violations ?? []")]
        assert self.troubles == [], self.troubles


def until(page, expression, *more):
    """Wait until a JavaScript expression holds. Playwright's own way needs `eval`, which our pages forbid."""
    deadline = time.monotonic() + 15
    while not page.evaluate(expression, *more):
        assert time.monotonic() < deadline, f"never came true: {expression}"
        page.wait_for_timeout(20)
