"""Fixtures for tests in a real browser."""

import shutil
from urllib.parse import urlsplit

import pytest

from tests.browser import ARGS, LAN, WATCH, Watch
from tests.built import built_executable
from tests.servers import UNLIMITED, running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for the tests of a module that need no other settings."""
    with running(tmp_path_factory.mktemp("server") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture(scope="module")
def key(server):
    return server.new_key("ann@example.org")


@pytest.fixture
def gallery(visit, server, key):
    """What opens the gallery of the account that a module's `key` belongs to."""
    from tests.galleries import opener  # needs playwright, which not every machine has

    return opener(visit, server, key)


@pytest.fixture(scope="module")
def program():
    return built_executable()


@pytest.fixture
def place(tmp_path):
    """The folder that the executable unpacks itself into."""
    found = tmp_path / "unpack"
    found.mkdir()
    return found


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        args = [ARGS[0], *(f"--{arg}" for arg in ARGS[1:])]
        found = started.chromium.launch(executable_path=path, args=args)
        yield found
        found.close()


@pytest.fixture
def visit(browser, server):
    """Open pages; at the end of the test nothing may have gone wrong in any of them."""
    opened = []

    def open_page(script=True, width=1440, height=900, expected=(), **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=script, **options
        )
        context.set_default_timeout(15_000)
        hosts = {urlsplit(server.base).netloc, urlsplit(server.base).netloc.replace("127.0.0.1", LAN)}
        watch = Watch(context, hosts)
        watch.expected |= {str(status) for status in expected}
        opened.append(watch)
        page = context.new_page()
        if script:
            page.add_init_script(WATCH)
        return page

    yield open_page
    for watch in opened:
        watch.check()
        watch.context.close()
