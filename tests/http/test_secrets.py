"""No secret in any log, and none in the data but as a hash: after a tour through everything that hands one out."""

import json
import re

from tests.mailbox import link_in, mailbox
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, bearer, multipart, running

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def split(link):
    return "/" + link.partition("://")[2].partition("/")[2].partition("?")[0], link.partition("?")[2]


def ticket_of(server, key):
    """Return a one-use upload ticket, made the way an agent makes one."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "create_upload", "arguments": {}}}
    headers = {
        **bearer(key),
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
    }
    answer = server.request("POST", "/mcp", json.dumps(call).encode(), headers).json()
    return re.search(r"ticket=(\w+)", answer["result"]["structuredContent"]["upload_url"])[1]


def test_a_tour_leaves_no_secret_behind(tmp_path):
    secrets = {}
    env = {**UNLIMITED, "IMGPRO_LOG_LEVEL": "debug", "IMGPRO_PLANS_FREE_UPLOADS": "3"}
    with mailbox() as box, running(tmp_path / "data", {**env, **box.settings()}) as server:
        banner = server.log()
        setup = re.search(r"/setup\?t=(\w+)", banner)[1]
        page = server.request("POST", "/setup", f"t={setup}&email=op@example.org".encode(), FORM)
        secrets["operator key"] = re.search(rb"img_live_\w{32}", page.body)[0].decode()
        secrets["session"] = page.headers["Set-Cookie"].partition("=")[2].partition(";")[0]

        made = server.api("POST", "/v1/keys", {"email": "ann@example.org"}).json()
        key = secrets["key"] = made["key"]
        path, query = split(link_in(box.wait(1)[0]))
        secrets["mailed token"] = re.search(r"t=(\w+)", query)[1]
        secrets["mailed signature"] = re.search(r"sig=([\w-]+)", query)[1]
        assert server.get(f"{path}?{query}").status == 200
        assert server.get(f"{path}?{query}x").status == 404
        assert server.request("POST", path, query.encode(), FORM).status == 200

        found = server.must_upload(PNG, key=key, public="false")
        secrets["view signature"] = found["signed_src"].partition("sig=")[2]
        secrets["delete token"] = found["delete_url"].partition("token=")[2]
        assert server.get(found["signed_src"]).status == 200
        ticket = secrets["ticket"] = ticket_of(server, key)
        content, kind = multipart([("file", "a.png", PNG)])
        assert server.request("POST", f"/v1/upload?ticket={ticket}", content, {"Content-Type": kind}).status == 201
        assert server.request("POST", f"/v1/upload?ticket={ticket}", content, {"Content-Type": kind}).status == 404

        server.must_upload(PNG, key=key)
        upgrade = server.upload(PNG, key=key).json()["action"]["url"]
        path, query = split(upgrade)
        secrets["upgrade signature"] = re.search(r"sig=([\w-]+)", query)[1]
        assert server.get(f"{path}?{query}").status == 200
        invitation = secrets["invitation"] = server.operate("invite")["invitation"]
        assert server.get(f"/join?t={invitation}").status == 200
        wrong = secrets["wrong key"] = "img_live_" + "w" * 32
        assert server.api("GET", "/v1/usage", key=wrong).status == 401
        assert server.request("GET", f"/v1/usage?key={wrong}").status == 401
        bad = secrets["malformed body"] = "img_live_" + "b" * 32
        assert server.request("POST", "/v1/keys", f'{{"email": "{bad}'.encode(), {}).status == 400
        assert (
            server.request("GET", "/dashboard", headers={"Cookie": f"imgpro_session={secrets['session']}"}).status
            == 200
        )
        assert server.get(found["delete_url"]).status == 200
        log = server.log()[len(banner) :]
        assert server.stop() == 0
        log += server.log()[len(banner) :]
        secrets["set-up token"] = setup
        for name, secret in secrets.items():
            assert secret not in log, name
        assert "token=" not in log
        assert "sig=" not in log
        for path in server.data.rglob("*"):
            if path.is_file() and path.name != "secret.key":
                content = path.read_bytes()
                for name in ("operator key", "key", "session", "mailed token", "ticket", "invitation", "set-up token"):
                    assert secrets[name].encode() not in content, (name, path)
        assert (server.data / "secret.key").stat().st_mode & 0o777 == 0o600
