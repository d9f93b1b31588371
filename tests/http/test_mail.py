"""Mail from a running server to a real mail server: what is sent, when, to whom, and what never is."""

import re
import time

from tests.mailbox import html_of, link_in, mailbox, text_of
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

PNG = encoded(make_image("RGB", (32, 24)), "PNG")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def confirm(server, link):
    path, _, query = link.partition("://")[2].partition("/")[2].partition("?")
    return server.request("POST", f"/{path}", query.encode(), FORM)


def test_a_mailed_link_verifies_its_account(tmp_path):
    with mailbox() as box, running(tmp_path / "data", {**UNLIMITED, **box.settings()}) as server:
        made = server.api("POST", "/v1/keys", {"email": "Ann@Example.org", "name": "Laptop"}).json()
        (letter,) = box.wait(1)
        assert box.recipients == [["ann@example.org"]]
        assert letter["To"] == "ann@example.org"
        assert letter["From"] == "imgpro@img.example"
        for text in (text_of(letter), html_of(letter)):
            assert "Laptop" in text
            assert "127.0.0.1" in text
        link = link_in(letter)
        assert link.startswith(f"{server.base}/verify?t=")
        assert link.replace("&", "&amp;") in html_of(letter)
        assert confirm(server, link).status == 200
        assert server.api("GET", "/v1/usage", key=made["key"]).json()["plan"] == "free"
        # With a mail server no link is in the log, and none is left for the operator to hand on.
        assert "verify?" not in server.log()
        assert server.operate("list")["accounts"][0]["links"] == []
        assert made["key"] not in server.log()


def test_links_in_mail_use_the_configured_address_alone(tmp_path):
    env = {**UNLIMITED, "IMGPRO_SERVER_BASE_URL": "https://img.example"}
    with mailbox() as box, running(tmp_path / "data", {**env, **box.settings()}) as server:
        server.api("POST", "/v1/keys", {"email": "ann@example.org"}, Host="evil.example")
        assert link_in(box.wait(1)[0]).startswith("https://img.example/verify?t=")


def test_a_host_header_does_not_get_into_mail(tmp_path):
    with mailbox() as box, running(tmp_path / "data", {**UNLIMITED, **box.settings()}) as server:
        assert server.api("POST", "/v1/keys", {"email": "ann@example.org"}, Host="evil.example").status == 201
        letter = box.wait(1)[0]
        assert "evil.example" not in letter.as_string()


def test_mail_waits_for_its_server_and_for_a_restart(tmp_path):
    with mailbox() as gone:
        settings = gone.settings()
    with running(tmp_path / "data", {**UNLIMITED, **settings}) as server:
        answer = server.api("POST", "/v1/keys", {"email": "ann@example.org"})
        assert answer.status == 201  # nobody waits for mail
        assert len(server.operate("list")["accounts"][0]["links"]) == 1
        server.stop(9)
        with mailbox() as box:
            server.env.update(box.settings())
            server.start()
            assert "/verify?" in link_in(box.wait(1, 60)[0])


def test_nothing_from_a_request_gets_into_headers(tmp_path):
    with mailbox() as box, running(tmp_path / "data", {**UNLIMITED, **box.settings()}) as server:
        for email in (
            "ann@example.org\r\nBcc: eve@example.org",
            "ann@example.org,eve@example.org",
            "<ann@example.org>",
        ):
            assert server.api("POST", "/v1/keys", {"email": email}).status == 422
        name = "x\r\nBcc: eve@example.org\r\n\r\nVisit https://evil.example/ now"
        assert server.api("POST", "/v1/keys", {"email": "ann@example.org", "name": name}).status == 201
        letter = box.wait(1)[0]
        assert box.recipients == [["ann@example.org"]]
        assert "Bcc" not in letter
        assert "https://evil.example" not in text_of(letter)
        assert "https://evil.example" not in html_of(letter)


def test_owner_and_operator_hear_of_upgrades(tmp_path):
    env = {**UNLIMITED, "IMGPRO_PLANS_FREE_UPLOADS": "0"}
    with mailbox() as box, running(tmp_path / "data", {**env, **box.settings()}) as server:
        setup = re.search(r"/setup\?t=(\w+)", server.log())[1]
        made = server.request("POST", "/setup", f"t={setup}&email=op@example.org".encode(), FORM)
        assert made.status == 200
        key = server.new_key("ann@example.org")
        box.wait(1)
        link = server.upload(PNG, key=key).json()["action"]["url"]
        assert confirm(server, link).status == 200
        box.wait(2)
        assert box.recipients[-1] == ["op@example.org"]
        assert "ann@example.org" in text_of(box.letters[-1])
        assert "Pro" in text_of(box.letters[-1])
        server.operate("approve", email="ann@example.org")
        box.wait(3)
        assert box.recipients[-1] == ["ann@example.org"]
        assert "Pro" in text_of(box.letters[-1])


def test_a_mail_password_shows_up_nowhere(tmp_path):
    secret = "correct horse battery"
    more = {"IMGPRO_MAIL_USERNAME": "imgpro", "IMGPRO_MAIL_PASSWORD": secret}
    with mailbox() as box, running(tmp_path / "data", {**UNLIMITED, **box.settings(**more)}) as server:
        server.api("POST", "/v1/keys", {"email": "ann@example.org"})
        deadline = time.monotonic() + 20
        while "mail" not in server.log() and time.monotonic() < deadline:
            time.sleep(0.05)  # this mail server offers no login, so the mail stays
        assert "mail" in server.log()
        assert secret not in server.log()
        assert box.letters == []
