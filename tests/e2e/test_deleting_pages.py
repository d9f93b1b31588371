"""Rules that delete, and accounts that are deleted, in a real browser: what a person sees before it is done, and after."""

import re

import pytest

from tests import axe
from tests.browser import until
from tests.clocks import Clock, clock_library
from tests.e2e.test_operator_page import account_page, no_overflow
from tests.patience import wait_until
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running
from tests.signed_in import by_key, claimed

pytestmark = pytest.mark.browser

HOUR_S = 3_600
PHONE, LAPTOP = (390, 844), (1440, 900)
ENV = {**UNLIMITED, "IMGPRO_PLANS_UNLIMITED": "true", "IMGPRO_IMAGING_WORKERS": "1", "IMGPRO_BACKUP_DAILY": "false"}
PNG = encoded(make_image("RGB", (64, 48)), "PNG")


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    return Clock(folder, clock_library(folder))


@pytest.fixture(scope="module")
def server(tmp_path_factory, clock):
    """One server for all: the test that lets time pass comes last."""
    with running(tmp_path_factory.mktemp("server") / "data", {**ENV, **clock.environment()}) as found:
        claimed(found)
        yield found
        assert "Traceback" not in found.log()


def sign_in(page, server, email):
    page.goto(server.operate("sign-in-link", email=email)["link"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile("/dashboard"))


def operate(page, server):
    sign_in(page, server, "op@example.org")
    page.get_by_role("link", name="Operator", exact=True).click()


def seen(page, place):
    """See that a page has no fault that keeps anybody from using it."""
    assert no_overflow(page), place
    assert axe.serious(page) == [], place


def rehearse(page, days="1"):
    page.get_by_role("link", name="Retention", exact=True).click()
    page.get_by_label("Older than (days)").fill(days)
    page.get_by_label("In the namespace").fill("drafts")
    page.get_by_role("button", name="Rehearse").click()


def make_rule(page, name):
    page.get_by_label("Name of the rule").fill(name)
    page.get_by_role("button", name="Make the rule").click()


def press(page, label, role="button"):
    """Come to something by the tab key alone, and press it."""
    wanted = page.get_by_role(role, name=label, exact=True)
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted.evaluate("(one) => one === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"the keyboard does not come to {label}")


def tab_to(page, label):
    wanted = page.get_by_label(label)
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError(f"the keyboard does not come to {label}")


def test_a_rule_by_the_keyboard_alone(visit, server):
    page = visit()
    operate(page, server)
    press(page, "Retention", "link")
    page.get_by_role("heading", name="A new rule").wait_for()
    tab_to(page, "Older than (days)")
    page.keyboard.type("30")
    press(page, "Rehearse")
    page.get_by_text("This rule would delete 0 pictures now").wait_for()
    tab_to(page, "Name of the rule")
    page.keyboard.type("monthly")
    press(page, "Make the rule")
    page.get_by_text("The rule is made.").wait_for()
    press(page, "Remove monthly")
    page.get_by_text("There are no rules").wait_for()


@pytest.mark.parametrize(("script", "size"), [(True, PHONE), (False, LAPTOP)], ids=["phone", "laptop"])
def test_somebody_deletes_their_own_account(visit, server, script, size):
    key = server.new_key("ann@example.org")
    picture = server.must_upload(PNG, "mine.png", key=key)
    page = visit(script=script, width=size[0], height=size[1], expected=(422,))
    sign_in(page, server, "ann@example.org")
    page.goto(f"{server.base}/dashboard/account")
    page.get_by_role("button", name="Delete my account").click()
    page.get_by_role("heading", name="Delete your account?").wait_for()
    if script:
        seen(page, "asked")
    page.get_by_role("button" if script else "link", name="Cancel").click()
    page.get_by_role("button", name="Delete my account").click()
    typed = page.get_by_label("To go on, type ann@example.org")
    sure = page.get_by_role("button", name="Delete my account").last
    if script:
        assert sure.is_disabled()
    else:
        typed.fill("bob@example.org")
        sure.click()
        page.get_by_role("alert").get_by_text("That is not ann@example.org.").wait_for()
    assert server.get(picture["src"]).status == 200
    typed.fill("ann@example.org")
    sure.click()
    page.get_by_role("heading", name="Your account is deleted").wait_for()
    if script:
        seen(page, "left")
    wait_until(lambda: server.get(picture["src"]).status == 404)
    assert server.api("GET", "/v1/usage", key=key).status == 401
    page.goto(f"{server.base}/dashboard/account")
    page.get_by_role("button", name="Sign in").first.wait_for()


def test_the_operator_deletes_an_account(visit, server):
    key = server.new_key("ann@example.org")
    picture = server.must_upload(PNG, "mine.png", key=key)
    theirs = by_key(server, key)
    page = visit(width=LAPTOP[0], height=LAPTOP[1])
    operate(page, server)
    account_page(page, server, "ann@example.org")
    page.get_by_role("button", name="Delete the account").click()
    seen(page, "asked")
    page.get_by_label("To go on, type ann@example.org").fill("ann@example.org")
    page.get_by_role("button", name="Delete the account").last.click()
    page.get_by_text(re.compile("account is deleted", re.IGNORECASE)).first.wait_for()
    seen(page, "overview")
    wait_until(lambda: server.get(picture["src"]).status == 404)
    assert theirs.get("/dashboard/account").status in (303, 401)
    page.get_by_role("link", name="Accounts", exact=True).click()
    wait_until(lambda: page.reload() and page.get_by_text("ann@example.org").count() == 0)


def test_a_rule_is_rehearsed_made_stops_by_itself_and_goes_on(visit, server, clock):
    key = server.new_key("ann@example.org")
    drafts = [
        server.must_upload(PNG, f"draft {number}.png", key=key, namespace="drafts", public=str(number != 1).lower())
        for number in range(3)
    ]
    kept = server.must_upload(PNG, "kept.png", key=key)
    page = visit(width=PHONE[0], height=PHONE[1], expected=(422,))
    operate(page, server)
    clock.let_pass(server, 30 * HOUR_S)
    rehearse(page)
    page.get_by_text("This rule would delete 3 pictures now").wait_for()
    until(page, "[...document.querySelectorAll('.tiles img')].filter((one) => one.naturalWidth > 0).length === 2")
    assert page.get_by_text("Private", exact=True).count() == 1
    assert page.get_by_text("kept.png").count() == 0
    seen(page, "rehearsal")
    make_rule(page, "old drafts")
    page.get_by_text("The rule is made.").wait_for()
    assert page.get_by_text(re.compile("older than 1 day in the namespace drafts")).is_visible()
    seen(page, "rules")

    # Another rehearsal is left open, and far more pictures come.
    stale = page.context.new_page()
    stale.goto(f"{server.base}/operator")
    rehearse(stale)
    stale.get_by_text("This rule would delete 3 pictures now").wait_for()
    drafts += [server.must_upload(PNG, f"more {number}.png", key=key, namespace="drafts") for number in range(110)]
    clock.let_pass(server, 60 * HOUR_S)
    wait_until(lambda: page.reload() and page.get_by_text("waits for you", exact=True).count())
    assert server.get(drafts[0]["src"]).status == 200
    seen(page, "a rule that waits")
    make_rule(stale, "stale")
    stale.get_by_role("alert").get_by_text("would delete 113 pictures now; it was 3 when you looked").wait_for()
    seen(stale, "refused")
    page.reload()
    assert page.get_by_text("stale").count() == 0

    page.get_by_role("link", name="Look at what old drafts would delete now").click()
    page.get_by_text("when you looked at it last it matched 3.").wait_for()
    page.get_by_role("link", name="More pictures").click()
    assert page.locator(".tiles li").count() == 53
    seen(page, "more pictures")
    page.go_back()
    page.get_by_role("button", name="Let it delete them").click()
    page.get_by_text("The rule goes on.").wait_for()
    clock.let_pass(server, 62 * HOUR_S)
    wait_until(lambda: server.get(drafts[-1]["src"]).status == 404)
    wait_until(lambda: server.get(drafts[0]["src"]).status == 404)
    assert server.get(kept["src"]).status == 200
    page.get_by_role("button", name="Remove old drafts").click()
    page.get_by_text("There are no rules").wait_for()
