"""`imgpro login` and `imgpro upload` as people, scripts and editors run them, against a real server."""

import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.between import DROP, SWALLOW, between
from tests.load import small_png
from tests.servers import UNLIMITED, running
from tests.terminals import IMGPRO, Person, at_terminal, heed_signals

DICE = random.Random(7)
BUSY = (
    b"HTTP/1.1 503 Busy\r\nContent-Length: 36\r\nRetry-After: 0\r\n\r\n" + b'{"error":"busy","message":"Occupied"}'[:36]
)
LINK = re.compile(r"http://127\.0\.0\.1:\d+/t/[A-Za-z0-9]{12}\.(png|jpeg|webp|gif)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server") / "data", UNLIMITED) as found:
        yield found


@pytest.fixture
def person(tmp_path):
    return Person(tmp_path)


@pytest.fixture
def at_home(person, server):
    """A person who has logged in without a key."""
    assert person.run("login", server.base).returncode == 0
    return person


def stored(server, key):
    """Return the names of an account's pictures, newest first."""
    return [image["name"] for image in server.api("GET", "/v1/media?limit=100", key=key).json()["data"]]


# Login


def test_a_login_is_kept_for_its_owner_only(person, server):
    key = server.new_key("ann@example.org")
    told = person.run("login", server.base, "--key", "-", input=f"{key}\n")
    assert told.returncode == 0, told.stderr
    assert "plan free, 0 of 100 uploads" in told.stdout
    assert key not in told.stdout + told.stderr
    assert stat.S_IMODE(person.login_file.stat().st_mode) == 0o600
    assert key in person.login_file.read_text()
    picture = person.picture("a.png")
    assert person.run("upload", str(picture)).returncode == 0
    assert stored(server, key) == ["a.png"]
    assert person.run("logout").returncode == 0
    assert not person.login_file.exists()
    assert person.run("upload", str(picture)).returncode == 78


def test_the_key_is_asked_for_and_not_shown(person, server):
    key = server.new_key("prompt@example.org")
    with at_terminal([*IMGPRO, "login", server.base], person.env, person.home) as terminal:
        assert terminal.read_until(lambda text: "API key" in text)
        terminal.write(f"{key}\n")
        code, out = terminal.finish()
        assert (code, "plan free" in out) == (0, True), terminal.text
        assert key not in terminal.text
    assert key in person.login_file.read_text()


def test_the_key_is_no_argument(person, server):
    told = person.run("login", server.base, "--key", "img_live_secret")
    assert told.returncode == 2
    assert not person.login_file.exists()


def test_a_key_that_may_only_upload_or_only_read(person, server):
    owner = server.new_key("owner@example.org")
    only_upload = server.api("POST", "/v1/keys", {"email": "owner@example.org", "abilities": ["upload"]}).json()
    only_read = server.api("POST", "/v1/keys", {"email": "owner@example.org", "abilities": ["read"]}).json()
    server.operate("verify", email="owner@example.org", keep=[only_upload["key_id"], only_read["key_id"]])
    told = person.run("login", server.base, input=only_upload["key"])
    assert (told.returncode, "may only upload" in told.stdout) == (0, True), told.stderr
    assert person.run("upload", str(person.picture("u.png"))).returncode == 0
    assert stored(server, owner) == ["u.png"]
    told = person.run("login", server.base, input=only_read["key"])
    assert told.returncode == 1
    assert "may not upload" in told.stderr
    assert only_upload["key"] in person.login_file.read_text(), "a login that fails changes nothing"


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("ftp://img.lan", 78, "is not the address of a server"),
        ("http://img.lan:99999", 78, "is not the address of a server"),
        ("http://ann:secret@img.lan", 78, "is not the address of a server"),
        ("http://img lan", 78, "is not the address of a server"),
        ("", 78, "is not the address of a server"),
        ("http://127.0.0.1:1", 69, "cannot be reached: Connection refused"),
        ("http://no-such-host.invalid", 69, "cannot be reached"),
    ],
)
def test_addresses_that_lead_nowhere(person, address, code, words):
    told = person.run("login", address)
    assert told.returncode == code
    assert words in told.stderr
    assert "\nTry: " in told.stderr
    assert "Traceback" not in told.stderr
    assert not person.login_file.exists()


