"""What each program is given: whole, well-formed, with the server and the key in it, whatever these are called."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from imgpro.integrations import lines, scripts, uploaders
from imgpro.integrations.programs import BY_NAME, PROGRAMS
from imgpro.integrations.target import Target, filled

KEY = "img_live_" + "k3Y" * 10 + "zz"
PLAIN = Target("http://img.lan:8080", KEY, "Pictures")
NASTY = Target("https://[fd00::1]:8443/it's/$(x)/{a|b}\\c", KEY, "O'Hara's \"pics\" `id` $HOME \n@KEY@ & <b>")
TARGETS = [PLAIN, NASTY, Target("https://img.example.org", KEY, ""), Target("http://10.0.0.2", KEY, "ärger 🖼")]


def file_of(name, target=PLAIN):
    return next(piece for piece in BY_NAME[name].pieces(target) if piece.name)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.base)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_everything_is_there(program, target):
    pieces = program.pieces(target)
    assert any(KEY in piece.content.replace("\\", "") for piece in pieces)
    steps = program.steps_for(target)
    assert len(steps) == 3
    assert all(step.endswith(".") and "{" not in step for step in steps)
    for piece in pieces:
        assert piece.content
        assert not re.search("@[A-Z]+@", piece.content.replace("@KEY@", "" if target is NASTY else "@KEY@"))
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", piece.name or "x")
        if piece.content_type.startswith("application/json"):
            json.loads(piece.content)
    names = [piece.name for piece in pieces if piece.name]
    assert len(names) == len(set(names))


def test_names_are_those_of_their_pages():
    assert all(re.fullmatch("[a-z]{1,20}", name) for name in BY_NAME)
    assert len(BY_NAME) == len(PROGRAMS) == 13


def test_a_value_that_looks_like_a_name_stays():
    assert filled("@A@ and @B@", {"A": "@B@", "B": "x"}) == "@B@ and x"


# ShareX


def test_sharex():
    piece = file_of("sharex")
    assert piece.name == "img.lan.sxcu"
    assert json.loads(piece.content) == {
        "Version": "17.0.0",
        "Name": "Pictures (img.lan:8080)",
        "DestinationType": "ImageUploader, FileUploader",
        "RequestMethod": "POST",
        "RequestURL": "http://img.lan:8080/v1/upload",
        "Headers": {"Authorization": f"Bearer {KEY}"},
        "Body": "MultipartFormData",
        "Arguments": {"tags": "sharex"},
        "FileFormName": "file",
        "URL": "{json:src}",
        "ThumbnailURL": "{json:thumb}",
        "DeletionURL": "{json:delete_url}",
        "ErrorMessage": "{json:message}",
    }


def test_sharex_syntax_in_an_address_is_text():
    config = json.loads(file_of("sharex", NASTY).content)
    assert config["RequestURL"].endswith(r"/\{a\|b\}\\c/v1/upload")
    assert re.sub(r"\\([{}|\\])", r"\1", config["RequestURL"]) == f"{NASTY.base}/v1/upload"


# PicGo, PicList, uPic, Obsidian


def test_picgo():
    config = json.loads(file_of("picgo").content)["picBed"]
    assert config["current"] == "web-uploader"
    settings = config["web-uploader"]
    assert json.loads(settings["customHeader"]) == {"Authorization": f"Bearer {KEY}"}
    assert json.loads(settings["customBody"]) == {"tags": "picgo"}
    shown = {piece.label: piece.content for piece in uploaders.picgo(PLAIN) if not piece.name}
    assert shown == settings


def test_piclist():
    config = json.loads(file_of("piclist").content)["picBed"]
    custom = config["advancedplist"]
    assert json.loads(custom["headers"]) == {"Authorization": f"Bearer {KEY}"}
    assert isinstance(custom["body"], str)
    assert (custom["formDataKey"], custom["resDataPath"]) == ("file", "src")


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("http://img.lan:8080", "http://img.lan:8080/upload"),
        ("http://img.lan", "http://img.lan:80/upload"),
        ("https://img.example.org", "https://img.example.org:443/upload"),
        ("http://10.0.0.2:8080", "http://10.0.0.2:8080/upload"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080/upload"),
        ("https://nas.lan/pictures", "https://nas.lan/pictures/upload"),
        ("http://nas.lan:81/pictures", "http://nas.lan:81/pictures/upload"),
    ],
)
def test_piclists_own_uploader_asks_the_right_address(base, address):
    """By what PicList makes of host and port."""
    own = json.loads(file_of("piclist", Target(base, KEY, "x")).content)["picBed"]["piclist"]
    host, port = own["host"], own["port"]
    scheme = "https://" if host.startswith("https://") else "http://"
    name = re.sub("https?://", "", host)
    is_ip = re.search(r"(\d+)\.(\d+)\.(\d+)\.(\d+)", host)
    made = f"{scheme}{name}:{port or '36677'}" if is_ip else f"{scheme}{name}" + (f":{port}" if port else "")
    assert f"{made}/upload" == address
    assert own["serverKey"] == KEY


def test_upic_imports_an_array_of_texts():
    (text,) = json.loads(file_of("upic").content)
    host = json.loads(text)
    assert (host["type"], host["name"]) == ("custom", "Pictures")
    assert host["id"].isdecimal()
    settings = json.loads(host["data"])
    assert {"key": "Content-Type", "value": "multipart/form-data"} in json.loads(settings["headers"])
    assert json.loads(settings["resultPath"]) == ["src"]
    assert json.loads(json.loads(file_of("upic", Target(PLAIN.base, KEY + "2", "x")).content)[0])["id"] != host["id"]


def test_addresses_with_a_key():
    upload, delete, core = uploaders.obsidian(PLAIN)
    assert upload.content == f"http://img.lan:8080/upload?key={KEY}&tags=obsidian"
    assert delete.content == f"http://img.lan:8080/delete?key={KEY}"
    assert core.content == "imgpro"
    assert parse_qs(urlsplit(lines.shortcut(PLAIN)[0].content).query) == {
        "key": [KEY],
        "link": ["src"],
        "tags": ["phone"],
    }


# Scripts


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.base)
def test_scripts_are_sound(target, tmp_path):
    checker = shutil.which("shellcheck") or shutil.which("shellcheck", path=Path(pytest.__file__).parents[4] / "bin")
    assert checker, "shellcheck is among the requirements for tests"
    made = [piece for program in PROGRAMS for piece in program.pieces(target) if piece.executable]
    assert {piece.name for piece in made} == {
        f"imgpro-{name}" for name in ("flameshot", "ksnip", "spectacle", "grim", "typora")
    }
    for piece in made:
        path = tmp_path / piece.name
        path.write_text(piece.content)
        assert piece.content.startswith("#!/bin/sh\n")
        done = subprocess.run(["sh", "-n", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        # The site's name stands in single quotes, whatever looks like a variable in it.
        done = subprocess.run([checker, "-e", "SC2016", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_words_cannot_leave_their_quotes(tmp_path):
    for piece in scripts.flameshot(NASTY)[:1]:
        head = piece.content.split("notify()")[0] + 'printf "%s\\n" "$server" "$key" "$title"\n'
        done = subprocess.run(["sh", "-c", head], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [NASTY.base, KEY, NASTY.title]
        assert done.stderr == ""
        assert "\n" not in NASTY.title


def test_a_menu_entry_runs_the_script(tmp_path):
    entry = next(piece for piece in scripts.spectacle(PLAIN) if piece.name.endswith(".desktop"))
    section, *rest = entry.content.splitlines()
    values = dict(line.split("=", 1) for line in rest)
    assert section == "[Desktop Entry]"
    assert values["Name"] == "Screenshot to img.lan:8080"
    # As the desktop reads it: first the escapes of all values, then quoting within Exec.
    plain = values["Exec"].replace("\\\\", "\\")
    program, option, quoted = re.fullmatch(r'(\S+) (\S+) "(.*)"', plain).groups()
    command = re.sub(r'\\(["`$\\])', r"\1", quoted)
    script = tmp_path / ".local/bin/imgpro-spectacle"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o700)
    done = subprocess.run(
        [program, option, command],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ran\n"


# The rest


def test_mcp_configurations():
    _, servers, code, codex = lines.mcp(PLAIN)
    wanted = {"type": "http", "url": "http://img.lan:8080/mcp", "headers": {"Authorization": f"Bearer {KEY}"}}
    assert json.loads(servers.content) == {"mcpServers": {"img-lan": wanted}}
    assert json.loads(code.content) == {"servers": {"img-lan": wanted}}
    assert tomllib.loads(codex.content)["mcp_servers"]["img-lan"]["http_headers"] == wanted["headers"]


@pytest.mark.parametrize(
    ("base", "kind", "port", "path"),
    [
        ("http://img.lan:8080", "_http._tcp", "8080", "path=/"),
        ("https://img.lan", "_https._tcp", "443", "path=/"),
        ("http://img.lan/pictures", "_http._tcp", "80", "path=/pictures/"),
    ],
)
def test_avahi(base, kind, port, path):
    piece = lines.avahi(Target(base, KEY, "Ann & Bob's <pictures>"))
    root = ElementTree.fromstring(piece.content)
    assert root.find("name").text == "Ann & Bob's <pictures> on %h"
    assert root.find("service/type").text == kind
    assert root.find("service/port").text == port
    assert root.find("service/txt-record").text == path
    assert KEY not in piece.content


@pytest.mark.parametrize("key", ['x"\nurl = "http://evil.example/', "x\\", "x y", "x'", "", "ключ"])
def test_a_key_that_would_mean_something_is_never_written_into_a_file(key):
    with pytest.raises(ValueError, match="letters"):
        Target("http://img.lan", key, "Pictures")
