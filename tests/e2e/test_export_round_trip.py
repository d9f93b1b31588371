"""Out of one server and into a fresh one: every picture is there again as it was, and every link works."""

import contextlib
import sqlite3
import subprocess

from tests.exports import change, check, export, fill, here, index
from tests.servers import ROOT, UNLIMITED, running
from tests.terminals import IMGPRO, Person

# Of an account's picture these follow from the plan that the account has where it goes.
BY_PLAN = {"expires_ms"}


def take_back(folder, data, *args):
    command = [*IMGPRO, "import", "export", str(folder), "--data", str(data), "--add-accounts", *args]
    env = Person(folder.parent).env
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done


def test_nothing_is_lost_on_the_way(tmp_path):
    old, new, out = tmp_path / "old", tmp_path / "new", tmp_path / "out"
    with running(old, UNLIMITED) as server:
        keys = fill(server)
        anonymous = server.must_upload(
            b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "z.svg"
        )
        server.stop()
        # As if all of it had been there for long, and something had come from another host before.
        [(trigger,)] = _rows(old, "SELECT sql FROM sqlite_schema WHERE name = 'images_keep_their_facts'")
        change(old, "DROP TRIGGER images_keep_their_facts")
        change(old, "UPDATE images SET created_ms = created_ms - 86400000 * seq")
        change(old, "UPDATE image_tags SET created_ms = created_ms - 86400000 * image")
        change(old, trigger)
        change(old, "UPDATE images SET origin = 'import' WHERE name = 'paint.bmp'")
        change(old, "INSERT INTO old_links SELECT '/i/old.jpg?x=1', seq, 'o' FROM images WHERE name = 'harbour.jpg'")
        change(old, "INSERT INTO old_links SELECT '/view/' || id, seq, 'page' FROM images WHERE name = 'window.png'")
        server.start()
        images = [*_all(server, keys["ann@example.org"]), *_all(server, keys["ben@example.org"]), anonymous]
        links = {image["src"].removeprefix(server.base): server.get(image["src"]) for image in images}
        assert [answer.status for answer in links.values()].count(404) == 1  # the private one, for strangers
        export(old, out)
        check(out)
    with running(new, UNLIMITED) as server:
        told = take_back(out, new)
        again = take_back(out, new)
        assert told.stdout != again.stdout
        for path, answer in links.items():
            found = server.get(path)
            assert (found.status, found.body) == (answer.status, answer.body), path
        led = server.get("/i/old.jpg?x=1")
        assert led.status in (301, 302, 307, 308)
        assert by(out, "harbour.jpg")["id"] in led.headers["Location"]
    here(new, tmp_path / "back")
    check(tmp_path / "back")
    before, after = (sorted(index(folder)[1], key=lambda picture: picture["id"]) for folder in (out, tmp_path / "back"))
    assert [picture["id"] for picture in before] == [picture["id"] for picture in after]
    for one, other in zip(before, after, strict=True):
        left_out = BY_PLAN if one["account"] else set()
        assert {k: v for k, v in one.items() if k not in left_out} == {
            k: v for k, v in other.items() if k not in left_out
        }
        assert (out / one["file"]).read_bytes() == (tmp_path / "back" / other["file"]).read_bytes()


def by(folder, name):
    return next(picture for picture in index(folder)[1] if picture["name"] == name)


def _all(server, key):
    return server.api("GET", "/v1/media?limit=100", key=key).json()["data"]


def _rows(data, statement, *values):
    with contextlib.closing(sqlite3.connect(data / "imgpro.db")) as conn:
        return conn.execute(statement, values).fetchall()