def test_a_wrong_key_and_a_key_that_is_none(person, server):
    told = person.run("login", server.base, input="img_live_wrong\n")
    assert told.returncode == 1
    assert "The API key is not valid." in told.stderr
    assert "/dashboard/connect" in told.stderr
    assert person.run("login", server.base, input="two words\n").returncode == 78
    assert not person.login_file.exists()


def test_another_program_is_not_taken_for_imgpro(person, server):
    html = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"
    moved = b"HTTP/1.1 301 Moved\r\nLocation: https://img.example.org/v1/upload\r\nContent-Length: 0\r\n\r\n"
    with between(server.port, [html, b"nonsense\r\n\r\n", b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}', moved]) as there:
        address = f"http://127.0.0.1:{there.port}"
        for _ in range(3):
            told = person.run("login", address)
            assert told.returncode == 69, told.stderr
            assert "Traceback" not in told.stderr
        told = person.run("login", address)
        assert told.returncode == 69
        assert "imgpro login https://img.example.org\n" in told.stderr
    assert not person.login_file.exists()


def test_a_scheme_is_chosen_for_names_of_the_home_network(person, server):
    told = person.run("login", f"127.0.0.1:{server.port}")
    assert told.returncode == 0
    assert "Taking http://" in told.stderr
    told = person.run("login", "img.invalid")
    assert told.returncode == 69
    assert "https://img.invalid" in told.stderr


def test_a_stored_key_goes_to_no_other_server(person, server):
    key = server.new_key("loyal@example.org")
    assert person.run("login", server.base, input=key).returncode == 0
    picture = str(person.picture("p.png"))
    with between(server.port, []) as there:
        other = f"http://127.0.0.1:{there.port}"
        assert person.run("upload", "--server", other, picture).returncode == 0
        assert person.run("upload", picture, env={"IMGPRO_SERVER": other}).returncode == 0
        assert len(there.seen) == 2
        assert not any("authorization" in head.lower() for head in there.seen)
        assert person.run("upload", picture, env={"IMGPRO_SERVER": other, "IMGPRO_KEY": key}).returncode == 0
        assert "authorization: bearer" in there.seen[2].lower()
    assert person.run("upload", "--server", f"{server.base}/", picture).returncode == 0
    assert len(stored(server, key)) == 2


def test_a_damaged_login_file_is_told(person):
    person.login_file.parent.mkdir(parents=True)
    for content in ("server = ", 'key = "x"', 'server = "nonsense://"', "\udcff"):
        person.login_file.write_bytes(content.encode("utf-8", "surrogateescape"))
        told = person.run("upload", str(person.picture("p.png")))
        assert told.returncode == 78
        assert "client.toml" in told.stderr
        assert "Traceback" not in told.stderr


# Upload


def test_a_line_for_each_file_in_their_order(at_home, server):
    names = [f"{number}.png" for number in range(7)]
    contents = {name: small_png(DICE) for name in names}
    paths = [str(at_home.picture(name, contents[name])) for name in names]
    order = [*reversed(paths), paths[3]]
    told = at_home.run("upload", *order)
    assert (told.returncode, told.stderr) == (0, "")
    links = told.stdout.splitlines()
    assert len(links) == len(order)
    for path, link in zip(order, links, strict=True):
        assert LINK.fullmatch(link)
        assert server.get(link).body == contents[Path(path).name]


def test_real_photographs(at_home, server, photos):
    paths = sorted(path for path in photos.iterdir() if path.suffix != ".md")
    told = at_home.run("upload", "--json", *map(str, paths))
    assert told.returncode == 0, told.stderr
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    assert [answer["name"] for answer in answers] == [path.name for path in paths]
    assert all(server.get(answer["src"]).status == 200 for answer in answers)


def test_what_is_printed(person, server):
    key = server.new_key("links@example.org")
    env = {"IMGPRO_SERVER": server.base, "IMGPRO_KEY": key}
    picture = str(person.picture("pic.png"))

    def printed(*args):
        told = person.run("upload", *args, picture, env=env)
        assert told.returncode == 0, told.stderr
        return told.stdout

    assert LINK.fullmatch(printed().strip())
    assert re.fullmatch(rf"{server.base}/[A-Za-z0-9]{{12}}\n", printed("--link", "page"))
    assert re.fullmatch(rf"!\[pic\.png\]\({LINK.pattern}\)\n", printed("--link", "markdown"))
    assert re.fullmatch(rf'<img src="{LINK.pattern}" width="48" height="48" alt="">\n', printed("--link", "html"))
    assert re.fullmatch(rf"\[img\]{LINK.pattern}\[/img\]\n", printed("--link", "bbcode"))
    options = ("--tags", "Sea,sun", "--namespace", "trip", "--private", "--ttl", "7d", "--name", "other.png")
    answer = json.loads(printed("--json", *options))
    assert (answer["tags"], answer["namespace"], answer["name"]) == (["sea", "sun"], "trip", "other.png")
    assert answer["public"] is False
    assert answer["expires_at"] - answer["created_at"] == 7 * 86_400


def test_standard_input(at_home, server):
    content = small_png(DICE)
    for name in ((), ("--name", "screen shot.png")):
        told = at_home.run("upload", "-", *name, "--json", input=content, text=False)
        answer = json.loads(told.stdout)
        assert server.get(answer["src"]).body == content
        assert answer["name"] == (name[1] if name else f"{answer['id']}.png")
    told = at_home.run("upload", "-")
    assert (told.returncode, "Nothing came from standard input" in told.stderr) == (1, True)
    told = at_home.run("upload", "-", "-", input=content, text=False)
    assert told.returncode == 2
    with at_terminal([*IMGPRO, "upload", "-"], at_home.env, at_home.home) as terminal:
        assert terminal.finish() == (2, "")


@pytest.mark.parametrize(
    "name", ["Größe 日本.png", 'say "hi".png', "two\nlines.png", "100%25.png", b"bad\xff.png", " a;b .png"]
)
def test_names_arrive_as_they_are(at_home, name):
    path = os.fsencode(at_home.home) + b"/" + (name if isinstance(name, bytes) else name.encode())
    Path(os.fsdecode(path)).write_bytes(small_png(DICE))
    told = at_home.run("upload", path, "--json")
    assert told.returncode == 0, told.stderr
    wanted = name.decode("utf-8", "replace") if isinstance(name, bytes) else name.replace("\n", "").strip()
    assert json.loads(told.stdout)["name"] == wanted
    told = at_home.run("upload", path, "--link", "markdown")
    assert told.stdout.count("\n") == 1


def test_a_folder_with_recursive(at_home):
    for name in ("f/b.png", "f/a.png", "f/deep/c.png", "f/.hidden.png", "f/.git/d.png", "f/notes.txt"):
        at_home.picture(name)
    told = at_home.run("upload", "f")
    assert told.returncode == 1
    assert "--recursive" in told.stderr
    told = at_home.run("upload", "--recursive", "--json", "f")
    assert [json.loads(line)["name"] for line in told.stdout.splitlines()] == ["a.png", "b.png", "c.png"]
    (at_home.home / "empty").mkdir()
    assert at_home.run("upload", "--recursive", "empty").returncode == 1


# What fails


def test_a_missing_file_is_found_before_anything_is_sent(person, server):
    picture = person.picture("there.png")
    (person.home / "empty.png").touch()
    with between(server.port, []) as there:
        for bad in ("missing.png", "empty.png", "folder"):
            (person.home / "folder").mkdir(exist_ok=True)
            told = person.run("upload", str(picture), bad, env={"IMGPRO_SERVER": f"http://127.0.0.1:{there.port}"})
            assert told.returncode == 1
            assert told.stderr.startswith("imgpro: ")
            assert told.stdout.startswith("PicGo ERROR: ")
            assert "http" not in told.stdout
        assert there.seen == []


def as_obsidian_reads(stdout, count):
    """Return the links that its plugin pairs with files; None if it sees a failure."""
    lines = stdout.split("\n")
    found = lines[-1 - count : -1]
    return None if "PicGo ERROR" in stdout else found


def as_typora_reads(stdout, count):
    lines = stdout.strip().splitlines()[-count:]
    links = [line for line in lines if line.startswith(("http://", "https://", "file://"))]
    return links if len(links) == count else None


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_editor_never_pairs_a_wrong_link(at_home, server, at):
    files = [str(at_home.picture(f"{number}.png")) for number in range(3)]
    good = at_home.run("upload", *files)
    for reads in (as_obsidian_reads, as_typora_reads):
        assert reads(good.stdout, 3) == good.stdout.splitlines()
    files[at] = str(at_home.picture("broken.png", b"no picture at all"))
    bad = at_home.run("upload", *files)
    assert bad.returncode == 1
    assert as_obsidian_reads(bad.stdout, 3) is None
    assert as_typora_reads(bad.stdout, 3) is None
    assert "http" not in bad.stdout
    assert "broken.png: This is not a picture format" in bad.stderr
    for line in bad.stderr.splitlines():
        if "stored nonetheless" in line:
            assert server.get(LINK.search(line)[0]).status == 200
    assert bad.stderr.count("stored nonetheless") == len(LINK.findall(bad.stderr))


def test_an_editor_without_a_login_learns_of_it(person):
    told = person.run("upload", str(person.picture("a.png")))
    assert told.returncode == 78
    assert as_obsidian_reads(told.stdout, 1) is None
    assert "imgpro login" in told.stderr


def test_partial_keeps_the_places(at_home, server):
    contents = [small_png(DICE), b"no picture", small_png(DICE)]
    files = [str(at_home.picture(f"{number}.png", content)) for number, content in enumerate(contents)]
    told = at_home.run("upload", "--partial", *files)
    assert told.returncode == 1
    first, second, third = told.stdout.split("\n")[:3]
    assert second == ""
    assert server.get(first).body == contents[0]
    assert server.get(third).body == contents[2]


def test_a_file_that_is_too_large_is_told_before_all_of_it_went_out(at_home):
    picture = at_home.picture("big.png")
    with picture.open("r+b") as file:
        file.truncate(2_000_000_000)  # of which nothing lies on the disk
    told = at_home.run("upload", str(picture))
    assert told.returncode == 1
    assert "big.png: The file is larger than 20 MB." in told.stderr


def test_sending_stops_when_the_answer_is_there(person):
    picture = person.picture("big.png")
    with picture.open("r+b") as file:
        file.truncate(400_000_000)
    body = b'{"error":"file_too_large","message":"Too large."}'
    taken = [0]
    with socket.create_server(("127.0.0.1", 0)) as patient:

        def answer_at_once():
            connection, _ = patient.accept()
            taken[0] += len(connection.recv(65_536))
            connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            while more := connection.recv(1_048_576):
                taken[0] += len(more)
            connection.close()

        thread = threading.Thread(target=answer_at_once, daemon=True)
        thread.start()
        told = person.run("upload", "--server", f"http://127.0.0.1:{patient.getsockname()[1]}", str(picture))
        thread.join(10)
    assert (told.returncode, "Too large." in told.stderr) == (1, True)
    assert taken[0] < 100_000_000


def test_fields_that_are_not_valid(at_home):
    picture = str(at_home.picture("p.png"))
    told = at_home.run("upload", "--ttl", "5s", picture)
    assert (told.returncode, "at least 300 seconds" in told.stderr) == (1, True)
    told = at_home.run("upload", "--tags", "a", picture)
    assert (told.returncode, "need an API key" in told.stderr) == (1, True)
    for wrong in (["--name", "x", picture, picture], ["--existing", picture], [], ["--link", "none", picture]):
        assert at_home.run("upload", *wrong).returncode == 2, wrong


def test_no_server_is_told_soon(person):
    told = person.run("upload", "--server", "http://127.0.0.1:1", str(person.picture("p.png")))
    assert told.returncode == 69
    assert "Connection refused" in told.stderr


# Networks


def test_what_is_lost_on_the_way_is_sent_again_and_stored_once(person, server):
    key = server.new_key("again@example.org")
    env = {"IMGPRO_KEY": key}
    with between(server.port, [DROP, SWALLOW, BUSY, SWALLOW]) as there:
        address = f"http://127.0.0.1:{there.port}"
        told = person.run("upload", "--server", address, str(person.picture("once.png")), env=env)
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.count("\n") == 1
        assert len(there.seen) == 4  # the first was dropped unread
        assert len({re.search("Idempotency-Key: (.*)", head)[1] for head in there.seen}) == 1
    assert stored(server, key) == ["once.png"]
    # Another time is another picture.
    told = person.run("upload", "--server", server.base, str(person.home / "once.png"), env=env)
    assert stored(server, key) == ["once.png", "once.png"]


def test_tries_have_an_end(person, server):
    with between(server.port, [BUSY] * 50) as there:
        told = person.run("upload", "--server", f"http://127.0.0.1:{there.port}", str(person.picture("p.png")))
        assert told.returncode != 0
        assert len(there.seen) == 5


def test_a_long_wait_is_told_instead_of_waited(person, server):
    body = b'{"error":"rate_limited","message":"Too many.","action":{"type":"wait","label":"Wait","seconds":1800}}'
    limited = b"HTTP/1.1 429 No\r\nRetry-After: 1800\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with between(server.port, [limited]) as there:
        told = person.run("upload", "--server", f"http://127.0.0.1:{there.port}", str(person.picture("p.png")))
        assert told.returncode == 1
        assert "Too many." in told.stderr
        assert len(there.seen) == 1


def test_three_at_a_time(person, server):
    files = [str(person.picture(f"{number}.png")) for number in range(9)]
    with between(server.port, []) as there:
        told = person.run("upload", "--server", f"http://127.0.0.1:{there.port}", *files)
        assert told.returncode == 0, told.stderr
        assert len(there.seen) == 9
        assert 2 <= there.most_at_once <= 3


def test_below_a_path_of_another_site(person, server):
    with between(server.port, [], below="/my/pictures") as there:
        address = f"http://127.0.0.1:{there.port}/my/pictures"
        assert person.run("login", f"{address}/").returncode == 0
        told = person.run("upload", str(person.picture("p.png")))
        assert (told.returncode, told.stderr) == (0, "")
        assert there.seen[-1].startswith("POST /my/pictures/v1/upload ")
    told = person.run("login", f"{server.base}/my/pictures")
    assert told.returncode == 69
    assert "not as an imgpro server" in told.stderr
    assert address in person.login_file.read_text()


def test_over_tls(person, server, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert, both = (tmp_path / name for name in ("key.pem", "cert.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=img", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    with between(server.port, [], both) as there:
        address = f"https://127.0.0.1:{there.port}"
        told = person.run("upload", "--server", address, str(person.picture("p.png")))
        assert told.returncode == 69
        assert "certificate" in told.stderr
        assert there.seen == [], "nothing goes to a server that is not trusted"
        told = person.run("upload", "--server", address, str(person.home / "p.png"), env={"SSL_CERT_FILE": str(cert)})
        assert (told.returncode, told.stderr) == (0, "")
    told = person.run("upload", "--server", f"https://127.0.0.1:{server.port}", str(person.home / "p.png"))
    assert told.returncode == 69
    assert "does not speak TLS" in told.stderr


def test_a_proxy_of_the_environment_is_not_used(at_home):
    told = at_home.run("upload", str(at_home.picture("p.png")), env={"http_proxy": "http://127.0.0.1:1"})
    assert told.returncode == 0, told.stderr


# Terminals and desktops


def test_a_progress_bar_on_a_terminal_and_links_on_standard_output(at_home):
    files = [str(at_home.picture(f"{number}.png", small_png(DICE, 300))) for number in range(4)]
    with at_terminal([*IMGPRO, "upload", *files], at_home.env, at_home.home) as terminal:
        code, out = terminal.finish()
        assert code == 0
        assert "4 pictures" in terminal.text
        assert "100%" in terminal.text
    assert len(out.splitlines()) == 4
    assert all(LINK.fullmatch(line) for line in out.splitlines())
    with at_terminal([*IMGPRO, "upload", "--quiet", *files], at_home.env, at_home.home) as terminal:
        code, out = terminal.finish()
        assert (code, terminal.text) == (0, "")
        assert len(out.splitlines()) == 4


def test_a_failure_at_a_terminal_says_nothing_of_other_programs(at_home):
    with at_terminal([*IMGPRO, "upload", "none.png"], at_home.env, at_home.home, stdout=True) as terminal:
        code, _ = terminal.finish()
        assert code == 1
        assert "PicGo" not in terminal.text


def test_ctrl_c_ends_it_without_a_traceback(person):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [*IMGPRO, "upload", "--server", address, str(person.picture("p.png"))]
        with at_terminal(command, person.env, person.home) as terminal:
            connection, _ = silent.accept()
            connection.recv(100)
            time.sleep(0.3)
            terminal.write("\x03")
            code, out = terminal.finish(20)
            connection.close()
            assert (code, out) == (130, "")
            assert "Traceback" not in terminal.text
            assert "stopped" in terminal.text


def test_a_reader_that_goes_away_is_no_crash(at_home):
    files = [str(at_home.picture(f"{number}.png")) for number in range(3)]
    process = subprocess.Popen(
        [*IMGPRO, "upload", *files], env=at_home.env, cwd=at_home.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    words = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(30) != 0
    assert "Traceback" not in words


def program(folder, name, body):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_the_clipboard_and_a_notification(at_home):
    programs = at_home.home / "bin"
    # As the real ones do, it stays behind with our streams open.
    program(programs, "xclip", f'cat > "{at_home.home}/clip"; echo "$@" > "{at_home.home}/how"; sleep 70 &')
    program(programs, "notify-send", f'printf "%s|" "$@" > "{at_home.home}/notified"')
    env = {"PATH": f"{programs}:/usr/bin:/bin", "DISPLAY": ":9", "WAYLAND_DISPLAY": ""}
    files = [str(at_home.picture(f"{number}.png")) for number in range(2)]
    told = at_home.run("upload", "--copy", "--notify", *files, env=env)
    assert (told.returncode, told.stderr) == (0, "")
    assert (at_home.home / "clip").read_text() == told.stdout.rstrip("\n")
    assert (at_home.home / "how").read_text() == "-selection clipboard\n"
    assert told.stdout.splitlines()[0] in (at_home.home / "notified").read_text()
    told = at_home.run("upload", "--copy", *files, env={"PATH": "/nowhere", "DISPLAY": ""})
    assert told.returncode == 0
    assert "nothing was copied" in told.stderr
    assert len(told.stdout.splitlines()) == 2


def test_a_large_file_is_not_held_in_memory(at_home):
    picture = at_home.picture("large.png")
    with picture.open("r+b") as file:
        file.truncate(400_000_000)
    with socket.create_server(("127.0.0.1", 0)) as sink:
        taken = [0]

        def swallow():
            connection, _ = sink.accept()
            while more := connection.recv(1_048_576):
                taken[0] += len(more)
            connection.close()

        threading.Thread(target=swallow, daemon=True).start()
        address = f"http://127.0.0.1:{sink.getsockname()[1]}"
        process = subprocess.Popen(
            [*IMGPRO, "upload", "--server", address, str(picture)],
            env=at_home.env, cwd=at_home.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=heed_signals,
        )  # fmt: skip
        deadline = time.monotonic() + 40
        while taken[0] < 400_000_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        peak_kb = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert taken[0] >= 400_000_000
        assert peak_kb < 100_000
