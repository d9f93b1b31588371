"""What programs are given, used as they use it, against a real server: scripts run with capture programs that are
played, configurations are followed to the letter, lines are pasted into a shell."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from imgpro.integrations.programs import BY_NAME
from imgpro.integrations.proxies import PROXY_BY_NAME
from imgpro.integrations.target import Target
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, multipart, running

PNG = encoded(make_image("RGB", (64, 48)), "PNG")
NAME = "O'Hara's \"pics\" $(touch /tmp/imgpro-was-here) `x`"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

CAPTURES = {
    "flameshot": 'echo "$@" >>"$LOG"\n[ -z "$CANCEL" ] || exit 2\ncat "$PICTURE"\n',
    "spectacle": 'echo "$@" >>"$LOG"\n[ -z "$CANCEL" ] || exit 0\nfor last; do :; done\ncp "$PICTURE" "$last"\n',
    "slurp": '[ -z "$CANCEL" ] || exit 1\necho "10,20 30x40"\n',
    "grim": 'echo "$@" >>"$LOG"\n[ "$1 $2" = "-g 10,20 30x40" ] || exit 1\ncp "$PICTURE" "$3"\n',
}
TOOLS = {
    "wl-copy": 'cat >"$CLIPBOARD"\nsleep 5 &\n',  # it stays to serve the clipboard, and must hold nothing up
    "xclip": '[ "$*" = "-selection clipboard" ] && cat >"$CLIPBOARD"\n',
    "notify-send": 'printf "%s|" "$@" >>"$NOTES"\n',
    "curl": 'ps -ww -o args= >>"$SEEN" 2>/dev/null || cat /proc/[0-9]*/cmdline >>"$SEEN" 2>/dev/null\nexec /usr/bin/curl "$@"\n',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("integrations") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture(scope="module")
def whole(server):
    return server.new_key("ann@example.org")


@pytest.fixture(scope="module")
def key(server, whole):
    made = server.api("POST", "/v1/keys", {"name": "tool", "abilities": ["upload"]}, key=whole)
    return made.json()["key"]


@pytest.fixture
def target(server, key):
    return Target(server.base, key, NAME)


class Desktop:
    """A home and a PATH with capture programs that are played; `run` runs a script as the desktop would."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "it's home"
        self.tools = folder / "bin"
        self.temporary = folder / "tmp; x,y"
        for made in (self.home, self.tools, self.temporary):
            made.mkdir()
        self.picture = folder / "shot.png"
        self.picture.write_bytes(PNG)
        for name, body in {**CAPTURES, **TOOLS}.items():
            self.play(name, body)
        places = {name: str(folder / name.lower()) for name in ("LOG", "CLIPBOARD", "NOTES", "SEEN")}
        self.env = {
            **places,
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PICTURE": str(self.picture),
            "WAYLAND_DISPLAY": "wayland-0",
            "CANCEL": "",
        }

    def play(self, name, body):
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o700)

    def run(self, script, *arguments, **env):
        path = self.home / script.name
        path.write_text(script.content)
        path.chmod(0o700)
        begun = time.monotonic()
        done = subprocess.run(
            [path, *arguments],
            env={**self.env, **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert time.monotonic() - begun < 4.5, "something that stays for the clipboard held the script up"
        assert list(self.temporary.iterdir()) == []
        return done

    def said(self, name):
        path = self.folder / name.lower()
        return path.read_text() if path.exists() else ""


@pytest.fixture
def desktop(tmp_path):
    return Desktop(tmp_path)


def script(name, target):
    return next(piece for piece in BY_NAME[name].pieces(target) if piece.executable)


def latest(server, whole, **wanted):
    query = "&".join(f"{name}={value}" for name, value in wanted.items())
    return server.api("GET", f"/v1/media?limit=1&{query}", key=whole).json()["data"][0]


# Screenshot tools without uploaders of their own


@pytest.mark.parametrize("tool", ["flameshot", "spectacle", "grim"])
def test_a_screenshot_is_taken_sent_and_copied(server, whole, target, desktop, tool):
    done = desktop.run(script(tool, target))
    assert (done.returncode, done.stderr) == (0, "")
    found = latest(server, whole, tags=tool)
    assert done.stdout == f"{found['src']}\n"
    assert desktop.said("CLIPBOARD") == found["src"]
    assert desktop.said("NOTES") == f"-a|{NAME}|Link copied|{found['src']}|"
    assert re.fullmatch(r"Screenshot \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\.png", found["name"])
    assert server.get(found["src"]).status == 200
    assert not os.path.exists("/tmp/imgpro-was-here")
    wanted = {"flameshot": "gui -r", "spectacle": "-b -n -r -o ", "grim": "-g 10,20 30x40"}[tool]
    assert desktop.said("LOG").startswith(wanted)


@pytest.mark.parametrize("tool", ["flameshot", "spectacle", "grim"])
def test_cancelling_sends_nothing(server, whole, target, desktop, tool):
    before = latest(server, whole)["id"]
    done = desktop.run(script(tool, target), CANCEL="1")
    assert done.returncode == 1
    assert done.stdout == done.stderr == ""
    assert desktop.said("NOTES") == ""
    assert latest(server, whole)["id"] == before


def test_the_key_is_in_no_list_of_processes(target, desktop):
    assert desktop.run(script("flameshot", target)).returncode == 0
    seen = desktop.said("SEEN")
    assert "imgpro-flameshot" in seen
    assert target.key not in seen
    assert target.key.encode() not in seen.encode().replace(b"\0", b" ")


def test_without_wayland_and_without_a_clipboard(server, whole, target, desktop):
    assert desktop.run(script("flameshot", target), WAYLAND_DISPLAY="").returncode == 0
    assert desktop.said("CLIPBOARD") == latest(server, whole)["src"]
    for name in ("wl-copy", "xclip"):
        (desktop.tools / name).unlink()
    done = desktop.run(script("flameshot", target))
    assert done.returncode == 0
    assert desktop.said("NOTES").endswith(f"Uploaded|{latest(server, whole)['src']}|")


def test_a_picture_that_could_not_be_sent_is_kept(target, desktop):
    gone = Target("http://127.0.0.1:9", target.key, target.site_name)
    done = desktop.run(script("flameshot", gone))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("The server did not answer: curl: (7)")
    kept = re.search(r"The picture is kept as (.*\.png)\.", done.stderr)[1]
    assert Path(kept).read_bytes() == PNG
    assert "Not uploaded" in desktop.said("NOTES")


def test_the_servers_own_words_are_told(target, desktop):
    wrong = Target(target.base, "img_live_" + "x" * 32, target.site_name)
    done = desktop.run(script("grim", wrong))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The API key is not valid. The picture is kept as ")
    desktop.picture.write_bytes(b"no picture")
    done = desktop.run(script("flameshot", target))
    assert done.returncode == 1
    assert "picture" in done.stderr


def test_a_missing_program_is_named(target, desktop):
    (desktop.tools / "slurp").unlink()
    done = desktop.run(script("grim", target))
    assert (done.returncode, done.stderr) == (1, "slurp is not installed.\n")


# Programs that call a script with files


def test_ksnip_gets_a_link_and_nothing_else(server, whole, target, desktop):
    odd = desktop.folder / 'tmp;type=x, "a"\\.png'
    odd.write_bytes(PNG)
    done = desktop.run(script("ksnip", target), str(odd))
    assert (done.returncode, done.stderr) == (0, "")
    result_filter = BY_NAME["ksnip"].pieces(target)[-1].content
    assert re.findall(result_filter, done.stdout) == [latest(server, whole, tags="ksnip")["src"]]
    assert desktop.said("CLIPBOARD") == ""
    for arguments in ((), ("/nowhere.png",), ("a", "b")):
        done = desktop.run(script("ksnip", target), *arguments)
        assert done.stdout == ""
        assert done.stderr


def test_typora_gets_a_link_for_each_file_in_order(server, target, desktop):
    names = ["a b.png", "it's;c.png", '"d".png', "ä🖼.png", "-e.png"]
    for number, name in enumerate(names):
        (desktop.folder / name).write_bytes(encoded(make_image("RGB", (30 + number, 30)), "PNG"))
    done = desktop.run(
        script("typora", target), *(name if name == "-e.png" else str(desktop.folder / name) for name in names)
    )
    assert (done.returncode, done.stderr) == (0, "")
    links = done.stdout.splitlines()[-len(names) :]
    found = [server.api("GET", f"/v1/media/{urlsplit(link).path[3:15]}").json() for link in links]
    assert [one["name"] for one in found] == names
    assert [one["width"] for one in found] == [30, 31, 32, 33, 34]


def test_typora_gets_no_link_if_one_file_fails(target, desktop):
    (desktop.folder / "text.png").write_text("text")
    done = desktop.run(script("typora", target), str(desktop.picture), str(desktop.folder / "text.png"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr


# Configurations, followed as their programs follow them


def dotted(body, path):
    for step in path.split("."):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def send(server, method, address, parts, headers):
    assert address.startswith(server.base)
    body, kind = multipart(parts)
    return server.request(method, address.removeprefix(server.base), body, {**headers, "Content-Type": kind})


def test_sharex_does_what_its_file_says(server, whole, target):
    piece = BY_NAME["sharex"].pieces(target)[0]
    config = json.loads(piece.content)

    def plain(text):
        return re.sub(r"\\([{}|\\])", r"\1", text)

    arguments = [(name, None, value.encode()) for name, value in config["Arguments"].items()]
    assert config["Body"] == "MultipartFormData"
    answer = send(
        server,
        config["RequestMethod"],
        plain(config["RequestURL"]),
        [*arguments, (config["FileFormName"], "screen.png", PNG)],
        {name: plain(value) for name, value in config["Headers"].items()},
    )
    assert answer.status == 201
    made = {
        name: re.sub(r"\{json:([^}]*)\}", lambda found: dotted(answer.json(), found[1]), config[name])
        for name in ("URL", "ThumbnailURL", "DeletionURL")
    }
    assert server.get(made["URL"]).headers["Content-Type"] == "image/png"
    assert server.get(made["ThumbnailURL"]).status == 200
    assert b"<form" in server.get(made["DeletionURL"], Accept="text/html").body  # ShareX opens it in a browser
    assert server.get(made["URL"]).status == 200
    assert latest(server, whole)["tags"] == ["sharex"]
    refused = send(server, "POST", config["RequestURL"], [("file", "x.png", b"x")], config["Headers"])
    assert dotted(refused.json(), re.fullmatch(r"\{json:(.*)\}", config["ErrorMessage"])[1])


def test_picgo_does_what_its_settings_say(server, whole, target):
    settings = json.loads(BY_NAME["picgo"].pieces(target)[-1].content)["picBed"]["web-uploader"]
    headers = {"contentType": "multipart/form-data", "User-Agent": "PicGo", **json.loads(settings["customHeader"])}
    fields = [(name, None, value.encode()) for name, value in json.loads(settings["customBody"]).items()]
    answer = send(server, "POST", settings["url"], [*fields, (settings["paramName"], "a.png", PNG)], headers)
    link = dotted(answer.json(), settings["jsonPath"])
    assert (link, ["picgo"]) == (latest(server, whole)["src"], latest(server, whole)["tags"])


def test_piclist_does_what_its_settings_say(server, whole, target):
    config = json.loads(BY_NAME["piclist"].pieces(target)[-1].content)["picBed"]
    custom, own = config["advancedplist"], config["piclist"]
    headers = {"contentType": "multipart/form-data", "User-Agent": "PicList", **json.loads(custom["headers"])}
    fields = [(name, None, value.encode()) for name, value in json.loads(custom["body"]).items()]
    answer = send(
        server, custom["method"], custom["endpoint"], [(custom["formDataKey"], "a.png", PNG), *fields], headers
    )
    assert dotted(answer.json(), custom["resDataPath"]) == latest(server, whole, tags="piclist")["src"]
    address = f"http://{own['host']}:{own['port']}/upload?configName={own['configName']}&key={own['serverKey']}"
    answer = send(server, "POST", address, [("file", "b.png", PNG)], {})
    assert (answer.status, answer.json()["success"]) == (200, True)
    assert answer.json()["result"][0] == answer.json()["fullResult"][0]["imgUrl"] == latest(server, whole)["src"]


@pytest.mark.parametrize("as_json", [False, True])
def test_upic_does_what_its_file_says(server, whole, target, as_json):
    """With the type of a form it sends one; versions that took that header for none sent base64 in JSON."""
    (text,) = json.loads(BY_NAME["upic"].pieces(target)[0].content)
    settings = json.loads(json.loads(text)["data"])
    headers = {pair["key"]: pair["value"] for pair in json.loads(settings["headers"])}
    fields = {pair["key"]: pair["value"] for pair in json.loads(settings["bodys"])}
    if as_json:
        body = {**fields, settings["field"]: base64.b64encode(PNG).decode()}
        answer = server.api(settings["method"], settings["url"], body, Authorization=headers["Authorization"])
    else:
        del headers["Content-Type"]  # replaced by one with the boundary
        parts = [(settings["field"], "a.png", PNG), *((name, None, value.encode()) for name, value in fields.items())]
        answer = send(server, settings["method"], settings["url"], parts, headers)
    body = answer.json()
    for step in json.loads(settings["resultPath"]):
        body = body[step]
    assert body == latest(server, whole, tags="upic")["src"]


def test_obsidian_uploads_and_deletes_by_its_addresses(server, whole, target):
    upload, delete, _ = BY_NAME["obsidian"].pieces(target)
    parts = [("list", "C:\\vault\\a.png", PNG), ("list", "b.png", PNG)]
    body = send(server, "POST", upload.content, parts, {}).json()
    assert (body["success"], len(body["result"])) == (True, 2)
    assert {one["name"] for one in server.api("GET", "/v1/media?tags=obsidian", key=whole).json()["data"]} == {
        "a.png",
        "b.png",
    }
    assert server.api("POST", delete.content, {"list": body["fullResult"]}).json() == {"success": True}
    assert server.api("GET", "/v1/media?tags=obsidian", key=whole).json()["data"] == []


def test_a_phones_shortcut_needs_one_address(server, whole, target):
    address = BY_NAME["shortcut"].pieces(target)[0].content
    answer = send(server, "POST", address, [("file", "IMG_1.HEIC", PNG)], {})
    assert answer.body.decode().strip() == latest(server, whole, tags="phone")["src"]
    answer = server.api("POST", address, {"file": base64.b64encode(PNG).decode()})
    assert answer.body.decode().strip() == latest(server, whole, tags="phone")["src"]


def test_mcp_answers_with_the_configured_header(server, target):
    config = json.loads(BY_NAME["mcp"].pieces(target)[1].content)["mcpServers"]
    (found,) = config.values()
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = server.api("POST", found["url"], call, Accept="application/json, text/event-stream", **found["headers"])
    assert "upload" in answer.body.decode()


# Lines


def test_curl_lines_work_as_pasted(server, whole, target, tmp_path):
    line, function = (piece.content for piece in BY_NAME["curl"].pieces(target))
    (tmp_path / "shot.png").write_bytes(PNG)
    names = ["shot.png", "it's; b,c.png", 'a "quoted" \\ name.png']
    for name in names:
        (tmp_path / name).write_bytes(PNG)
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{latest(server, whole)['src']}\n"
    call = f"{function}\nimg {shlex.join(names)}"
    done = subprocess.run(["sh", "-c", call], cwd=tmp_path, capture_output=True, text=True, check=True)
    links = done.stdout.split()
    assert len(links) == 3
    assert latest(server, whole, tags="curl")["src"] == links[2]
    assert server.api("GET", f"/v1/media/{urlsplit(links[1]).path[3:15]}").json()["name"] == names[1]


def test_the_line_of_the_guide(server, tmp_path, key):
    (tmp_path / "x.png").write_bytes(PNG)
    line = f'curl -sS -F file=@x.png -H "Authorization: Bearer {key}" "{server.base}/v1/upload?link=src" -H "Accept: text/plain"'
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"{server.base}/t/\w{{12}}\.png\n", done.stdout)


# The command


def imgpro(folder, *arguments, key=None, server=None, given=""):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    env |= {name: value for name, value in (("IMGPRO_KEY", key), ("IMGPRO_SERVER", server)) if value}
    command = [sys.executable, "-m", "imgpro", "integrations", *arguments]
    env["PYTHONPATH"] = os.getcwd()
    return subprocess.run(
        command, cwd=folder, env=env, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_listing_and_showing(server, key, tmp_path):
    done = imgpro(tmp_path, "list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [*BY_NAME, *PROXY_BY_NAME, "avahi"]
    for name in BY_NAME:
        done = imgpro(tmp_path, "show", name, key=key, server=server.base)
        assert (done.returncode, done.stderr) == (0, "")
        assert key in done.stdout.replace("\\", "")
        assert done.stdout.startswith("1. ")
    done = imgpro(tmp_path, "show", "avahi", server=server.base)
    assert f"<port>{server.port}</port>" in done.stdout
    done = imgpro(tmp_path, "show", "sharex", server=server.base)
    assert "YOUR_KEY" in done.stdout
    assert "no key is known" in done.stderr
    done = imgpro(tmp_path, "show", "nothing", server=server.base)
    assert done.returncode == 78
    assert "imgpro integrations list" in done.stderr


def test_what_is_written_holds_a_key_that_can_only_upload(server, whole, tmp_path, desktop):
    done = imgpro(tmp_path, "write", "flameshot", "--to", "tools/", key=whole, server=server.base)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "tools/imgpro-flameshot"
    assert done.stdout == "tools/imgpro-flameshot\n"
    assert done.stderr.startswith("1. ")
    assert path.stat().st_mode & 0o777 == 0o700
    text = path.read_text()
    assert whole not in text
    made = re.search(r"img_live_\w{32}", text)[0]
    assert server.api("GET", "/v1/media", key=made).status == 403
    keys = server.api("GET", "/v1/keys", key=whole).json()["data"]
    assert ("Flameshot", ["upload"]) in [(one["name"], one["abilities"]) for one in keys]
    assert subprocess.run([path], env=desktop.env, capture_output=True, check=True).stdout.startswith(b"http")

    count = len(keys)
    again = imgpro(tmp_path, "write", "flameshot", "--to", "tools/", key=whole, server=server.base)
    assert again.returncode == 78
    assert "is there already" in again.stderr
    assert len(server.api("GET", "/v1/keys", key=whole).json()["data"]) == count
    assert (
        imgpro(tmp_path, "write", "flameshot", "--to", "tools/", "--force", key=whole, server=server.base).returncode
        == 0
    )


def test_writing_with_a_key_that_makes_none(server, key, tmp_path):
    done = imgpro(tmp_path, "write", "sharex", "--key", "-", "--server", server.base, given=f"{key}\n")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "127.0.0.1.sxcu"
    assert json.loads(path.read_text())["Headers"]["Authorization"] == f"Bearer {key}"
    assert path.stat().st_mode & 0o777 == 0o600
    done = imgpro(tmp_path, "write", "sharex", "--to", "-", key=key, server=server.base)
    assert json.loads(done.stdout)["FileFormName"] == "file"
    both = imgpro(tmp_path, "write", "spectacle", "--to", str(tmp_path / "mine"), key=key, server=server.base)
    assert both.stdout.splitlines() == [str(tmp_path / "mine"), str(tmp_path / "imgpro-spectacle.desktop")]


def test_writing_what_cannot_be(server, key, tmp_path):
    for arguments, words in (
        (("write", "curl"), "needs no file"),
        (("write", "nothing"), "There is no program"),
        (("write", "sharex", "--to", "/proc/x/y"), "cannot be written"),
        (("write", "sharex", "--key", key), "others can see arguments"),
    ):
        done = imgpro(tmp_path, *arguments, key=key, server=server.base)
        assert done.returncode != 0
        assert words in done.stderr
    done = imgpro(tmp_path, "write", "sharex", server=server.base)
    assert "No key for" in done.stderr
    wrong = imgpro(tmp_path, "write", "sharex", key="img_live_" + "x" * 32, server=server.base)
    assert wrong.returncode != 0
    assert "The API key is not valid." in wrong.stderr
    assert list(tmp_path.glob("*.sxcu")) == []
