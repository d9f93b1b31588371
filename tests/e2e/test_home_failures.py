"""Uploads when something goes wrong on the way: a lost line, a busy server, a change of mind."""

import time

import pytest
from playwright.sync_api import expect

from tests.e2e.uploads import choose, picture, signed_in, uploaded
from tests.peers import faulty_proxy
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    with (
        running(tmp_path_factory.mktemp("failures") / "data", UNLIMITED) as found,
        faulty_proxy(found.port) as proxy,
    ):
        found.port = proxy.port  # everybody goes through it
        yield found, proxy


@pytest.fixture(scope="module")
def server(proxied):
    return proxied[0]


@pytest.fixture
def proxy(proxied):
    proxied[1].faults.clear()
    proxied[1].uploads = 0
    return proxied[1]


@pytest.fixture
def home(visit, server):
    """A page whose uploads can be counted: they belong to an account."""
    key = server.new_key(f"ann{time.time_ns()}@example.org")
    page = visit(expected=["lost", 503])
    signed_in(page, server, key)
    page.goto(server.base)
    page.names = lambda: sorted(one["name"] for one in server.api("GET", "/v1/media", key=key).json()["data"])
    return page


def test_a_lost_connection_is_told_and_tried_again(home, proxy):
    proxy.faults += ["cut"]
    choose(home, picture("a.png", PNG))
    row = home.locator(".row[data-state=failed]")
    row.get_by_text("The connection was lost. Try again.").wait_for()
    assert "The connection was lost." in home.locator("#status").text_content()
    row.get_by_role("button", name="Retry a.png").click()
    uploaded(home)
    assert home.names() == ["a.png"]


def test_an_answer_that_was_lost_makes_no_second_picture(home, proxy):
    proxy.faults += ["swallow"]
    choose(home, picture("a.png", PNG))
    home.locator(".row[data-state=failed]").wait_for()
    assert home.names() == ["a.png"], "the server has it, and the browser does not know"
    home.get_by_role("button", name="Retry a.png").click()
    uploaded(home)
    assert proxy.uploads == 2
    assert home.names() == ["a.png"]


def test_all_that_failed_is_tried_again_with_one_button(home, proxy):
    proxy.faults += ["cut", "swallow", "cut"]
    names = [f"{number}.png" for number in range(4)]
    choose(home, *(picture(name, PNG) for name in names))
    home.get_by_text("1 of 4 done, 3 failed").wait_for()
    home.get_by_role("button", name="Retry all").click()
    home.get_by_text("4 of 4 done").wait_for()
    assert home.names() == names


def test_a_busy_server_is_waited_for(home, proxy):
    proxy.faults += [5]
    choose(home, picture("a.png", PNG), picture("b.png", PNG))
    row = home.locator(".row[data-state=waiting]")
    row.get_by_text("The server is busy. Goes on in").wait_for()
    first = row.locator(".quiet").text_content()
    expect(row.locator(".quiet")).not_to_have_text(first)  # the seconds are counted
    uploaded(home, 2)
    assert proxy.uploads == 3
    assert home.names() == ["a.png", "b.png"]


def test_nobody_has_to_wait(home, proxy):
    proxy.faults += [3000]
    choose(home, *(picture(f"{number}.png", PNG) for number in range(6)))
    home.locator(".sum", has_text="goes on in 50 min").wait_for()
    assert home.locator(".row[data-state=queued]").count() >= 3, "the others are held back too"
    home.get_by_role("button", name="Try now").click()
    uploaded(home, 6)


def test_what_is_cancelled_is_nowhere(home, proxy):
    proxy.gate.clear()
    choose(home, picture("a.png", PNG))
    home.locator(".row[data-state=preparing]").wait_for()
    home.get_by_role("button", name="Cancel a.png").click()
    home.get_by_text("Cancelled.").wait_for()
    with home.expect_response("**/v1/media/*") as answer:
        proxy.gate.set()
    assert answer.value.request.method == "DELETE"
    assert home.names() == []
    home.get_by_role("button", name="Retry a.png").click()
    uploaded(home)
    assert home.names() == ["a.png"]


def test_a_file_that_changed_meanwhile_is_told(home, proxy, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(PNG)
    proxy.faults += ["cut"]
    choose(home, file)
    home.locator(".row[data-state=failed]").wait_for()
    file.unlink()
    home.get_by_role("button", name="Retry a.png").click()
    home.locator(".row").get_by_text("The file cannot be read any more.").wait_for()
